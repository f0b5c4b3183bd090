"""Score summaries: ROUGE against the reference, the floor, and empty or repeating summaries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any, Protocol

from summarybench.catalogue.floors import Floor
from summarybench.core.numbers import decimal, percent
from summarybench.core.outcomes import QualityError
from summarybench.documents.document import Document
from summarybench.runs.run_file import ROUGE_TYPES
from summarybench.stats.intervals import ALARM_CONFIDENCE, Interval, bootstrap_mean_interval, mean_upper_bound


class TimedSummary(Protocol):
    """The parts of a timed document that scoring needs."""

    @property
    def document_id(self) -> str: ...

    @property
    def summary(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Scores by document, in document order, and figures derived from them. All ROUGE figures are F1, 0 to 1."""

    scores: Mapping[str, tuple[float, ...]]
    rouge1_interval: Interval | None
    lead3_rouge1: float
    """The mean score of the documents' first three sentences, to compare the summaries' score with."""
    floor: Floor | None
    degenerate_document_ids: Mapping[str, tuple[str, ...]]
    """Documents with summaries that only look fast, by kind: `empty` and `repeating`."""

    @property
    def means(self) -> dict[str, float]:
        return {name: fmean(scores) for name, scores in self.scores.items()}


def score(records: Sequence[TimedSummary], documents: Sequence[Document], floor: Floor | None) -> Quality:
    """Score exactly the summaries that were timed. `documents` are in the order of `records`."""
    pairs = list(zip(records, documents, strict=True))
    rouge = [rouge_f1(record.summary, document.reference) for record, document in pairs]
    scores = {name: tuple(found[name] for found in rouge) for name in ROUGE_TYPES}
    return Quality(
        scores=scores,
        rouge1_interval=bootstrap_mean_interval(scores["rouge1"]),
        lead3_rouge1=fmean(rouge_f1(lead3(document.text), document.reference)["rouge1"] for document in documents),
        floor=floor,
        degenerate_document_ids={
            kind: tuple(record.document_id for record in records if has_it(record.summary))
            for kind, has_it in DEGENERATE.items()
        },
    )


def assert_rouge_floor(quality: Quality | None) -> None:
    """Raises QualityError if the one-sided 99% upper bound of mean ROUGE-1 is below the floor."""
    if quality is None or quality.floor is None:
        return
    bound = mean_upper_bound(quality.scores["rouge1"])
    if bound < quality.floor.rouge1:
        raise QualityError(
            f"ROUGE-1 {decimal(quality.means['rouge1'], 3)} is below its floor: "
            f"at most {decimal(bound, 3)} (one-sided {percent(ALARM_CONFIDENCE)}), "
            f"floor {decimal(quality.floor.rouge1, 3)} ({quality.floor.origin})"
        )


def rouge_f1(summary: str, reference: str) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-Lsum F1 (rouge_score with stemming), with one sentence per line."""
    found = _scorer().score(_sentence_lines(reference), _sentence_lines(summary))
    return {name: float(found[name].fmeasure) for name in ROUGE_TYPES}


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGE_TYPES), use_stemmer=True)


def _sentences(text: str) -> list[str]:
    """Split after sentence-ending punctuation and at line ends. rouge_score's own splitter would download a model."""
    return [sentence for sentence in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if sentence]


def _sentence_lines(text: str) -> str:
    return "\n".join(_sentences(text))


def lead3(text: str) -> str:
    """The first three sentences of a document."""
    return " ".join(_sentences(text)[:3])


def is_empty(summary: str) -> bool:
    """Whether a summary is empty or only whitespace: it ends at once and looks fast."""
    return not summary.strip()


def is_repeating(summary: str) -> bool:
    """Whether fewer than half of the three-word sequences are distinct, in a summary of 24 words or more."""
    words = summary.lower().split()
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(words) >= 24 and len(set(trigrams)) < len(trigrams) / 2


DEGENERATE: Mapping[str, Callable[[str], bool]] = {"empty": is_empty, "repeating": is_repeating}
"""The kinds of summaries that only look fast, and the test for each."""
