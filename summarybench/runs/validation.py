"""Check a run file against the schema, so that no reader meets a missing key, a wrong type or an impossible number."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from summarybench.core.numbers import trimmed
from summarybench.runs.declared_keys import LARGEST_NUMBER, Key, declared_keys, is_record, is_union
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.kind_facts import KindFigure, Unit, kind_facts_in
from summarybench.runs.schema import SCHEMA, Benchmark, Run

MOST_CHARACTERS = 60
"""Of a value that a message shows."""

LISTS_BY_DOCUMENT = (
    "document_tokens",
    "prompt_tokens",
    "generated_tokens",
    "time_to_first_token_seconds",
    "host_rate_per_second",
    "summary_sha256",
)
"""The lists of `extra_info` with one item per document."""
LISTS_OF_SCORES = ("rouge1_scores", "rouge2_scores", "rougeLsum_scores", "finish_seconds")
"""The same, but empty or absent where there is nothing to list."""


class InvalidValueError(ValueError):
    """A key that is missing, or a value that the schema does not allow. The message names the key and the value."""


def check_shape(run: Any) -> None:
    """Check what the migration relies on: objects, names, document ids, sane numbers and the schema's version.

    Raises InvalidValueError.
    """
    _check_numbers(run, "")
    _check(run, dict[str, Any], Key(""), "the file")
    _check_present(run, "benchmarks", "")
    _check(run["benchmarks"], list[dict[str, Any]], Key(""), "benchmarks")
    for number, benchmark in enumerate(run["benchmarks"]):
        where = f"benchmarks[{number}]"
        for name, type_, key in (
            ("name", str, Key("", may_be_empty=False)),
            ("extra_info", dict[str, Any], Key("")),
        ):
            _check_present(benchmark, name, where)
            _check(benchmark[name], type_, key, f"{where}.{name}")
        info, where = benchmark["extra_info"], f"{where}.extra_info"
        _check_present(info, "schema", where)
        if isinstance(info["schema"], bool) or info["schema"] != SCHEMA:
            raise InvalidValueError(f"{where}.schema is {shortened(info['schema'])}, and this version reads {SCHEMA}")
        _check_present(info, "document_ids", where)
        _check(info["document_ids"], list[str], Key("", may_be_empty=False), f"{where}.document_ids")


def check_run(run: Mapping[str, Any]) -> None:
    """Check a migrated run: types and limits of all declared keys, and what must agree between them.

    Keys that are not declared are ignored, but no number may be infinite or undefined. Raises InvalidValueError.
    """
    _check_numbers(run, "")
    _check(run, Run, Key(""), "")
    for number, benchmark in enumerate(run["benchmarks"]):
        _check_agreement(benchmark, f"benchmarks[{number}]")


def check_record(record: Any, type_: type, where: str) -> None:
    """Check one record against its TypedDict. `where` begins the messages. Raises InvalidValueError."""
    _check_numbers(record, where)
    _check(record, type_, Key(""), where)


# Types and limits ------------------------------------------------------------------------------------------------


def _check(value: Any, type_: Any, key: Key, where: str) -> None:
    if type_ is Any:
        return
    if is_record(type_):
        _check_keys(value, type_, where)
    elif is_union(type_):
        _check_union(value, get_args(type_), key, where)
    elif get_origin(type_) is list:
        _expect(isinstance(value, list), value, where, type_)
        if key.length is not None and len(value) != key.length:
            raise InvalidValueError(f"{where} has {_items(value)}, and must have {key.length}")
        for number, item in enumerate(value):
            _check(item, get_args(type_)[0], key, f"{where}[{number}]")
    elif get_origin(type_) is dict:
        _expect(isinstance(value, dict), value, where, type_)
        for name, item in value.items():
            _check(item, get_args(type_)[1], key, f"{where}.{name}")
    else:
        _check_scalar(value, type_, key, where)


def _check_keys(value: Any, record: type, where: str) -> None:
    if not isinstance(value, dict):
        raise InvalidValueError(f"{where or 'the file'} is {shortened(value)}, and must be {_words(dict)}")
    for declared in declared_keys(record):
        if declared.is_required:
            _check_present(value, declared.name, where)
        if declared.name in value:
            _check(value[declared.name], declared.type, declared.key, _inside(where, declared.name))


def _check_union(value: Any, types: Sequence[Any], key: Key, where: str) -> None:
    if value is None and type(None) in types:
        return
    others = [each for each in types if each is not type(None)]
    if len(others) == 1:
        _check(value, others[0], key, where)
        return
    fitting = [each for each in others if _is_of(value, each)]
    _expect(bool(fitting), value, where, types)
    _check_scalar(value, fitting[0], key, where)


def _check_scalar(value: Any, type_: type, key: Key, where: str) -> None:
    _expect(_is_of(value, type_), value, where, type_)
    if type_ in (int, float) and not key.lowest <= value <= key.at_most:
        limits = f"at least {trimmed(key.lowest)}" if value < key.lowest else f"at most {trimmed(key.at_most)}"
        raise InvalidValueError(f"{where} is {shortened(value)}, and must be {limits}")
    if type_ is str and not value and not key.may_be_empty:
        raise InvalidValueError(f"{where} is empty, and must not be")
    if key.choices is not None and value not in set(key.choices):
        raise InvalidValueError(f"{where} is {shortened(value)}, and must be one of {', '.join(key.choices)}")


def _is_of(value: Any, type_: type) -> bool:
    if isinstance(value, bool):
        return type_ is bool
    return isinstance(value, (int, float) if type_ is float else type_)


def _expect(is_met: bool, value: Any, where: str, expected: Any) -> None:
    if not is_met:
        raise InvalidValueError(f"{where} is {shortened(value)}, and must be {_words(expected)}")


def _check_present(record: Mapping[str, Any], name: str, where: str) -> None:
    if name not in record:
        raise InvalidValueError(f"{_inside(where, name)} is missing")


def _check_numbers(value: Any, where: str) -> None:
    """Refuse numbers that JSON does not have but Python reads, and integers that overflow a float."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidValueError(f"{where} is {value}, and must be a finite number")
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise InvalidValueError(f"{where} is {shortened(value)}, and must be at most {trimmed(LARGEST_NUMBER)}")
    if isinstance(value, dict):
        for name, item in value.items():
            _check_numbers(item, _inside(where, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _check_numbers(item, f"{where}[{number}]")


# What must agree -------------------------------------------------------------------------------------------------


def _check_agreement(benchmark: Benchmark, where: str) -> None:
    info = benchmark["extra_info"]
    for check in (
        _lists_problem,
        _batches_problem,
        _degenerate_problem,
        _rounds_problem,
        _times_problem,
        _kind_problem,
    ):
        if problem := check(info, benchmark["stats"]["data"]):
            key, what = problem
            raise InvalidValueError(f"{where}.{key} {what}")


Problem = tuple[str, str] | None
"""A key and its fault in words; None for no fault."""


def _lists_problem(info: ExtraInfo, _: Sequence[float]) -> Problem:
    ids, found = info["document_ids"], dict[str, Any](info)
    if not ids:
        return "extra_info.document_ids", "is empty, and must name the documents"
    if len(set(ids)) != len(ids):
        return "extra_info.document_ids", "names a document twice"
    for name in LISTS_BY_DOCUMENT:
        if len(found[name]) != len(ids):
            return _unequal(name, found[name], ids)
    for name in LISTS_OF_SCORES:
        if found.get(name) and len(found[name]) != len(ids):
            return _unequal(name, found[name], ids)
    if bool(info["rouge1_scores"]) is (info["rouge1"] is None):
        return "extra_info.rouge1", f"is {info['rouge1']}, with {_items(info['rouge1_scores'])} in rouge1_scores"
    return None


def _unequal(name: str, found: Sequence[Any], ids: Sequence[str]) -> Problem:
    return f"extra_info.{name}", f"has {_items(found)}, and must have one per document: {len(ids)}"


def _batches_problem(info: ExtraInfo, _: Sequence[float]) -> Problem:
    batches = info["batch_document_ids"]
    if batches is None:
        return None
    if not all(batches):
        return "extra_info.batch_document_ids", "has an empty batch"
    if sorted(each for batch in batches for each in batch) != sorted(info["document_ids"]):
        return "extra_info.batch_document_ids", "must have each of document_ids once"
    return None


def _degenerate_problem(info: ExtraInfo, _: Sequence[float]) -> Problem:
    ids, counts = info["degenerate_document_ids"], info["degenerate"]
    known = set(info["document_ids"])
    if ids is not None and not known.issuperset({*ids["empty"], *ids["repeating"]}):
        return "extra_info.degenerate_document_ids", "names a document that is not among document_ids"
    if counts is not None and counts["empty"] + counts["repeating"] > len(known):
        return "extra_info.degenerate", f"counts more summaries than the {len(known)} documents"
    return None


def _rounds_problem(info: ExtraInfo, seconds: Sequence[float]) -> Problem:
    """The kind says what a round is. The rounds must be recorded as such, with one duration each."""
    unit = Unit(info["kind"]["unit"])
    recorded = {Unit.ROUND: info.get("sample_rounds"), Unit.BATCH: info["batch_document_ids"]}
    for each, key in ((Unit.ROUND, "sample_rounds"), (Unit.BATCH, "batch_document_ids")):
        if bool(recorded[each]) is not (unit is each):
            has = "has" if recorded[each] else "lacks"
            return "extra_info.kind.unit", f"is {unit}, but the experiment {has} {key}"
    expected = len(recorded.get(unit) or info["document_ids"])
    if len(seconds) != expected:
        return "stats.data", f"has {_items(seconds)}, and must have one per {unit}: {expected}"
    return None


def _kind_problem(info: ExtraInfo, _: Sequence[float]) -> Problem:
    """What a kind declares about keys of `extra_info` must be true of them."""
    kind, found = kind_facts_in(info), dict[str, Any](info)
    if kind is None:
        return None
    if kind.compared_count and not isinstance(found.get(kind.compared_count), int):
        return f"extra_info.{kind.compared_count}", "is missing or no integer, and the kind compares it"
    for figure in kind.figures:
        value = figure.value_in(info)
        try:
            _check_format(value, figure)
        except (TypeError, ValueError) as error:
            return f"extra_info.{figure.key}", f"is {shortened(value)}, which the kind's format does not fit: {error}"
    return None


def _check_format(value: Any, figure: KindFigure) -> None:
    """Raises TypeError or ValueError for a value that the figure's format does not fit."""
    for each in value if isinstance(value, list) else [value]:
        number = 0 if each is None else each
        format(number if figure.divisor == 1 else number / figure.divisor, figure.format)


def _times_problem(info: ExtraInfo, seconds: Sequence[float]) -> Problem:
    """A first token after the end of its round would make the time of decoding negative."""
    if "sample_rounds" in info:
        return None
    rounds = info["batch_document_ids"] or [[each] for each in info["document_ids"]]
    first = dict(zip(info["document_ids"], info["time_to_first_token_seconds"], strict=True))
    for ids, duration in zip(rounds, seconds, strict=True):
        if late := [each for each in ids if first[each] > duration]:
            return (
                f"extra_info.time_to_first_token_seconds[{info['document_ids'].index(late[0])}]",
                f"is {shortened(first[late[0]])}, later than the end of its round after {shortened(duration)} s",
            )
    return None


# Words -----------------------------------------------------------------------------------------------------------


def shortened(value: Any) -> str:
    """A value as JSON for a message, cut after MOST_CHARACTERS."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def _words(types: Any) -> str:
    """One or more types in words, with an article."""
    if isinstance(types, tuple):
        return " or ".join(map(_words, types))
    names = {str: "a string", int: "an integer", float: "a number", bool: "true or false", type(None): "null"}
    return names.get(types) or ("a list" if get_origin(types) is list else "an object")


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _items(found: Sequence[Any]) -> str:
    return "1 item" if len(found) == 1 else f"{len(found)} items"
