"""Percentiles and confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles, stdev

ALARM_CONFIDENCE = 0.99
"""The one-sided confidence of a verdict that can fail a build."""
INTERVAL_CONFIDENCE = 0.95
"""The two-sided confidence of the intervals in reports."""


def percentile(values: Sequence[float], percent: int) -> float | None:
    """A percentile in the unit of `values`.

    It is interpolated linearly, as by numpy's default.

    None for fewer than 100 ÷ (100 − percent) values: the p95 of 8 documents would only be their maximum.
    """
    if len(values) < max(2, 100 / (100 - percent)):
        return None
    return quantiles(values, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float
    confidence: float


def bootstrap_mean_interval(values: Sequence[float], confidence: float = INTERVAL_CONFIDENCE) -> Interval | None:
    """The percentile bootstrap interval of the mean.

    It takes 9,999 resamples with a fixed seed. None for fewer than 2 values.
    """
    if len(values) < 2:
        return None
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,), fmean, vectorized=False, n_resamples=9_999, confidence_level=confidence, method="percentile", rng=0
    )
    return Interval(
        low=float(found.confidence_interval.low), high=float(found.confidence_interval.high), confidence=confidence
    )


def mean_upper_bound(values: Sequence[float], confidence: float = ALARM_CONFIDENCE) -> float:
    """The one-sided upper confidence bound of the mean.

    By Student's t; infinite for fewer than 2 values.

    A bootstrap of few values would be too narrow at 99%.
    """
    if len(values) < 2:
        return math.inf
    return fmean(values) + student_quantile(confidence, len(values) - 1) * stdev(values) / math.sqrt(len(values))


def student_quantile(probability: float, degrees_of_freedom: float) -> float:
    """A quantile of Student's t distribution; `degrees_of_freedom` may be infinite."""
    from scipy.stats import t

    return float(t.ppf(probability, degrees_of_freedom))
