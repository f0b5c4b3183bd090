"""Are the summaries as good as another run's: paired ROUGE-1, changed summaries, outputs that became empty or repeating.

ROUGE-1 is compared document by document. The mean difference is bounded from either side by Student's t, each bound
one-sided at 95% (Schuirmann 1987, two one-sided tests: together the 90% interval), and held against a margin that was
fixed beforehand. Outputs that fake speed are counted in pairs as well: McNemar's exact test (Psychometrika 12, 1947)
asks whether more documents became degenerate than ceased to be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import Any

from summarybench.catalogue.models import LOADERS
from summarybench.core.outcomes import QualityError, QualityVerdict
from summarybench.runs.run_file import Entry
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.decision import MOST_DOCUMENTS, fewest
from summarybench.stats.intervals import Interval, student_quantile

ROUGE1_MARGIN = 0.015
"""A loss of less than this, in F1, counts as none."""
INTERVAL_CONFIDENCE = 0.90  # two-sided; each of its bounds is one-sided at 95%
MCNEMAR_LEVEL = 0.01
MINIMUM_MORE_DOCUMENTS = 3
SIXTEEN_BIT_OR_DEFAULT = ("fp16", "bf16", "default")
"""What a quantized loader is held against: the first of these that the session measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """The mean over documents of a score now minus the other run's, in the score's own unit."""

    mean: float
    standard_deviation: float
    documents: int

    @property
    def bounds(self) -> Interval:
        """The lower and the upper bound, each one-sided at 95%."""
        quantile = student_quantile((1 + INTERVAL_CONFIDENCE) / 2, self.documents - 1)
        reach = quantile * self.standard_deviation / math.sqrt(self.documents)
        return Interval(low=self.mean - reach, high=self.mean + reach, confidence=INTERVAL_CONFIDENCE)


def paired_difference(now: Sequence[float], before: Sequence[float]) -> PairedDifference:
    """Of scores of the same documents, given in the same order.

    Raises ValueError where the two differ in length or hold fewer than 2.
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
    """The fewest documents that would decide if mean and deviation stay; None where no number does, or it is decided."""

    def decides(documents: int) -> bool:
        return judge(replace(difference, documents=documents), margin) is not QualityVerdict.INCONCLUSIVE

    return None if decides(difference.documents) else fewest(difference.documents, MOST_DOCUMENTS, decides)


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Documents that have a property now and had it not (`more`), and the reverse (`fewer`).

    `p_value` is of the exact test, one-sided: how likely chance alone makes so many of the changed ones `more`.
    """

    more: int
    fewer: int
    p_value: float

    @property
    def is_alarm(self) -> bool:
        return self.p_value <= MCNEMAR_LEVEL and self.more - self.fewer >= MINIMUM_MORE_DOCUMENTS


def mcnemar(now: Set[str], before: Set[str]) -> McNemar:
    """The test on the ids of the documents that have the property, out of those that both runs hold."""
    from scipy.stats import binomtest

    more, fewer = len(now - before), len(before - now)
    # Nothing changed: certain, and scipy wants at least one trial.
    p_value = float(binomtest(more, more + fewer, alternative="greater").pvalue) if more + fewer else 1.0
    return McNemar(more=more, fewer=fewer, p_value=p_value)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityComparison:
    """One experiment's summaries beside another's; ROUGE-1 in F1, 0 to 1.

    `against` names the other: a stored run's file, or a loader of the same run. `mcnemar` is by kind of degenerate
    output, or None where one of the two does not tell them by document.
    """

    against: str
    verdict: QualityVerdict
    difference: PairedDifference
    documents_needed: int | None
    changed_summaries: int
    mcnemar: Mapping[str, McNemar] | None

    def as_extra_info(self) -> dict[str, Any]:
        """The key `quality_change` of the run file."""
        return {
            "verdict": self.verdict.value,
            "mean": self.difference.mean,
            **asdict(self.difference.bounds),
            "documents": self.difference.documents,
            "documents_needed": self.documents_needed,
            "changed_summaries": self.changed_summaries,
            "mcnemar": None if self.mcnemar is None else {kind: asdict(test) for kind, test in self.mcnemar.items()},
            "baseline": self.against,
        }

    @property
    def faults(self) -> tuple[str, ...]:
        """What is worse beyond doubt, a phrase each."""
        inferior = (
            [f"quality {self.verdict} {describe(self.as_extra_info())}"]
            if self.verdict is QualityVerdict.INFERIOR
            else []
        )
        degenerate = (
            f"{test.more} more {kind} outputs than {self.against}, {test.fewer} fewer "
            f"(McNemar's exact test: p {test.p_value:.2g}, and {MCNEMAR_LEVEL:g} fails)"
            for kind, test in (self.mcnemar or {}).items()
            if test.is_alarm
        )
        return (*inferior, *degenerate)


def compare_quality(now: Entry, before: Entry, against: str, margin: float = ROUGE1_MARGIN) -> QualityComparison | None:
    """The summaries of one entry beside another's, over the documents that both scored.

    None where those are fewer than MINIMUM_COMMON_DOCUMENTS: synthetic weights have none. That the same prompts were
    answered is for the caller to know.
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
    )


def _degenerate_changes(now: Entry, before: Entry, common: Set[str]) -> dict[str, McNemar] | None:
    here, there = now.degenerate, before.degenerate
    if here is None or there is None:
        return None
    return {kind: mcnemar(here[kind] & common, there[kind] & common) for kind in here}


def quality_against_16_bit(entries: Sequence[Entry]) -> Iterator[tuple[str, QualityComparison]]:
    """Each quantized experiment of a run beside its model's 16-bit (or default) one, in whatever order they ran."""
    for entry in entries:
        loader = LOADERS.get(entry.extra_info["loader"])
        reference = _sixteen_bit(entry, entries) if loader and loader.quantization else None
        if reference is not None:
            against = f"{reference.extra_info['loader']} of this run"
            if (found := compare_quality(entry, reference, against)) is not None:
                yield entry.experiment, found


def quality_against_batch_size_1(entries: Sequence[Entry]) -> Iterator[tuple[str, QualityComparison]]:
    """Each experiment of a run in batches beside the same one at batch size 1: told, and never failed for."""
    singles = {_unbatched(entry): entry for entry in entries if entry.extra_info.get("batch_size", 1) == 1}
    for entry in entries:
        single = singles.get(_unbatched(entry))
        if single is None or single is entry:
            continue
        if (found := compare_quality(entry, single, "batch size 1 of this run")) is not None:
            yield entry.experiment, found


def _unbatched(entry: Entry) -> str:
    """The test and its workload, apart from the batch size."""
    settings = {key: value for key, value in entry.extra_info["workload_settings"].items() if key != "batch_size"}
    return json.dumps([entry.test, entry.extra_info["loader"], settings], sort_keys=True)


def _sixteen_bit(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    alike = {each.extra_info["loader"]: each for each in entries if _task(each) == _task(entry)}
    return next((alike[loader] for loader in SIXTEEN_BIT_OR_DEFAULT if loader in alike), None)


def _task(entry: Entry) -> tuple[str, dict[str, Any]]:
    """The test and its workload, apart from the loader: where these are equal, so are the prompts."""
    settings = entry.extra_info["workload_settings"]
    return entry.test, {key: value for key, value in settings.items() if key not in ("loader", "loader_settings")}


def describe(facts: Mapping[str, Any]) -> str:
    """What follows the verdict's word in a line about a `quality_change` of a run file; ROUGE-1 in points."""
    relation = "against" if facts["verdict"] == QualityVerdict.INCONCLUSIVE else "to"
    mean, low, high = (f"{100 * facts[name]:+z.1f}" for name in ("mean", "low", "high"))
    parts = [
        f"{relation} {facts['baseline']}: ROUGE-1 {mean} points [{low}, {high}]",
        f"{facts['documents']} documents",
        f"{facts['changed_summaries']} summaries changed",
        *_describe_degenerate(facts["mcnemar"]),
    ]
    return ", ".join(parts) + _describe_remedy(facts)


def _describe_degenerate(tests: Mapping[str, Mapping[str, Any]] | None) -> Iterator[str]:
    if tests is None:
        yield "empty and repeating outputs not compared (one of the runs does not tell them by document)"
        return
    for kind, test in tests.items():
        if test["more"] or test["fewer"]:
            yield f"{kind} {test['more']} more and {test['fewer']} fewer (p {test['p_value']:.2g})"


def _describe_remedy(facts: Mapping[str, Any]) -> str:
    if facts["verdict"] != QualityVerdict.INCONCLUSIVE:
        return ""
    if facts["documents_needed"] is None:
        return "; no number of documents would decide"
    return f"; {facts['documents_needed']} documents would decide, if mean and spread stay"


def assert_quality_held(quality: QualityComparison | None) -> None:
    """Raises QualityError where ROUGE-1 is INFERIOR to the baseline's, or more outputs became empty or repeating."""
    if quality is not None and quality.faults:
        raise QualityError("; ".join(quality.faults))
