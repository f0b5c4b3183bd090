"""How the keys of a run file are declared: type, unit, meaning and allowed values in one place.

A record of the run file is a TypedDict whose fields carry a `Key`: `seconds: Annotated[float, Key("…", unit="s")]`. Type
checkers read the type, the reader of run files checks type and range, and docs/reference/run-file.md shows all of it.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

from summarybench.core.strict_json import LARGEST_NUMBER

SMALLEST_POSITIVE = 1e-9
"""Shorter times and lower rates cannot be measured. Dividing by smaller numbers would overflow."""


@dataclass(frozen=True, slots=True)
class Key:
    """The declaration of one key: one phrase that defines it, its unit, and the values that it may have.

    The limits hold for each number or string inside lists and mappings. `at_least` is None for quantities that can be
    negative. `length` is the number of items that a list must have. `is_name` is for strings that become a part of a path.
    """

    meaning: str
    unit: str = ""
    at_least: float | None = 0
    at_most: float = LARGEST_NUMBER
    may_be_empty: bool = True
    choices: type[StrEnum] | None = None
    length: int | None = None
    is_name: bool = False

    @property
    def lowest(self) -> float:
        return -LARGEST_NUMBER if self.at_least is None else self.at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredKey:
    """One key of a record, as its TypedDict declares it. `type` is without the wrappers of `typing`."""

    name: str
    type: Any
    is_required: bool
    key: Key


@cache
def declared_keys(record: type) -> tuple[DeclaredKey, ...]:
    """The keys of a TypedDict in the order of their declaration. Raises TypeError for a field without a `Key`."""
    return tuple(_declared(record, name, hint) for name, hint in get_type_hints(record, include_extras=True).items())


def _declared(record: type, name: str, hint: Any) -> DeclaredKey:
    is_required = True
    while (wrapper := get_origin(hint)) in (NotRequired, Required):
        is_required = wrapper is Required
        (hint,) = get_args(hint)
    if get_origin(hint) is not Annotated:
        raise TypeError(f"{record.__name__}.{name} has no Key: declare it as Annotated[TYPE, Key(MEANING)]")
    type_, key = get_args(hint)
    return DeclaredKey(name=name, type=type_, is_required=is_required, key=key)


def is_record(type_: Any) -> bool:
    """Whether a type is a record with declared keys."""
    return is_typeddict(type_)


def is_union(type_: Any) -> bool:
    return get_origin(type_) in (types.UnionType, Union)


def records_in(type_: Any) -> Iterator[type]:
    """The records inside a type: in unions, lists and mappings, and itself."""
    if is_record(type_):
        yield type_
    for inner in get_args(type_):
        yield from records_in(inner)


def type_words(type_: Any) -> str:
    """A type in words for the reference page, such as `list of integer` or `string or null`."""
    if is_record(type_):
        return f"[{type_.__name__}](#{type_.__name__.lower()})"
    if is_union(type_):
        return " or ".join(type_words(each) for each in get_args(type_))
    if get_origin(type_) is list:
        return f"list of {type_words(get_args(type_)[0])}"
    if get_origin(type_) is dict:
        return f"object of {type_words(get_args(type_)[1])}"
    return {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}.get(type_, "any")
