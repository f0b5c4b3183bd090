"""Compare how faithful summaries are with another run's, document by document.

A summary has a new number or it has not; the same for dates and names. McNemar's exact test asks whether more summaries gained
one than lost one. It assumes nothing of the documents but that they are independent, and so holds for the rare and uneven
counts that numbers and names have. The share of summaries that gained one, less the share that lost one, has one-sided 99%
bounds (Tango 1998), which are compared with a margin that was fixed beforehand. Shares of new words are compared as ROUGE-1 is,
and never fail: a summary in new words need not be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from summarybench.analysis.quality_change import (
    INTERVAL_CONFIDENCE,
    MINIMUM_MORE_DOCUMENTS,
    QUALITY_LEVEL,
    PairedDifference,
    describe_undecided_loss,
    judge,
    paired_difference,
)
from summarybench.core.numbers import decimal, interval, significant
from summarybench.core.outcomes import QualityVerdict
from summarybench.runs.comparison_records import FaithfulnessChangeRecord, NovelChangeRecord, NovelShareRecord
from summarybench.runs.run_file import Entry
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.intervals import Interval
from summarybench.stats.paired_proportions import mcnemar_p_value, score_interval

FAITHFULNESS_MARGIN = 0.05
"""A smaller net share of summaries that gained a new number, date or name counts as none."""
NOVEL_SHARE_MARGIN = 0.05
"""The same for the mean share of new words."""
COUNTED = {"novel_numbers": "numbers", "novel_dates": "dates", "novel_names": "names"}
"""What may fail, and what it is called."""
SHARES = {"novel_words": "words", "novel_bigrams": "pairs", "novel_trigrams": "triples"}
"""What is reported beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NovelChange:
    """Summaries that have new numbers (dates, names) only now (`more`) or only had them before (`fewer`), of `documents`.

    `are_same_texts` says that no summary has changed, so that there is no uncertainty.
    """

    before: int
    more: int
    fewer: int
    documents: int
    are_same_texts: bool = False

    @property
    def mean(self) -> float:
        """The net share of summaries that gained some, −1 to 1."""
        return (self.more - self.fewer) / self.documents

    @property
    def bounds(self) -> Interval:
        """Its lower and upper bound, each one-sided at 99%."""
        if self.are_same_texts:
            return Interval(low=0.0, high=0.0, confidence=INTERVAL_CONFIDENCE)
        return score_interval(self.more, self.fewer, self.documents, INTERVAL_CONFIDENCE)

    @property
    def p_value(self) -> float:
        return mcnemar_p_value(self.more, self.fewer)

    @property
    def is_relevant(self) -> bool:
        """Whether the loss is large enough to fail, whatever its p-value."""
        return _is_relevant(self.mean, self.more - self.fewer, FAITHFULNESS_MARGIN)

    @property
    def verdict(self) -> QualityVerdict:
        if self.is_relevant and self.p_value <= QUALITY_LEVEL:
            return QualityVerdict.INFERIOR
        if self.bounds.high < FAITHFULNESS_MARGIN:
            return QualityVerdict.NON_INFERIOR
        return QualityVerdict.INCONCLUSIVE

    def as_record(self) -> NovelChangeRecord:
        return {
            "verdict": self.verdict.value,
            "before": self.before,
            "more": self.more,
            "fewer": self.fewer,
            "documents": self.documents,
            "mean": self.mean,
            "low": self.bounds.low,
            "high": self.bounds.high,
            "p_value": self.p_value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FaithfulnessComparison:
    """One experiment's faithfulness compared with another's.

    `counted` is by the keys of COUNTED and `shares` by those of SHARES, without what too few documents have.
    """

    against: str
    changed_summaries: int
    counted: Mapping[str, NovelChange]
    shares: Mapping[str, PairedDifference]
    level: float = QUALITY_LEVEL

    def as_extra_info(self) -> FaithfulnessChangeRecord:
        """The key `faithfulness_change` of the run file."""
        return {
            "verdict": overall([each.verdict for each in self.counted.values()]).value,
            "baseline": self.against,
            "changed_summaries": self.changed_summaries,
            "confidence": INTERVAL_CONFIDENCE,
            "margin": FAITHFULNESS_MARGIN,
            "level": self.level,
            "counted": {key: each.as_record() for key, each in self.counted.items()},
            "shares": {key: _share_record(each) for key, each in self.shares.items()},
        }

    @property
    def faults(self) -> tuple[str, ...]:
        """One phrase if summaries with new numbers, dates or names are certainly more at the comparison's level."""
        if not any(each.is_relevant and each.p_value <= self.level for each in self.counted.values()):
            return ()
        return (f"faithfulness {QualityVerdict.INFERIOR} {describe_faithfulness(self.as_extra_info())}",)


def _is_relevant(mean: float, net_more: int, margin: float) -> bool:
    """Whether a loss is large enough to fail: by its share of the documents, and by their number."""
    return mean >= margin and net_more >= MINIMUM_MORE_DOCUMENTS


def overall(verdicts: Sequence[QualityVerdict]) -> QualityVerdict:
    """The worst of several verdicts."""
    order = (QualityVerdict.INFERIOR, QualityVerdict.INCONCLUSIVE, QualityVerdict.NON_INFERIOR)
    return min(verdicts, key=order.index)


def compare_faithfulness(now: Entry, before: Entry, against: str) -> FaithfulnessComparison | None:
    """Compare the summaries of one entry with another's, over the documents that both summarized.

    None where one of the two does not record faithfulness, or the documents are fewer than MINIMUM_COMMON_DOCUMENTS. The caller
    makes sure that both summarized the same prompts.
    """
    here, there = _by_document(now), _by_document(before)
    common = [each for each in here if each in there]
    counted = {key: change for key in COUNTED if (change := _novel_change(key, here, there, common))}
    if not counted:
        return None
    return FaithfulnessComparison(
        against=against,
        changed_summaries=sum(here[each]["sha256"] != there[each]["sha256"] for each in common),
        counted=counted,
        shares={key: found for key in SHARES if (found := _share_change(key, here, there, common))},
    )


_Figures = Mapping[str, Mapping[str, Any]]
"""The figures of each document's summary and its digest, by document id."""


def _by_document(entry: Entry) -> _Figures:
    info = entry.extra_info
    if info["faithfulness"] is None:
        return {}
    lists = {**cast(dict[str, list[Any]], info["faithfulness"]), "sha256": info["summary_sha256"]}
    return {
        document_id: {key: values[place] for key, values in lists.items()}
        for place, document_id in enumerate(info["document_ids"])
    }


def _pairs(key: str, here: _Figures, there: _Figures, common: Sequence[str]) -> list[tuple[Any, Any]]:
    """The figure now and before, of the documents that have it in both; empty for too few."""
    found = [(here[each][key], there[each][key]) for each in common]
    known = [pair for pair in found if None not in pair]
    return known if len(known) >= MINIMUM_COMMON_DOCUMENTS else []


def _novel_change(key: str, here: _Figures, there: _Figures, common: Sequence[str]) -> NovelChange | None:
    pairs = _pairs(key, here, there, common)
    if not pairs:
        return None
    return NovelChange(
        before=sum(b > 0 for _, b in pairs),
        more=sum(a > 0 and b == 0 for a, b in pairs),
        fewer=sum(a == 0 and b > 0 for a, b in pairs),
        documents=len(pairs),
        are_same_texts=all(here[each]["sha256"] == there[each]["sha256"] for each in common),
    )


def _share_change(key: str, here: _Figures, there: _Figures, common: Sequence[str]) -> PairedDifference | None:
    """The difference of the words that are not new, so that more is better, as with ROUGE."""
    pairs = _pairs(key, here, there, common)
    return paired_difference([1 - a for a, _ in pairs], [1 - b for _, b in pairs]) if pairs else None


def _share_record(difference: PairedDifference) -> NovelShareRecord:
    """Turned round: more new words are a positive difference."""
    bounds = difference.bounds
    return {
        "verdict": judge(difference, NOVEL_SHARE_MARGIN).value,
        "mean": -difference.mean,
        "low": -bounds.high,
        "high": -bounds.low,
        "documents": difference.documents,
    }


def describe_faithfulness(facts: FaithfulnessChangeRecord, *, is_confirmed: bool | None = None) -> str:
    """Describe a `faithfulness_change` of a run file; the verdict's word precedes it. All figures are in points.

    `is_confirmed` says what Holm's correction decided; None while comparisons of the session are missing.
    """
    relation = "against" if facts["verdict"] == QualityVerdict.INCONCLUSIVE else "to"
    counted = "; ".join(_describe_one(key, each) for key, each in facts["counted"].items())
    margin = decimal(100 * facts["margin"], 0)
    shares = "; ".join(f"new {SHARES[key]} {_points(each, 1)}" for key, each in facts["shares"].items())
    parts = (f"{relation} {facts['baseline']}: {counted}", f"margin {margin}", shares)
    lost = [each["p_value"] for each in facts["counted"].values() if each["verdict"] == QualityVerdict.INFERIOR]
    undecided = describe_undecided_loss(min(lost), facts["level"], is_confirmed=is_confirmed) if lost else ""
    return "; ".join(part for part in parts if part) + undecided


def _describe_one(key: str, facts: NovelChangeRecord) -> str:
    counts = f"{facts['more']} more and {facts['fewer']} fewer of {facts['documents']}"
    p_value = "" if facts["more"] + facts["fewer"] == 0 else f", p {significant(facts['p_value'], 2)}"
    return f"summaries with new {COUNTED[key]} {_points(facts, 0)} ({counts}{p_value})"


def _points(facts: NovelChangeRecord | NovelShareRecord, digits: int) -> str:
    bounds = interval(100 * facts["low"], 100 * facts["high"], digits, signed=True)
    return f"{decimal(100 * facts['mean'], digits, signed=True)} points {bounds}"


def p_values_of_faithfulness(change: FaithfulnessChangeRecord) -> Iterator[tuple[str, float]]:
    """What each test of a comparison would report, and its p-value; 1 for a loss that is too small to fail.

    Tests that cannot fail because so few summaries changed are left out, as McNemar's tests of other outputs are.
    """
    for key, each in change["counted"].items():
        if 0.5 ** (each["more"] + each["fewer"]) <= QUALITY_LEVEL:
            is_relevant = _is_relevant(each["mean"], each["more"] - each["fewer"], change["margin"])
            yield (
                f"faithfulness {QualityVerdict.INFERIOR} to {change['baseline']}: more summaries with new {COUNTED[key]}",
                each["p_value"] if is_relevant else 1.0,
            )
