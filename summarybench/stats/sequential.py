"""A sequential test on one series of nights: has its speed fallen below the nights that are its reference?

Page's CUSUM (Biometrika 41, 1954) adds up by how many standard deviations each night lies below the reference, less an
allowance, and never falls below zero. It finds a slow slide that no single night shows. Three things differ from the
textbook version:

- The reference is the mean of the first nights of the series, and both it and the noise are estimates. A night is held
  against what was known before it, so that no later night changes what the test said. The thresholds are simulated with the
  same estimates (sequential_simulation.py).
- The noise is that of successive differences over all earlier nights. Noise that grows widens it, and a step or a slide in
  the series hardly does.
- One night counts at most LARGEST_STEP standard deviations, and the threshold lies above what one night can add. A single
  disturbed night never raises the alarm.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from summarybench.stats.decision import REGRESSION_RATIO

SOUGHT_RATIO = 0.97
"""The slowdown that the allowance is tuned to: half of it, as Page recommends."""
FALSE_ALARMS_PER_NIGHT = 0.005
"""On unchanged code. Half of the 1% that a night may have: its verdict has the other half."""
FEWEST_NIGHTS, MOST_NIGHTS = 8, 20
"""How many nights a reference has."""
TESTED_NIGHTS = 10
"""A reference grows from FEWEST_NIGHTS to MOST_NIGHTS only over nights that are at least so many before the tested one."""
SETTLED_NIGHT = MOST_NIGHTS + TESTED_NIGHTS - 1
"""The index of the first night that is tested against MOST_NIGHTS of reference. They stay the reference from then on."""
NIGHTS_TO_FIND = 60
"""A slowdown that is not found within so many nights counts as out of reach."""
LARGEST_STEP = 3.0
LARGEST_ALLOWANCE = LARGEST_STEP / 2
"""Both in standard deviations. A larger allowance would leave nothing of a capped night to add."""
LARGEST_DEVIATIONS = 3.0
"""Values further from the median of their like than this count as if they were this far (in robust deviations)."""
LEAST_DEVIATION = 0.001
"""Of one night, relative: below it, clocks and rounding decide and not the code."""
LARGEST_STATISTIC = 2.0
"""In thresholds. A higher sum would only delay the end of an alarm after a repaired slowdown."""
NORMAL_QUARTILE = 0.6745
"""Half of a normal distribution lies within so many standard deviations of its median."""

ALLOWANCES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)
THRESHOLDS_WHILE_GROWING = (
    *(11.19, 10.65, 9.80, 9.01, 8.24, 6.83, 5.65, 4.71),
    *(3.97, 3.39, 2.93, 2.54, 2.23, 1.80, 1.50),
)
THRESHOLDS_SETTLED = (
    *(16.78, 15.23, 12.94, 11.01, 9.37, 6.93, 5.34, 4.29),
    *(3.55, 3.00, 2.57, 2.23, 1.98, 1.64, 1.39),
)
"""By allowance: the CUSUM from which on FALSE_ALARMS_PER_NIGHT is kept, before and from SETTLED_NIGHT on.

`python -m summarybench.stats.sequential_simulation` prints them, and a test simulates them again.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a night is held against: the mean of log(tokens per second) over the first `nights`.

    `standard_deviation` says how much one night varies, on the same logarithmic scale. `is_settled` is true from SETTLED_NIGHT on.
    """

    mean: float
    nights: int
    standard_deviation: float
    is_settled: bool

    def __post_init__(self) -> None:
        if self.nights < 1 or not 0 < self.standard_deviation < math.inf or not math.isfinite(self.mean):
            raise ValueError(
                f"impossible reference: mean {self.mean} of {self.nights} nights, deviation {self.standard_deviation}"
            )

    @property
    def tokens_per_second(self) -> float:
        """The geometric mean of the reference's nights."""
        return math.exp(self.mean)

    @property
    def allowance(self) -> float:
        """What each night may lie below the reference without counting, in standard deviations."""
        return min(-math.log(SOUGHT_RATIO) / 2 / self.standard_deviation, LARGEST_ALLOWANCE)

    @property
    def threshold(self) -> float:
        """The CUSUM from which on a series counts as slower, in standard deviations."""
        thresholds = THRESHOLDS_SETTLED if self.is_settled else THRESHOLDS_WHILE_GROWING
        return max(_interpolated(self.allowance, thresholds), LARGEST_STEP - self.allowance + 1e-9)


def _interpolated(allowance: float, thresholds: Sequence[float]) -> float:
    """Linear between the allowances, which lies above the simulated curve: it is convex."""
    after = min(max(bisect_left(ALLOWANCES, allowance), 1), len(ALLOWANCES) - 1)
    low, high = ALLOWANCES[after - 1], ALLOWANCES[after]
    share = min(max((allowance - low) / (high - low), 0.0), 1.0)
    return (1 - share) * thresholds[after - 1] + share * thresholds[after]


def reference_nights_of(night: int) -> int:
    """How many of the first nights the night with this index is held against; 0 where there are too few."""
    if night < FEWEST_NIGHTS:
        return 0
    return min(MOST_NIGHTS, max(FEWEST_NIGHTS, night + 1 - TESTED_NIGHTS))


def reference_of(log_speeds: Sequence[float], night: int) -> Reference:
    """What the night with this index, at least FEWEST_NIGHTS, is held against. Only nights before it count.

    Nights far from the median are brought nearer (winsorized), so that a disturbed one does not hide a later slowdown.
    """
    first = log_speeds[: reference_nights_of(night)]
    middle = median(first)
    reach = LARGEST_DEVIATIONS * median(abs(each - middle) for each in first) / NORMAL_QUARTILE
    return Reference(
        mean=fmean(min(max(each, middle - reach), middle + reach) for each in first),
        nights=len(first),
        standard_deviation=max(_deviation(log_speeds[:night]), LEAST_DEVIATION),
        is_settled=night >= SETTLED_NIGHT,
    )


def _deviation(log_speeds: Sequence[float]) -> float:
    """The standard deviation of one night, from winsorized successive differences."""
    sizes = [abs(after - before) for before, after in pairwise(log_speeds)]
    reach = LARGEST_DEVIATIONS * median(sizes) / NORMAL_QUARTILE
    return math.sqrt(fmean(min(each, reach) ** 2 for each in sizes) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cusum:
    """The test over a series: the statistic after each night, 0 before the first that was tested.

    If the last night has an alarm, `alarm` is the index of the night that raised it, and `since` that of the first slow
    night before it. Both are None otherwise. An alarm ends when the statistic is back at 0.
    """

    statistic: tuple[float, ...]
    alarm: int | None = None
    since: int | None = None


def cusum(log_speeds: Sequence[float]) -> Cusum:
    """Test the nights of a series, oldest first, given as log(tokens per second).

    While the mean since the first slow night is above REGRESSION_RATIO of the reference there is no alarm: so small a
    slowdown is not worth one, however certain it is.
    """
    statistic = [0.0] * min(FEWEST_NIGHTS, len(log_speeds))
    alarm: int | None = None
    since = len(statistic)
    shortfalls: list[float] = []
    for night in range(FEWEST_NIGHTS, len(log_speeds)):
        reference = reference_of(log_speeds, night)
        shortfalls.append(reference.mean - log_speeds[night])
        total = max(0.0, statistic[-1] + step(shortfalls[-1], reference))
        statistic.append(min(total, LARGEST_STATISTIC * reference.threshold))
        if total == 0:
            alarm, since, shortfalls = None, night + 1, []
        elif alarm is None and total > reference.threshold and math.exp(-fmean(shortfalls)) <= REGRESSION_RATIO:
            alarm = night
    return Cusum(statistic=tuple(statistic), alarm=alarm, since=None if alarm is None else since)


def step(shortfall: float, reference: Reference) -> float:
    """What a night adds to the CUSUM, in standard deviations, if it lies so far below the reference."""
    slowness = shortfall / reference.standard_deviation
    return max(-LARGEST_STEP, min(LARGEST_STEP, slowness)) - reference.allowance
