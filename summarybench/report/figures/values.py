"""What many figures share: formats, and values that are made from records of the run file."""

from __future__ import annotations

from summarybench.core.numbers import GIB
from summarybench.report.figures.figure import Estimate, Format, Percentiles
from summarybench.runs.comparison_records import ChangeRecord, RatioInterval
from summarybench.stats.intervals import percentile

COUNT = Format(spec="d")
WORD = Format(spec="")
TENTHS, HUNDREDTHS, THOUSANDTHS = (Format(spec=f".{digits}f") for digits in (1, 2, 3))
WHOLE_PERCENT = Format(spec=".0%")
IN_GIB = Format(spec=".2f", divisor=GIB)


def estimate_of(facts: RatioInterval | ChangeRecord | None) -> Estimate | None:
    """A ratio of a run file with its interval."""
    return None if facts is None else Estimate(facts["ratio"], facts["low"], facts["high"])


def percentiles(values: list[float]) -> Percentiles:
    return Percentiles(percentile(values, 50), percentile(values, 95))
