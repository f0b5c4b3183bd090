"""Score summaries: ROUGE against the reference, the floor, and empty or repeating summaries."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Protocol

from summarybench.analysis.faithfulness import Faithfulness, faithfulness_of
from summarybench.analysis.rouge import rouge_f1
from summarybench.analysis.targets import Target, assert_targets_reached
from summarybench.catalogue.floors import Floor
from summarybench.core.numbers import counted, decimal, percent
from summarybench.core.outcomes import QualityError
from summarybench.documents.document import Document
from summarybench.documents.languages import ENGLISH, Language
from summarybench.documents.words import has_words, spaced_words
from summarybench.runs.run_file import ROUGE_TYPES
from summarybench.stats.intervals import ALARM_CONFIDENCE, Interval, mean_interval, mean_upper_bound

LONGEST_LEAD_WORDS = 1_000
"""Longer text is no lead: some documents have no full stop."""
LONGEST_LEAD_CHARACTERS = 10 * LONGEST_LEAD_WORDS
"""The same for languages that may have no spaces. English keeps to words alone, so that its figures do not change."""


class TimedSummary(Protocol):
    """The parts of a timed document that scoring needs."""

    @property
    def document_id(self) -> str: ...

    @property
    def summary(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Scores by document, in document order, and figures derived from them. All ROUGE figures are F1, 0 to 1.

    The score of a document without a reference is None, and without any reference there are no scores. Whether summaries are
    empty or repeating is known all the same.
    """

    scores: Mapping[str, tuple[float | None, ...]]
    rouge1_interval: Interval | None
    lead3_rouge1: float | None
    """The mean score of the documents' first three sentences, to compare the summaries' score with."""
    floor: Floor | None
    degenerate_document_ids: Mapping[str, tuple[str, ...]]
    """Documents with summaries that only look fast, by kind: `empty` and `repeating`."""
    faithfulness: tuple[Faithfulness, ...] = ()
    """Of each summary, in document order, whether it has a reference or not."""
    targets: tuple[Target, ...] = ()
    """What the session's profile requires."""

    @property
    def means(self) -> dict[str, float | None]:
        """The mean of each score; None without references."""
        return {name: fmean(known_scores(scores)) if scores else None for name, scores in self.scores.items()}


def score(
    records: Sequence[TimedSummary],
    documents: Sequence[Document],
    floor: Floor | None,
    language: Language = ENGLISH,
) -> Quality:
    """Score exactly the summaries that were timed. `documents` are in the order of `records`.

    A document without words has no lead to score.
    """
    rouge = [
        rouge_f1(record.summary, document.reference, language=language)
        if document.reference
        else dict.fromkeys(ROUGE_TYPES)
        for record, document in zip(records, documents, strict=True)
    ]
    referenced = [document for document in documents if document.reference]
    scores = {name: tuple(found[name] for found in rouge) if referenced else () for name in ROUGE_TYPES}
    leads = [
        rouge_f1(lead3(each.text, language), each.reference, ("rouge1",), language)["rouge1"]
        for each in referenced
        if has_words(each.text)
    ]
    return Quality(
        scores=scores,
        rouge1_interval=_within_0_and_1(mean_interval(known_scores(scores["rouge1"]))) if referenced else None,
        lead3_rouge1=fmean(leads) if leads else None,
        floor=floor if referenced else None,
        degenerate_document_ids={
            kind: tuple(record.document_id for record in records if has_it(record.summary, language))
            for kind, has_it in DEGENERATE.items()
        },
        faithfulness=tuple(
            faithfulness_of(record.summary, document.text, document.reference, language)
            for record, document in zip(records, documents, strict=True)
        ),
    )


def known_scores(scores: Iterable[float | None]) -> list[float]:
    """The scores of the documents that have a reference."""
    return [each for each in scores if each is not None]


def _within_0_and_1(interval: Interval | None) -> Interval | None:
    """An interval of F1. Student's t knows no limits, and a mean near 0 would reach below it."""
    return interval and replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high))


def assert_rouge_floor(quality: Quality | None) -> None:
    """Raises QualityError if the one-sided 99% upper bound of mean ROUGE-1 is below the floor, or a profile's target is missed.

    The bound counts the sampling error of the floor too, so that a model as good as the floor's fails in 1% of samples.
    """
    if quality is None:
        return
    assert_targets_reached(quality.targets)
    if quality.floor is None:
        return
    scores = known_scores(quality.scores["rouge1"])
    mean = fmean(scores)
    bound = mean_upper_bound(scores, other_size=quality.floor.documents or math.inf)
    if bound < quality.floor.rouge1:
        raise QualityError(
            f"ROUGE-1 {decimal(mean, 3)} is below its floor: "
            f"at most {decimal(bound, 3)} (one-sided {percent(ALARM_CONFIDENCE)}{_sampling_of(quality.floor)}), "
            f"floor {decimal(quality.floor.rouge1, 3)} ({quality.floor.origin})"
        )


def _sampling_of(floor: Floor) -> str:
    return "" if floor.documents is None else f" for a mean of {counted(floor.documents, 'document')}"


def lead3(text: str, language: Language = ENGLISH) -> str:
    """The first three sentences of a document, as far as its first LONGEST_LEAD_WORDS words."""
    lead = " ".join(language.sentences(text)[:3])
    if not language.is_english:
        lead = lead[:LONGEST_LEAD_CHARACTERS]
    return " ".join(lead.split(" ", LONGEST_LEAD_WORDS)[:LONGEST_LEAD_WORDS])


def is_empty(summary: str, language: Language = ENGLISH) -> bool:  # noqa: ARG001  # called as `is_repeating` is
    """Whether a summary is empty or only whitespace: it ends at once and looks fast."""
    return not summary.strip()


def is_repeating(summary: str, language: Language = ENGLISH) -> bool:
    """Whether fewer than half of the three-word sequences are distinct, in a summary of 24 words or more.

    English is split at blanks, and there characters of scripts without spaces count as words.
    """
    found = spaced_words(summary) if language.is_english else language.words(summary)
    trigrams = list(zip(found, found[1:], found[2:], strict=False))
    return len(found) >= 24 and len(set(trigrams)) < len(trigrams) / 2


class Degeneration(Protocol):
    """A test for summaries that only look fast."""

    def __call__(self, summary: str, language: Language = ENGLISH) -> bool: ...


DEGENERATE: Mapping[str, Degeneration] = {"empty": is_empty, "repeating": is_repeating}
"""The kinds of summaries that only look fast, and the test for each."""
