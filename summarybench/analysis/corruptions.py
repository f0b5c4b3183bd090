"""A check of the metrics: summaries that are spoiled on purpose, and what each metric says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from summarybench.analysis.faithfulness import LENGTH_BAND, NAME, NUMBER, Faithfulness, faithfulness_of, marks_in
from summarybench.analysis.quality import is_repeating, lead3
from summarybench.analysis.rouge import rouge_f1
from summarybench.core.outcomes import InputError

FOREIGN_NUMBER, FOREIGN_NAME = "4711", "Zebulon"
"""What no document has."""
REPEATED_WORDS = 8
FEWEST_SUMMARIES = 2
"""One summary cannot be exchanged for another document's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarized:
    """A document, its reference and a summary of it."""

    text: str
    reference: str
    summary: str


Corruption = Callable[[Sequence[Summarized], int], str]
"""Makes the spoiled summary of the document with this number."""


def _changed(kind: str, other: str) -> Corruption:
    """The first number (or name) replaced by another, or one put before the last word where there is none."""

    def spoiled(samples: Sequence[Summarized], number: int) -> str:
        one = samples[number]
        found = next((each for each in marks_in(one.summary, one.text) if each.kind == kind), None)
        if found is not None:
            return f"{one.summary[: found.start]}{other}{one.summary[found.end :]}"
        start, blank, last = one.summary.rstrip().rpartition(" ")
        return f"{start}{blank}{other} {last}"

    return spoiled


def _first_half(samples: Sequence[Summarized], number: int) -> str:
    words = samples[number].summary.split()
    return " ".join(words[: len(words) // 2])


def _repeating(samples: Sequence[Summarized], number: int) -> str:
    """Its first words over and over, as long as before, or long enough to be found."""
    words = samples[number].summary.split()
    some = words[:REPEATED_WORDS] or [FOREIGN_NAME]
    return " ".join((some * len(words))[: max(len(words), 4 * len(some))])


CORRUPTIONS: Mapping[str, Corruption] = {
    "as the model wrote it": lambda samples, number: samples[number].summary,
    "the document's first three sentences (lead-3)": lambda samples, number: lead3(samples[number].text),
    "another document's summary": lambda samples, number: samples[(number + 1) % len(samples)].summary,
    "one number changed, or one added": _changed(NUMBER, FOREIGN_NUMBER),
    "one name changed, or one added": _changed(NAME, FOREIGN_NAME),
    "cut off after half of its words": _first_half,
    "its first eight words over and over": _repeating,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """The metrics of all summaries with one corruption. Shares and means are over summaries."""

    corruption: str
    rouge1: float
    rouge2: float
    repeating: int
    new_words: float
    with_new_numbers: int
    with_new_names: int
    coverage: float
    density: float
    compression: float
    length_ratio: float
    in_band: float


def check_metrics(samples: Sequence[Summarized]) -> list[MetricRow]:
    """One row for each corruption. Raises InputError for too few summaries, or for texts without words or references."""
    if len(samples) < FEWEST_SUMMARIES:
        raise InputError(f"{len(samples)} scored summaries, and {FEWEST_SUMMARIES} are needed; measure more documents")
    return [_row(name, spoil, samples) for name, spoil in CORRUPTIONS.items()]


def _row(name: str, spoil: Corruption, samples: Sequence[Summarized]) -> MetricRow:
    spoiled = [spoil(samples, number) for number in range(len(samples))]
    pairs = list(zip(spoiled, samples, strict=True))
    scores = [rouge_f1(summary, one.reference, ("rouge1", "rouge2")) for summary, one in pairs]
    found = [faithfulness_of(summary, one.text, one.reference) for summary, one in pairs]
    return MetricRow(
        corruption=name,
        rouge1=fmean(each["rouge1"] for each in scores),
        rouge2=fmean(each["rouge2"] for each in scores),
        repeating=sum(is_repeating(summary) for summary in spoiled),
        new_words=_mean(found, "novel_words"),
        with_new_numbers=sum(each.novel_numbers > 0 for each in found),
        with_new_names=sum((each.novel_names or 0) > 0 for each in found),
        coverage=_mean(found, "coverage"),
        density=_mean(found, "density"),
        compression=_mean(found, "compression"),
        length_ratio=_mean(found, "length_ratio"),
        in_band=fmean(LENGTH_BAND[0] <= (each.length_ratio or 0) <= LENGTH_BAND[1] for each in found),
    )


def _mean(found: Sequence[Faithfulness], name: str) -> float:
    """Over the summaries that have the figure. Raises InputError if none has."""
    values = [value for each in found if (value := getattr(each, name)) is not None]
    if not values:
        raise InputError(f"no summary has {name}: the texts have no words, or no references")
    return fmean(values)
