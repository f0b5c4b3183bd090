"""TOML tables that ship with the package, read into dataclasses and checked on the way."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from summarybench.core.outcomes import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Entry = TypeVar("Entry", bound="DataclassInstance")

PACKAGE = Path(__file__).parents[1]


def read_table(path: Path) -> dict[str, Any]:
    """The file's content. Raises InputError where it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(path)}: cannot be read as TOML ({error})") from error


def shown(path: Path) -> str:
    """The path as a contributor knows it: summarybench/catalogue/models.toml."""
    return str(path.relative_to(PACKAGE.parent)) if path.is_relative_to(PACKAGE) else str(path)


def entry_of(kind: type[Entry], values: object, where: str, *, ignored: Collection[str] = ()) -> Entry:
    """A dataclass from a table whose keys are the names of its fields; lists become tuples or frozensets.

    `where` names the file and the entry. Keys in `ignored` need not be fields. Raises InputError for an unknown key, a
    missing one and a value of another type.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: must be a table of keys and values, not {values!r}")
    known = {each.name: each for each in fields(kind)}
    if unknown := sorted(values.keys() - known.keys() - set(ignored)):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    needed = (name for name, each in known.items() if each.default is each.default_factory is MISSING)
    if missing := [name for name in needed if name not in values]:
        raise InputError(f"{where}: {missing[0]!r} is missing")
    hints = get_type_hints(kind)
    return kind(
        **{name: _converted(value, hints[name], f"{where}: {name}") for name, value in values.items() if name in known}
    )


def _converted(value: Any, hint: Any, where: str) -> Any:
    """The value as the field's type has it. Raises InputError where it is of another type."""
    allowed = [each for each in get_args(hint) if each is not type(None)] if isinstance(hint, UnionType) else [hint]
    for each in allowed:
        origin = get_origin(each) or each
        if origin in (tuple, frozenset) and isinstance(value, list):
            return origin(_converted(element, get_args(each)[0], where) for element in value)
        if _is_of(value, origin):
            return float(value) if each is float else value
    names = " or ".join(getattr(each, "__name__", str(each)) for each in allowed)
    raise InputError(f"{where}: {value!r} must be of type {names}")


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)
