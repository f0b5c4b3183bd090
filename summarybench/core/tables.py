"""TOML tables that ship with the package, read into dataclasses and checked."""

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

TOML_NAMES: Mapping[Any, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    frozenset: "a list",
    Mapping: "a table",
}
"""How an author of a TOML file knows the types of Python."""


def read_table(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises InputError if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{shown(path)}: cannot be read as TOML ({error})") from error


def shown(path: Path) -> str:
    """The path for messages, such as summarybench/catalogue/models.toml."""
    return str(path.relative_to(PACKAGE.parent)) if path.is_relative_to(PACKAGE) else str(path)


def entry_of(kind: type[Entry], values: object, where: str, *, ignored: Collection[str] = ()) -> Entry:
    """Build a dataclass from a table whose keys are its field names.

    Lists become tuples or frozensets.

    `where` names the file and the entry in messages. Keys in `ignored` need not be fields. Raises InputError for an
    unknown key, a missing key, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: must be a table of keys and values, not {values!r}")
    known = {each.name: each for each in fields(kind)}
    if unknown := sorted(values.keys() - known.keys() - set(ignored)):
        raise InputError(
            f"{where}: unknown key {unknown[0]!r} (with the value {values[unknown[0]]!r}); use one of {', '.join(known)}"
        )
    needed = (name for name, each in known.items() if each.default is each.default_factory is MISSING)
    hints = get_type_hints(kind)
    if missing := [name for name in needed if name not in values]:
        raise InputError(f"{where}: the key {missing[0]!r} is missing; set it to {_named(hints[missing[0]])}")
    return kind(
        **{name: _converted(value, hints[name], f"{where}: {name}") for name, value in values.items() if name in known}
    )


def _converted(value: Any, hint: Any, where: str) -> Any:
    """Convert the value to the field's type. Raises InputError if it has another type."""
    for each in _alternatives(hint):
        origin = get_origin(each) or each
        if origin in (tuple, frozenset) and isinstance(value, list):
            return origin(_converted(element, get_args(each)[0], where) for element in value)
        if _is_of(value, origin):
            return float(value) if each is float else value
    raise InputError(f"{where}: {value!r} must be {_named(hint)}")


def _alternatives(hint: Any) -> list[Any]:
    """The types of a union without None, which TOML cannot express."""
    return [each for each in get_args(hint) if each is not type(None)] if isinstance(hint, UnionType) else [hint]


def _named(hint: Any) -> str:
    """The type in the words of TOML: 'a number', 'a list'."""
    origins = [get_origin(each) or each for each in _alternatives(hint)]
    return " or ".join(TOML_NAMES.get(origin, getattr(origin, "__name__", str(origin))) for origin in origins)


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if kind is float else kind)
