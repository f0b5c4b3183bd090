"""Check what must agree between the keys of one experiment: lengths of lists, rounds, batches, times and its kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from summarybench.core.numbers import counted
from summarybench.core.strict_json import InvalidValueError, shortened
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.faithfulness_record import FAITHFULNESS_LISTS, NOVEL_AMONG
from summarybench.runs.kind_facts import KindFigure, Unit, kind_facts_in
from summarybench.runs.schema import Benchmark

LISTS_BY_DOCUMENT = (
    "document_tokens",
    "prompt_tokens",
    "generated_tokens",
    "time_to_first_token_seconds",
    "host_rate_per_second",
    "summary_sha256",
)
"""The lists of `extra_info` with one item per document."""
LISTS_OF_SOME = ("summary_characters", "finish_seconds")
"""The same, but absent in older runs or for other kinds."""
LISTS_OF_ROUGE = ("rouge1_scores", "rouge2_scores", "rougeL_scores", "rougeLsum_scores")
"""The same, but empty where nothing is scored."""
RECORDS_BY_DOCUMENT = ("long_documents", "lookup")
"""Keys of records whose lists have one item per document. Some experiments lack them."""


def check_agreement(benchmark: Benchmark, where: str) -> None:
    """Check one experiment whose keys fit the schema. `where` begins the message. Raises InvalidValueError."""
    info = benchmark["extra_info"]
    for check in (
        _lists_problem,
        _batches_problem,
        _degenerate_problem,
        _faithfulness_problem,
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
    for name, each in _lists_by_document(found):
        if len(each) != len(ids):
            return _unequal(name, each, ids)
    if bool(info["rouge1_scores"]) is (info["rouge1"] is None):
        return (
            "extra_info.rouge1",
            f"is {info['rouge1']}, with {counted(info['rouge1_scores'], 'item')} in rouge1_scores",
        )
    return _scores_problem(found)


def _lists_by_document(info: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """The lists that must have one item per document, with their names, apart from those of faithfulness."""
    yield from ((name, info[name]) for name in LISTS_BY_DOCUMENT)
    yield from ((name, info[name]) for name in LISTS_OF_SOME if name in info)
    yield from ((name, info[name]) for name in LISTS_OF_ROUGE if info.get(name))
    for record in RECORDS_BY_DOCUMENT:
        lists = ((name, each) for name, each in info.get(record, {}).items() if isinstance(each, list))
        yield from ((f"{record}.{name}", each) for name, each in lists)
    for scorer, facts in info.get("model_scores", {}).items():
        yield from ((f"model_scores.{scorer}.scores.{name}", each) for name, each in facts["scores"].items())


def _scores_problem(info: Mapping[str, Any]) -> Problem:
    """A document without a reference has null in each list of scores. The list that differs from the others is named."""
    unscored = {
        name: [place for place, each in enumerate(info[name]) if each is None]
        for name in LISTS_OF_ROUGE
        if info.get(name)
    }
    kinds = list(unscored.values())
    for name, places in unscored.items():
        if kinds.count(places) * 2 <= len(kinds) > 1:
            return f"extra_info.{name}", f"has {len(places)} null, at other places than the other scores"
    return None


def _unequal(name: str, found: Sequence[Any], ids: Sequence[str]) -> Problem:
    return f"extra_info.{name}", f"has {counted(found, 'item')}, and must have one per document: {len(ids)}"


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


def _faithfulness_problem(info: ExtraInfo, _: Sequence[float]) -> Problem:
    """One item per document, no more novel things than things, and no count where the other is unknown."""
    if info["faithfulness"] is None:
        return None
    ids, found = info["document_ids"], dict[str, Any](info["faithfulness"])
    for name in FAITHFULNESS_LISTS:
        if len(found[name]) != len(ids):
            return _unequal(f"faithfulness.{name}", found[name], ids)
    for novel, among in NOVEL_AMONG.items():
        for number, (part, whole) in enumerate(zip(found[novel], found[among], strict=True)):
            if (part is None) is not (whole is None) or (part or 0) > (whole or 0):
                return f"extra_info.faithfulness.{novel}[{number}]", f"is {part}, and {among}[{number}] is {whole}"
    return None


def _rounds_problem(info: ExtraInfo, seconds: Sequence[float]) -> Problem:
    """The kind says what a round is. The rounds must be recorded as such, with one duration each."""
    unit = Unit(info["kind"]["unit"])
    recorded = {Unit.ROUND: info.get("sample_rounds"), Unit.BATCH: info["batch_document_ids"]}
    for each, key in ((Unit.ROUND, "sample_rounds"), (Unit.BATCH, "batch_document_ids")):
        if bool(recorded[each]) is not (unit is each):
            has = "has" if recorded[each] else "lacks"
            return "extra_info.kind.unit", f"is {unit}, but the experiment {has} {key}"
    key = {Unit.ROUND: "sample_rounds", Unit.BATCH: "batch_document_ids"}.get(unit, "document_ids")
    expected = len(recorded.get(unit) or info["document_ids"])
    if len(seconds) != expected:
        return "stats.data", f"has {counted(seconds, 'item')}, and must have one per {unit}: {key} has {expected}"
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
