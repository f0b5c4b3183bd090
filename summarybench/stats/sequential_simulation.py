"""Simulated series for the test in sequential.py: its thresholds, and after how many nights it finds a slowdown.

The functions on arrays do for many series at once what `cusum` does for one, which tests compare.
`python -m summarybench.stats.sequential_simulation` prints the thresholds.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from summarybench.core.numbers import decimal, significant
from summarybench.stats.decision import REGRESSION_RATIO
from summarybench.stats.sequential import (
    ALLOWANCES,
    FALSE_ALARMS_PER_NIGHT,
    FEWEST_NIGHTS,
    LARGEST_ALLOWANCE,
    LARGEST_DEVIATIONS,
    LARGEST_STATISTIC,
    LARGEST_STEP,
    LEAST_DEVIATION,
    NIGHTS_TO_FIND,
    NORMAL_QUARTILE,
    SETTLED_NIGHT,
    SOUGHT_RATIO,
    THRESHOLDS_SETTLED,
    THRESHOLDS_WHILE_GROWING,
    reference_nights_of,
)

TRIALS = 10_000
"""How many series the thresholds are simulated with."""
DETECTION, DETECTION_TRIALS = 0.95, 1_000
Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What each night is held against: means and deviations of one night, [trials, nights]. Untested nights have zeros."""

    mean: Numbers
    deviation: Numbers

    def allowances(self, sought: float) -> Numbers:
        """Half of the sought slowdown, a positive logarithm, in standard deviations; at most LARGEST_ALLOWANCE."""
        with np.errstate(divide="ignore"):
            return np.minimum(sought / 2 / self.deviation, LARGEST_ALLOWANCE)


def references_of(log_speeds: Numbers, least_deviation: float = LEAST_DEVIATION) -> References:
    """`reference_of` each tested night of series [trials, nights]."""
    mean, deviation = np.zeros_like(log_speeds), np.zeros_like(log_speeds)
    sizes = np.abs(np.diff(log_speeds, axis=1))
    means: dict[int, Numbers] = {}
    for night in range(FEWEST_NIGHTS, log_speeds.shape[1]):
        nights = reference_nights_of(night)
        if nights not in means:
            means[nights] = _winsorized_mean(log_speeds[:, :nights])
        mean[:, night] = means[nights]
        before = sizes[:, : night - 1]
        reach = LARGEST_DEVIATIONS * np.median(before, axis=1, keepdims=True) / NORMAL_QUARTILE
        deviation[:, night] = np.sqrt((np.minimum(before, reach) ** 2).mean(axis=1) / 2)
    deviation[:, FEWEST_NIGHTS:] = np.maximum(deviation[:, FEWEST_NIGHTS:], least_deviation)
    return References(mean=mean, deviation=deviation)


def _winsorized_mean(first: Numbers) -> Numbers:
    middle = np.median(first, axis=1, keepdims=True)
    reach = LARGEST_DEVIATIONS * np.median(np.abs(first - middle), axis=1, keepdims=True) / NORMAL_QUARTILE
    mean: Numbers = np.clip(first, middle - reach, middle + reach).mean(axis=1)
    return mean


def alarms_of(log_speeds: Numbers) -> Flags:
    """Whether each night of series [trials, nights] has an alarm, by the rules of `cusum`."""
    references = references_of(log_speeds)
    allowances = references.allowances(-math.log(SOUGHT_RATIO))
    thresholds = _thresholds_of(allowances)
    trials, nights = log_speeds.shape
    alarmed = np.zeros((trials, nights), dtype=np.bool_)
    total, shortfall, since = np.zeros(trials), np.zeros(trials), np.zeros(trials)
    active = np.zeros(trials, dtype=np.bool_)
    for night in range(FEWEST_NIGHTS, nights):
        below = references.mean[:, night] - log_speeds[:, night]
        total = np.maximum(0.0, total + _steps(below, references.deviation[:, night], allowances[:, night]))
        is_zero = total == 0
        shortfall, since = np.where(is_zero, 0.0, shortfall + below), np.where(is_zero, 0.0, since + 1)
        is_relevant = np.exp(-shortfall / np.maximum(since, 1)) <= REGRESSION_RATIO
        active = ~is_zero & (active | ((total > thresholds[:, night]) & is_relevant))
        alarmed[:, night] = active
        total = np.minimum(total, LARGEST_STATISTIC * thresholds[:, night])
    return alarmed


def _steps(below: Numbers, deviation: Numbers, allowance: Numbers) -> Numbers:
    return np.clip(below / deviation, -LARGEST_STEP, LARGEST_STEP) - allowance


def _thresholds_of(allowances: Numbers) -> Numbers:
    growing = np.interp(allowances, ALLOWANCES, THRESHOLDS_WHILE_GROWING)
    settled = np.interp(allowances, ALLOWANCES, THRESHOLDS_SETTLED)
    is_settled = np.arange(allowances.shape[1]) >= SETTLED_NIGHT
    least: Numbers = np.maximum(np.where(is_settled, settled, growing), LARGEST_STEP - allowances + 1e-9)
    return least


# What the rules are tuned with ---------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def nights_to_detect(deviation: float, ratio: float = SOUGHT_RATIO) -> int | None:
    """After how many nights a step to this ratio is found with 95% probability; None if NIGHTS_TO_FIND do not suffice.

    The nights vary by `deviation`, normally distributed, and the reference is settled.
    """
    rng = np.random.default_rng(0)
    log_speeds = deviation * rng.standard_normal((DETECTION_TRIALS, SETTLED_NIGHT + NIGHTS_TO_FIND))
    log_speeds[:, SETTLED_NIGHT:] += math.log(ratio)
    alarmed = alarms_of(log_speeds)[:, SETTLED_NIGHT:]
    shares = np.maximum.accumulate(alarmed, axis=1).mean(axis=0)
    return int(np.argmax(shares >= DETECTION)) + 1 if shares[-1] >= DETECTION else None


@lru_cache(maxsize=1)
def _unit_series(trials: int) -> tuple[Numbers, References]:
    """Unchanged series with a standard deviation of 1, and what their nights are held against."""
    log_speeds = np.random.default_rng(0).standard_normal((trials, SETTLED_NIGHT + NIGHTS_TO_FIND))
    return log_speeds, references_of(log_speeds, least_deviation=0.0)


def simulated_thresholds(allowance: float, trials: int = TRIALS) -> tuple[float, float]:
    """The smallest thresholds with at most FALSE_ALARMS_PER_NIGHT on unchanged code: while growing, and settled.

    The rate is the number of first alarms ÷ the nights up to them. Allowances above LARGEST_ALLOWANCE are treated as that
    one.
    """
    log_speeds, references = _unit_series(trials)
    allowances = references.allowances(2 * allowance if allowance < LARGEST_ALLOWANCE else math.inf)
    total, paths = np.zeros(trials), np.zeros_like(log_speeds)
    for night in range(FEWEST_NIGHTS, log_speeds.shape[1]):
        below = references.mean[:, night] - log_speeds[:, night]
        total = np.maximum(0.0, total + _steps(below, references.deviation[:, night], allowances[:, night]))
        paths[:, night] = total
    return _least_threshold(paths[:, FEWEST_NIGHTS:SETTLED_NIGHT]), _least_threshold(paths[:, SETTLED_NIGHT:])


def _least_threshold(paths: Numbers) -> float:
    def rate(threshold: float) -> float:
        return first_alarm_rate(paths > threshold)

    return _bisected(rate, FALSE_ALARMS_PER_NIGHT)


def first_alarm_rate(alarmed: Flags) -> float:
    """First alarms of series [trials, nights] ÷ nights until then: the false alarms a night, counted until somebody looks."""
    has_alarm = alarmed.any(axis=1)
    nights = np.where(has_alarm, alarmed.argmax(axis=1) + 1, alarmed.shape[1])
    return float(has_alarm.sum() / nights.sum())


def _bisected(rate: Callable[[float], float], most: float) -> float:
    low, high = 0.0, 1.0
    while rate(high) > most:
        low, high = high, 2 * high
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) > most else (low, middle)
    return high


def main() -> None:
    """Print the two tables of thresholds."""
    found = [simulated_thresholds(allowance) for allowance in ALLOWANCES]
    for name, column in (("THRESHOLDS_WHILE_GROWING", 0), ("THRESHOLDS_SETTLED", 1)):
        values = ", ".join(decimal(each[column], 2) for each in found)
        sys.stdout.write(f"{name} = ({values})\n")
    sys.stdout.write(f"# {significant(FALSE_ALARMS_PER_NIGHT, 2)} a night, {TRIALS} series\n")


if __name__ == "__main__":
    main()
