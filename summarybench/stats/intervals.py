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


def mean_interval(values: Sequence[float], confidence: float = INTERVAL_CONFIDENCE) -> Interval | None:
    """The two-sided interval of the mean by Student's t. None for fewer than 2 values.

    A percentile bootstrap of 8 values covers only 87% where it claims 95%.
    """
    if len(values) < 2:
        return None
    mean = fmean(values)
    reach = student_quantile((1 + confidence) / 2, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(low=mean - reach, high=mean + reach, confidence=confidence)


def mean_upper_bound(
    values: Sequence[float], confidence: float = ALARM_CONFIDENCE, *, other_size: float = math.inf
) -> float:
    """The one-sided upper confidence bound of the mean.

    By Student's t; infinite for fewer than 2 values. With `other_size` it bounds the mean of another sample of so many
    values of the same distribution.
    """
    if len(values) < 2:
        return math.inf
    error = stdev(values) * math.sqrt(1 / len(values) + 1 / other_size)
    return fmean(values) + student_quantile(confidence, len(values) - 1) * error


def student_quantile(probability: float, degrees_of_freedom: float) -> float:
    """A quantile of Student's t distribution; `degrees_of_freedom` may be infinite, `probability` lies between 0 and 1."""
    from scipy.special import stdtrit  # as scipy.stats.t.ppf, which takes 46 MB and a second to import

    return float(stdtrit(degrees_of_freedom, probability))


def student_probability(value: float, degrees_of_freedom: float) -> float:
    """The probability that a value of Student's t distribution is at most `value`; `degrees_of_freedom` may be infinite."""
    from scipy.special import stdtr  # as scipy.stats.t.cdf

    return float(stdtr(degrees_of_freedom, value))
