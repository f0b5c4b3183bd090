"""What summaries have that their documents do not, how much they copy, and how long they are."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any, cast

from summarybench.analysis.faithfulness import LENGTH_BAND
from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Figure, Group, Value
from summarybench.report.figures.values import COUNT, HUNDREDTHS, TENTHS, WHOLE_PERCENT


def _values(experiment: ExperimentView, name: str) -> list[float]:
    """The known values of a list of `faithfulness`; none where the run does not have it."""
    record = cast(dict[str, Any] | None, experiment.info["faithfulness"])
    return [] if record is None else [each for each in record[name] if each is not None]


def _mean_of(name: str) -> Callable[[ExperimentView], Value]:
    def value(experiment: ExperimentView) -> Value:
        found = _values(experiment, name)
        return fmean(found) if found else None

    return value


def _summaries_with(novel: str, among: str) -> Callable[[ExperimentView], Value]:
    """How many summaries have any that are novel; None where no summary has any at all, and so none could be."""

    def value(experiment: ExperimentView) -> Value:
        return sum(each > 0 for each in _values(experiment, novel)) if any(_values(experiment, among)) else None

    return value


def _in_band(experiment: ExperimentView) -> Value:
    found = _values(experiment, "length_ratio")
    return fmean(LENGTH_BAND[0] <= each <= LENGTH_BAND[1] for each in found) if found else None


NOVEL_WORDS = Figure(
    key="novel-words",
    name="New words",
    heading="new words",
    short="new\nwords",
    format=WHOLE_PERCENT,
    value=_mean_of("novel_words"),
    definition=(
        "The share of a summary's distinct words that its document does not have anywhere; the mean over summaries. Rewording "
        "makes new words, and so does invention."
    ),
)
NOVEL_BIGRAMS = Figure(
    key="novel-bigrams",
    name="New word pairs",
    heading="new word pairs",
    short="new\npairs",
    format=WHOLE_PERCENT,
    value=_mean_of("novel_bigrams"),
    definition="The share of a summary's distinct pairs of neighbouring words that its document does not have; the mean.",
)
NOVEL_TRIGRAMS = Figure(
    key="novel-trigrams",
    name="New word triples",
    heading="new word triples",
    short="new\ntriples",
    format=WHOLE_PERCENT,
    value=_mean_of("novel_trigrams"),
    definition="The same for three words in a row.",
)
NOVEL_NUMBERS = Figure(
    key="novel-numbers",
    name="With new numbers",
    heading="with new numbers",
    short="new\nnum-\nbers",
    format=COUNT,
    better=Better.LOWER,
    value=_summaries_with("novel_numbers", "numbers"),
    definition=(
        "Summaries with a number that their document does not have, however it is written: 1,000 is 1000 and 3½ is 3.5, and in "
        "English three is 3. A sum that the model worked out counts as new. – where no summary has a number."
    ),
)
NOVEL_DATES = Figure(
    key="novel-dates",
    name="With new dates",
    heading="with new dates",
    short="new\ndates",
    format=COUNT,
    better=Better.LOWER,
    value=_summaries_with("novel_dates", "dates"),
    definition=(
        "Summaries with a date that their document does not have: a month with a day or a year. 5 March 2020 is 2020-03-05. "
        "– where no summary has a date."
    ),
)
NOVEL_NAMES = Figure(
    key="novel-names",
    name="With new names",
    heading="with new names",
    short="new\nnames",
    format=COUNT,
    better=Better.LOWER,
    value=_summaries_with("novel_names", "names"),
    definition=(
        "Summaries with a capitalized word inside a sentence that their document does not have, capitalized or not. – where no "
        "summary has a name, in scripts without capital letters, and in German, where every noun has one."
    ),
)
COVERAGE = Figure(
    key="coverage",
    name="Coverage",
    heading="coverage",
    short="cov-\nered",
    format=WHOLE_PERCENT,
    value=_mean_of("coverage"),
    definition=(
        "The share of a summary's words that belong to fragments copied from its document (Grusky, Naaman and Artzi 2018); the "
        "mean over summaries."
    ),
)
DENSITY = Figure(
    key="density",
    name="Density",
    heading="density",
    short="den-\nsity",
    format=TENTHS,
    value=_mean_of("density"),
    definition=(
        "The sum of the squared lengths of the copied fragments ÷ the summary's words (same source): how long the copied pieces "
        "are. lead-3 has a density near its length; a summary in new words one near 1."
    ),
)
COMPRESSION = Figure(
    key="compression",
    name="Compression",
    heading="compression",
    short="com-\npres-\nsion",
    format=TENTHS,
    value=_mean_of("compression"),
    definition="The document's words ÷ the summary's (same source); the mean over summaries.",
)
LENGTH_RATIO = Figure(
    key="length-ratio",
    name="Length ratio",
    heading="length ÷ reference",
    short="len.\nratio",
    format=HUNDREDTHS,
    value=_mean_of("length_ratio"),
    definition="The summary's words ÷ the reference summary's; the mean over summaries.",
)
IN_BAND = Figure(
    key="in-band",
    name="In the length band",
    heading="0.9 to 1.1 × reference",
    short="in\nband",
    format=WHOLE_PERCENT,
    value=_in_band,
    definition=(
        "The share of summaries that are 0.9 to 1.1 times as long as their reference. MLPerf Inference holds the mean length of "
        "a whole run to this band, against its own reference implementation; here it is each summary against its reference."
    ),
)

GROUP = Group(
    title="Faithfulness",
    terms=(
        NOVEL_WORDS,
        NOVEL_BIGRAMS,
        NOVEL_TRIGRAMS,
        NOVEL_NUMBERS,
        NOVEL_DATES,
        NOVEL_NAMES,
        COVERAGE,
        DENSITY,
        COMPRESSION,
        LENGTH_RATIO,
        IN_BAND,
    ),
)
