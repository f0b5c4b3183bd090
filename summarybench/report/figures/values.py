"""What many figures share: formats, and how a value is taken from the run file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from summarybench.core.numbers import GIB
from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Estimate, Format, Percentiles, Value
from summarybench.stats.changes import percentile

COUNT = Format(spec="d")
WORD = Format(spec="")
TENTHS, HUNDREDTHS, THOUSANDTHS = (Format(spec=f".{digits}f") for digits in (1, 2, 3))
WHOLE_PERCENT = Format(spec=".0%")
IN_GIB = Format(spec=".2f", divisor=GIB)


def stored(key: str) -> Callable[[ExperimentView], Value]:
    """The figure that the run file holds under this key; KeyError if there is none."""
    return lambda experiment: experiment.info[key]


def stored_if_known(key: str) -> Callable[[ExperimentView], Value]:
    """The same for a figure that older runs and some devices lack."""
    return lambda experiment: experiment.info.get(key)


def counted(key: str) -> Callable[[ExperimentView], int]:
    """The number of elements of a list in the run file."""
    return lambda experiment: len(experiment.info[key])


def estimate_of(facts: Mapping[str, Any] | None) -> Estimate | None:
    """A ratio of a run file with its interval."""
    return None if facts is None else Estimate(facts["ratio"], facts.get("low"), facts.get("high"))


def percentiles(values: list[float]) -> Percentiles:
    return Percentiles(percentile(values, 50), percentile(values, 95))
