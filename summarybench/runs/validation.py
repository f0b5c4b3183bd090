"""Check records against the schema, so that no reader meets a missing key, a wrong type or an impossible number.

The types and limits are those that schema.py declares; msgspec checks them. What must agree between the keys of an experiment
is in agreement.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, Union, get_args, get_origin

import msgspec

from summarybench.core.names import NAME_PATTERN, RULE, check_within
from summarybench.core.numbers import counted, trimmed
from summarybench.core.strict_json import InvalidValueError, check_values, inside, parse_json, shortened
from summarybench.runs.agreement import check_agreement
from summarybench.runs.declared_keys import Key, declared_keys, is_record, is_union
from summarybench.runs.schema import SCHEMA, Run


class _ExperimentShape(TypedDict):
    schema: Annotated[Any, Key("version")]
    document_ids: Annotated[list[str], Key("ids", may_be_empty=False)]


class _BenchmarkShape(TypedDict):
    name: Annotated[str, Key("name", may_be_empty=False)]
    extra_info: Annotated[_ExperimentShape, Key("facts")]


class _RunShape(TypedDict):
    benchmarks: Annotated[list[_BenchmarkShape], Key("experiments")]


def check_shape(run: Any) -> None:
    """Check what the migration relies on: objects, names, document ids, sane numbers and the schema's version.

    Raises InvalidValueError.
    """
    check_record(run, _RunShape, "")
    for number, benchmark in enumerate(run["benchmarks"]):
        if (found := benchmark["extra_info"]["schema"]) != SCHEMA:
            where = f"benchmarks[{number}].extra_info.schema"
            raise InvalidValueError(f"{where} is {shortened(found)}, and this version reads {SCHEMA}")


def check_run(run: Mapping[str, Any]) -> None:
    """Check a migrated run: types and limits of all declared keys, and what must agree between them.

    Keys that are not declared are ignored, but no number may be infinite or undefined. Raises InvalidValueError.
    """
    check_record(run, Run, "")
    _check_unique([each["name"] for each in run["benchmarks"]], "benchmarks", "measures")
    _check_unique([each["nodeid"] for each in run["outcomes"]], "outcomes", "has an outcome for")
    for number, benchmark in enumerate(run["benchmarks"]):
        check_agreement(benchmark, f"benchmarks[{number}]")


def read_record(path: Path, type_: Any) -> Any:
    """The record in a JSON file of a device's folder.

    Raises OSError, InvalidValueError if it does not fit its TypedDict, and InputError for a link that leads elsewhere.
    """
    check_within(path, path.parent.parent)
    found = parse_json(path.read_bytes())
    check_record(found, type_, "")
    return found


def check_record(record: Any, type_: Any, where: str) -> None:
    """Check one record against its TypedDict. `where` begins the messages. Raises InvalidValueError."""
    check_values(record, where)
    try:
        msgspec.convert(record, _checked(type_, Key("")))
    except msgspec.ValidationError as error:
        raise InvalidValueError(_explained(str(error), _Place(record, type_, Key(""), where))) from None


def _check_unique(names: Sequence[str], where: str, what: str) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            raise InvalidValueError(f"{where}[{number}] {what} {shortened(name)}, and an earlier one does too")
        seen.add(name)


# Declarations as msgspec's types -------------------------------------------------------------------------------------


def _checked(type_: Any, key: Key) -> Any:
    """The declared type with the limits of its Key, as msgspec reads them."""
    if is_record(type_):
        return _checked_record(type_)
    if is_union(type_):
        return Union[tuple(_checked(each, key) for each in get_args(type_))]  # noqa: UP007  (made at run time)
    if get_origin(type_) is list:
        return _limited(list[_checked(get_args(type_)[0], key)], min_length=key.length, max_length=key.length)  # type: ignore[misc]
    if get_origin(type_) is dict:
        return dict[str, _checked(get_args(type_)[1], key)]  # type: ignore[misc]
    return _checked_scalar(type_, key)


@cache
def _checked_record(record: type) -> Any:
    fields = {each.name: _checked(each.type, each.key) for each in declared_keys(record)}
    optional = {each.name for each in declared_keys(record) if not each.is_required}
    return TypedDict(
        record.__name__, {name: NotRequired[type_] if name in optional else type_ for name, type_ in fields.items()}
    )  # type: ignore[operator]


def _checked_scalar(type_: Any, key: Key) -> Any:
    if type_ is str and key.choices is not None:
        return Literal[tuple(map(str, key.choices))]
    if type_ is str and key.is_name:
        return _limited(str, pattern=NAME_PATTERN)
    if type_ is str:
        return _limited(str, min_length=None if key.may_be_empty else 1)
    if type_ in (int, float):
        return _limited(type_, ge=type_(key.lowest), le=None if math.isinf(key.at_most) else type_(key.at_most))
    return type_


def _limited(type_: Any, **limits: Any) -> Any:
    return Annotated[type_, msgspec.Meta(**limits)]


# Messages ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """A value inside a record, with its declaration and its path."""

    value: Any
    type: Any
    key: Key
    where: str

    def entered(self, step: str) -> _Place:
        """The place inside this one: `.NAME` of a record, `[NUMBER]` of a list, or `[...]`, an item of a mapping."""
        if step.startswith("."):
            (declared,) = (each for each in declared_keys(self._member(is_record)) if each.name == step[1:])
            return _Place(self.value[declared.name], declared.type, declared.key, inside(self.where, declared.name))
        if step != "[...]":
            number, (type_,) = int(step[1:-1]), get_args(self._member(list))
            return _Place(self.value[number], type_, self.key, f"{self.where}[{number}]")
        _, type_ = get_args(self._member(dict))
        items = (_Place(item, type_, self.key, inside(self.where, name)) for name, item in self.value.items())
        return next(each for each in items if not each.fits)

    @property
    def fits(self) -> bool:
        try:
            msgspec.convert(self.value, _checked(self.type, self.key))
        except msgspec.ValidationError:
            return False
        return True

    def _member(self, wanted: Any) -> Any:
        """The type itself, or its member of that sort if it is a union."""
        types = get_args(self.type) if is_union(self.type) else (self.type,)
        is_wanted = is_record if wanted is is_record else lambda each: get_origin(each) is wanted
        return next(each for each in types if is_wanted(each))


def _explained(message: str, place: _Place) -> str:
    """The message of msgspec in the suite's words, with the value: `$` in its path is the whole record."""
    fault, _, path = message.partition(" - at `$")
    for step in re.findall(r"\.\w+|\[\d+\]|\[\.\.\.\]", path):
        place = place.entered(step)
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", fault):
        return f"{inside(place.where, missing[1])} is missing"
    return f"{place.where or 'the file'} {_fault(fault, place)}"


def _fault(fault: str, place: _Place) -> str:
    value, key = place.value, place.key
    if "matching regex" in fault:
        return f"is {shortened(value)}, and must have only {RULE}"
    if "of length" in fault:
        if isinstance(value, str):
            return "is empty, and must not be"
        return f"has {counted(value, 'item')}, and must have {key.length}"
    if fault.startswith("Invalid enum value") and key.choices is not None:
        return f"is {shortened(value)}, and must be one of {', '.join(key.choices)}"
    if " >= " in fault:
        return f"is {shortened(value)}, and must be at least {trimmed(key.lowest)}"
    if " <= " in fault:
        return f"is {shortened(value)}, and must be at most {trimmed(key.at_most)}"
    return f"is {shortened(value)}, and must be {_words(place.type)}"


def _words(type_: Any) -> str:
    """A type in words, with an article. Null is named only where several other types are allowed."""
    if is_union(type_):
        members = get_args(type_)
        named = members if len(members) > 2 else [each for each in members if each is not type(None)]
        return " or ".join(map(_words, named))
    names = {str: "a string", int: "an integer", float: "a number", bool: "true or false", type(None): "null"}
    return names.get(type_) or ("a list" if get_origin(type_) is list else "an object")
