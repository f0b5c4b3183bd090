"""Compare summaries with another run's: paired ROUGE-1, changed summaries, and empty or repeating summaries.

ROUGE-1 is compared document by document. The mean difference has a bound on either side from Student's t, each one-sided at
99%; together they are the 98% interval (two one-sided tests, Schuirmann 1987). The bounds are compared with a margin that was
fixed beforehand. Empty and repeating summaries are counted in pairs as well: McNemar's exact test (Psychometrika 12, 1947)
asks whether more documents became degenerate than stopped being degenerate. A session makes many of these tests, and Holm's
correction over all of them decides which fail (quality_session.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import Field, dataclass, replace
from statistics import fmean, stdev
from typing import Any, ClassVar, Protocol, TypeVar

from summarybench.catalogue.models import LOADERS
from summarybench.core.numbers import decimal, interval, significant
from summarybench.core.outcomes import QualityError, QualityVerdict
from summarybench.runs.comparison_records import McNemarRecord, QualityChangeRecord
from summarybench.runs.run_file import Entry
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.decision import MOST_DOCUMENTS, fewest
from summarybench.stats.intervals import ALARM_CONFIDENCE, Interval, student_probability, student_quantile
from summarybench.stats.paired_proportions import mcnemar_p_value

ROUGE1_MARGIN = 0.015
"""A smaller loss of F1 counts as none."""
QUALITY_LEVEL = 1 - ALARM_CONFIDENCE
"""The probability of a false failure in one test; with Holm's correction, in a whole session."""
INTERVAL_CONFIDENCE = 1 - 2 * QUALITY_LEVEL  # two-sided; each of its bounds is one-sided at 99%
MINIMUM_MORE_DOCUMENTS = 3
TYPICAL_DEVIATION = 0.1
"""The standard deviation over documents of F1 between two summaries of one document: 0.08 (baselines, 4-bit against float32)
to 0.12 (the embedded model on a CPU)."""
TYPICAL_WEIGHT = 2
"""Documents that the typical deviation counts as. Where most summaries are equal, the few differences of a sample can happen to
be nearly equal as well, and their own deviation is then far too small. Two is the smallest weight with which the simulation
in docs/explanation/quality.md keeps its coverage and its false failures."""
SIXTEEN_BIT_OR_DEFAULT = ("fp16", "bf16", "default")
"""A quantized loader is compared with the first of these loaders that the session measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """The mean over documents of this run's score − the other run's, in the score's own unit."""

    mean: float
    standard_deviation: float
    documents: int

    @property
    def standard_error(self) -> float:
        """Of the mean, from the sample's deviation and the typical one; 0 if no score differs."""
        if self.mean == 0 and self.standard_deviation == 0:
            return 0.0
        squares = (self.documents - 1) * self.standard_deviation**2 + TYPICAL_WEIGHT * TYPICAL_DEVIATION**2
        return math.sqrt(squares / (self.documents - 1 + TYPICAL_WEIGHT) / self.documents)

    @property
    def bounds(self) -> Interval:
        """The lower and the upper bound, each one-sided at 99%."""
        reach = student_quantile((1 + INTERVAL_CONFIDENCE) / 2, self.documents - 1) * self.standard_error
        return Interval(low=self.mean - reach, high=self.mean + reach, confidence=INTERVAL_CONFIDENCE)

    @property
    def p_value(self) -> float:
        """The probability of a loss this large, or larger, without a change."""
        if self.standard_error == 0:
            return 1.0
        return student_probability(self.mean / self.standard_error, self.documents - 1)


def paired_difference(now: Sequence[float], before: Sequence[float]) -> PairedDifference:
    """The difference between scores of the same documents, given in the same order.

    Raises ValueError if the two differ in length or have fewer than 2 scores.
    """
    if len(now) != len(before) or len(now) < 2:
        raise ValueError(
            f"a paired difference needs the same documents, at least 2: {len(now)} now, {len(before)} before"
        )
    differences = [a - b for a, b in zip(now, before, strict=True)]
    return PairedDifference(mean=fmean(differences), standard_deviation=stdev(differences), documents=len(differences))


def judge(difference: PairedDifference, margin: float = ROUGE1_MARGIN) -> QualityVerdict:
    """The verdict on a difference of ROUGE-1 F1."""
    if difference.bounds.low > -margin:
        return QualityVerdict.NON_INFERIOR
    if difference.bounds.high < 0 and difference.mean <= -margin:
        return QualityVerdict.INFERIOR
    return QualityVerdict.INCONCLUSIVE


def documents_needed(difference: PairedDifference, margin: float = ROUGE1_MARGIN) -> int | None:
    """The fewest documents that would decide if mean and deviation stay; None if no number would, or it is decided."""

    def decides(documents: int) -> bool:
        return judge(replace(difference, documents=documents), margin) is not QualityVerdict.INCONCLUSIVE

    return None if decides(difference.documents) else fewest(difference.documents, MOST_DOCUMENTS, decides)


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Documents that have a property only now (`more`) or only had it before (`fewer`).

    `p_value` is one-sided and exact: the probability that at least as many of the changed documents are `more` by chance.
    """

    more: int
    fewer: int
    p_value: float

    def is_alarm(self, level: float = QUALITY_LEVEL) -> bool:
        return self.p_value <= level and self.more - self.fewer >= MINIMUM_MORE_DOCUMENTS


def mcnemar(now: Set[str], before: Set[str]) -> McNemar:
    """McNemar's test on the ids of the documents that have the property, out of those in both runs."""
    more, fewer = len(now - before), len(before - now)
    return McNemar(more=more, fewer=fewer, p_value=mcnemar_p_value(more, fewer))


def _record(test: McNemar) -> McNemarRecord:
    return {"more": test.more, "fewer": test.fewer, "p_value": test.p_value}


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityComparison:
    """One experiment's summaries compared with another's; ROUGE-1 in F1, 0 to 1.

    `against` names the other: a stored run's file, or a loader of the same run. `mcnemar` is by kind of degenerate
    summary; it is None if one of the two did not record them by document.
    """

    against: str
    verdict: QualityVerdict
    difference: PairedDifference
    documents_needed: int | None
    changed_summaries: int
    mcnemar: Mapping[str, McNemar] | None
    level: float = QUALITY_LEVEL
    margin: float = ROUGE1_MARGIN

    def as_extra_info(self) -> QualityChangeRecord:
        """The key `quality_change` of the run file."""
        return {
            "verdict": self.verdict.value,
            "mean": self.difference.mean,
            "low": self.difference.bounds.low,
            "high": self.difference.bounds.high,
            "confidence": self.difference.bounds.confidence,
            "documents": self.difference.documents,
            "documents_needed": self.documents_needed,
            "changed_summaries": self.changed_summaries,
            "mcnemar": None if self.mcnemar is None else {kind: _record(test) for kind, test in self.mcnemar.items()},
            "baseline": self.against,
            "p_value": self.difference.p_value,
            "level": self.level,
            "margin": self.margin,
        }

    @property
    def faults(self) -> tuple[str, ...]:
        """One phrase for each part of the quality that is worse at the comparison's level."""
        inferior = (
            [f"quality {self.verdict} {describe(self.as_extra_info())}"]
            if self.verdict is QualityVerdict.INFERIOR and self.difference.p_value <= self.level
            else []
        )
        degenerate = (
            f"{test.more} more {kind} outputs than {self.against}, {test.fewer} fewer "
            f"(McNemar's exact test: p {significant(test.p_value, 2)}, and {significant(self.level, 2)} fails)"
            for kind, test in (self.mcnemar or {}).items()
            if test.is_alarm(self.level)
        )
        return (*inferior, *degenerate)


class _HasLevel(Protocol):
    """A comparison as a dataclass whose field `level` is the p-value at which its tests fail."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def level(self) -> float: ...


AtLevel = TypeVar("AtLevel", bound=_HasLevel)


def compare_quality(now: Entry, before: Entry, against: str, margin: float = ROUGE1_MARGIN) -> QualityComparison | None:
    """Compare the summaries of one entry with another's, over the documents that both scored.

    None if those are fewer than MINIMUM_COMMON_DOCUMENTS; summaries of synthetic weights are not scored. The caller makes sure
    that both summarized the same prompts.
    """
    texts, others = now.texts, before.texts
    common = [document_id for document_id in texts if document_id in others]
    if len(common) < MINIMUM_COMMON_DOCUMENTS:
        return None
    difference = paired_difference([texts[each].rouge1 for each in common], [others[each].rouge1 for each in common])
    return QualityComparison(
        against=against,
        verdict=judge(difference, margin),
        difference=difference,
        documents_needed=documents_needed(difference, margin),
        changed_summaries=sum(texts[each].sha256 != others[each].sha256 for each in common),
        mcnemar=_degenerate_changes(now, before, frozenset(common)),
        margin=margin,
    )


def at_level(comparison: AtLevel | None, level: float) -> AtLevel | None:
    """The same comparison of quality or faithfulness, whose tests fail at this p-value."""
    return None if comparison is None else replace(comparison, level=level)


def _degenerate_changes(now: Entry, before: Entry, common: Set[str]) -> dict[str, McNemar] | None:
    here, there = now.degenerate, before.degenerate
    if here is None or there is None:
        return None
    return {kind: mcnemar(here[kind] & common, there[kind] & common) for kind in here}


def quality_against_16_bit(entries: Sequence[Entry]) -> Iterator[tuple[str, QualityComparison]]:
    """Compare each quantized experiment of a run with its model's 16-bit (or default) one, in any order of running."""
    for entry in entries:
        loader = LOADERS.get(entry.extra_info["loader"])
        reference = _sixteen_bit(entry, entries) if loader and loader.quantization else None
        if reference is not None:
            against = f"{reference.extra_info['loader']} of this run"
            if (found := compare_quality(entry, reference, against)) is not None:
                yield entry.experiment, found


def quality_against_batch_size_1(entries: Sequence[Entry]) -> Iterator[tuple[str, QualityComparison]]:
    """Compare each batched experiment of a run with the same one at batch size 1. It is reported, and never fails."""
    singles = {_unbatched(entry): entry for entry in entries if entry.extra_info["batch_size"] == 1}
    for entry in entries:
        single = singles.get(_unbatched(entry))
        if single is None or single is entry:
            continue
        if (found := compare_quality(entry, single, "batch size 1 of this run")) is not None:
            yield entry.experiment, found


def _unbatched(entry: Entry) -> str:
    """The kind and its workload, apart from the batch size."""
    settings = {key: value for key, value in entry.extra_info["workload_settings"].items() if key != "batch_size"}
    return json.dumps([entry.kind.name, entry.extra_info["loader"], settings], sort_keys=True)


def _sixteen_bit(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    alike = {each.extra_info["loader"]: each for each in entries if _task(each) == _task(entry)}
    return next((alike[loader] for loader in SIXTEEN_BIT_OR_DEFAULT if loader in alike), None)


def _task(entry: Entry) -> tuple[str, dict[str, Any]]:
    """The kind and its workload, apart from the loader. If they are equal, so are the prompts."""
    settings = entry.extra_info["workload_settings"]
    return entry.kind.name, {key: value for key, value in settings.items() if key not in ("loader", "loader_settings")}


def describe(facts: QualityChangeRecord, *, is_confirmed: bool | None = None) -> str:
    """Describe a `quality_change` of a run file; the verdict's word precedes it. ROUGE-1 is in points.

    `is_confirmed` says what Holm's correction decided; None while comparisons of the session are missing.
    """
    relation = "against" if facts["verdict"] == QualityVerdict.INCONCLUSIVE else "to"
    mean = decimal(100 * facts["mean"], 1, signed=True)
    bounds = interval(100 * facts["low"], 100 * facts["high"], 1, signed=True)
    parts = [
        f"{relation} {facts['baseline']}: ROUGE-1 {mean} points {bounds}",
        *([f"margin {decimal(100 * facts['margin'], 1)}"] if "margin" in facts else []),
        f"{facts['documents']} documents",
        f"{facts['changed_summaries']} summaries changed",
        *_describe_degenerate(facts["mcnemar"]),
    ]
    return ", ".join(parts) + _describe_remedy(facts) + _describe_level(facts, is_confirmed)


def _describe_degenerate(tests: Mapping[str, McNemarRecord] | None) -> Iterator[str]:
    if tests is None:
        yield "empty and repeating outputs not compared (one of the runs does not record them by document)"
        return
    for kind, test in tests.items():
        if test["more"] or test["fewer"]:
            yield f"{test['more']} more and {test['fewer']} fewer {kind} (p {significant(test['p_value'], 2)})"


def _describe_remedy(facts: QualityChangeRecord) -> str:
    if facts["verdict"] != QualityVerdict.INCONCLUSIVE:
        return ""
    if facts["documents_needed"] is None:
        return "; no number of documents would decide"
    return f"; {facts['documents_needed']} documents would decide if mean and spread stay the same"


def _describe_level(facts: QualityChangeRecord, is_confirmed: bool | None) -> str:
    """What becomes of a loss that did not fail while the session's other comparisons were not known."""
    p_value, level = facts.get("p_value"), facts.get("level")
    if facts["verdict"] != QualityVerdict.INFERIOR or p_value is None or level is None:
        return ""
    return describe_undecided_loss(p_value, level, is_confirmed=is_confirmed)


def describe_undecided_loss(p_value: float, level: float, *, is_confirmed: bool | None) -> str:
    """What becomes of a loss, after a semicolon; empty if it failed at once. `is_confirmed` is as for `describe`."""
    if p_value <= level:
        return ""
    if is_confirmed is None:
        return (
            f"; p {significant(p_value, 2)}, and only {significant(level, 2)} fails at once: Holm's correction decides when all "
            "comparisons of the session are in"
        )
    what = "fails, confirmed" if is_confirmed else "does not fail, as it is not confirmed"
    return f"; {what} by Holm's correction over all comparisons of the session (p {significant(p_value, 2)})"


class MayFail(Protocol):
    """A comparison of summaries with another run's."""

    @property
    def faults(self) -> tuple[str, ...]: ...


def assert_quality_held(*comparisons: MayFail | None) -> None:
    """Raises QualityError for what is certainly worse than the other run's.

    That is ROUGE-1, more summaries that are empty or repeating, or more with new numbers, dates or names.
    """
    faults = [fault for each in comparisons if each is not None for fault in each.faults]
    if faults:
        raise QualityError("; ".join(faults))
