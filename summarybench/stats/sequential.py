"""A sequential test on one series of nights: has its speed fallen since the reference was accepted?

Page's CUSUM (Biometrika 41, 1954) adds up by how many standard deviations each night lies below the reference, less an
allowance, and never falls below zero. It finds a slow slide that no single night shows. Two things differ from the
textbook version:

- The reference mean and the noise are estimates. The threshold is therefore simulated with both of them drawn anew in
  each trial, so that a short reference gets a higher threshold.
- One night counts at most LARGEST_STEP standard deviations, and the threshold lies above what one night can add. A single
  disturbed night never raises the alarm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING

from summarybench.stats.decision import REGRESSION_RATIO

if TYPE_CHECKING:  # numpy is loaded only where series are simulated
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

SOUGHT_RATIO = 0.97
"""The slowdown that the allowance is tuned to: half of it, as Page recommends."""
FALSE_ALARMS_PER_NIGHT = 0.01
DETECTION = 0.95
LARGEST_STEP = 3.0
LARGEST_ALLOWANCE = LARGEST_STEP / 2
"""Both in standard deviations. A larger allowance would leave nothing of a capped night to add."""
NIGHTS, TRIALS = 60, 10_000
"""The length of a simulated series, and how many are simulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a series is compared with: the mean of log(tokens per second) over `nights` accepted nights.

    `standard_deviation` is that of one night on the same logarithm, estimated with `degrees_of_freedom`.
    """

    mean: float
    nights: int
    standard_deviation: float
    degrees_of_freedom: float

    def __post_init__(self) -> None:
        if self.nights < 1 or not 0 < self.standard_deviation < math.inf or self.degrees_of_freedom <= 0:
            raise ValueError(
                f"impossible reference: {self.nights} nights, deviation {self.standard_deviation}, "
                f"{self.degrees_of_freedom} degrees of freedom"
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
        simulated = _simulated_threshold(round(self.allowance, 2), self.nights, round(self.degrees_of_freedom, 1))
        return max(simulated, LARGEST_STEP - self.allowance + 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cusum:
    """The test over a series: the statistic after each night, and what it says.

    `alarm` is the index of the night that first exceeded the threshold, and `since` that of the first slow night before
    it. Both are None without an alarm.
    """

    statistic: tuple[float, ...]
    threshold: float
    alarm: int | None = None
    since: int | None = None


def cusum(log_speeds: Sequence[float], reference: Reference) -> Cusum:
    """Test the nights after a reference, oldest first, given as log(tokens per second).

    While the mean since the first slow night is above REGRESSION_RATIO of the reference there is no alarm: so small a
    slowdown is not worth one, however certain it is.
    """
    threshold = reference.threshold
    statistic: list[float] = []
    found: Cusum | None = None
    since = 0
    for night, log_speed in enumerate(log_speeds):
        statistic.append(max(0.0, (statistic[-1] if statistic else 0.0) + _step(log_speed, reference)))
        if statistic[-1] == 0:
            since = night + 1
        if found is None and statistic[-1] > threshold:
            until_now = log_speeds[since : night + 1]
            if _ratio(until_now, reference) <= REGRESSION_RATIO:
                found = Cusum(statistic=(), threshold=threshold, alarm=night, since=since)
    return replace(found or Cusum(statistic=(), threshold=threshold), statistic=tuple(statistic))


def _step(log_speed: float, reference: Reference) -> float:
    """What one night adds to the CUSUM, in standard deviations; negative for a night that is not slower."""
    slowness = (reference.mean - log_speed) / reference.standard_deviation
    return max(-LARGEST_STEP, min(LARGEST_STEP, slowness)) - reference.allowance


def _ratio(log_speeds: Sequence[float], reference: Reference) -> float:
    return math.exp(fmean(log_speeds) - reference.mean)


def nights_to_detect(reference: Reference, ratio: float = SOUGHT_RATIO, most: int = NIGHTS) -> int | None:
    """After how many nights a step to this ratio is found with 95% probability; None if `most` nights do not suffice."""
    import numpy as np

    shift = -math.log(ratio) / reference.standard_deviation
    paths = _simulated_paths(
        reference.allowance, reference.nights, reference.degrees_of_freedom, shift=shift, nights=most
    )
    found: NDArray[np.bool_] = np.maximum.accumulate(paths, axis=1) > reference.threshold
    shares = found.mean(axis=0)
    return int(np.argmax(shares >= DETECTION)) + 1 if shares[-1] >= DETECTION else None


@lru_cache(maxsize=256)
def _simulated_threshold(allowance: float, reference_nights: int, degrees_of_freedom: float) -> float:
    """The smallest threshold that raises at most FALSE_ALARMS_PER_NIGHT alarms a night on unchanged code.

    After an alarm, a simulated series starts anew from zero, as one does for which a person has accepted a new reference.
    """
    import numpy as np

    steps = _simulated_steps(allowance, reference_nights, degrees_of_freedom, shift=0.0, nights=NIGHTS)

    def alarms_per_night(threshold: float) -> float:
        total, alarms = np.zeros(len(steps)), 0
        for night in range(NIGHTS):
            total = np.maximum(0.0, total + steps[:, night])
            is_alarm = total > threshold
            alarms += int(is_alarm.sum())
            total[is_alarm] = 0.0
        return alarms / steps.size

    low, high = 0.0, 1.0
    while alarms_per_night(high) > FALSE_ALARMS_PER_NIGHT:
        low, high = high, 2 * high
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if alarms_per_night(middle) > FALSE_ALARMS_PER_NIGHT else (low, middle)
    return high


def _simulated_paths(
    allowance: float, reference_nights: int, degrees_of_freedom: float, *, shift: float, nights: int
) -> Numbers:
    """The CUSUM after each night of simulated series that slowed by `shift` standard deviations, [trials, nights]."""
    import numpy as np

    steps = _simulated_steps(allowance, reference_nights, degrees_of_freedom, shift=shift, nights=nights)
    paths, total = np.empty_like(steps), np.zeros(len(steps))
    for night in range(nights):
        total = np.maximum(0.0, total + steps[:, night])
        paths[:, night] = total
    return paths


def _simulated_steps(
    allowance: float, reference_nights: int, degrees_of_freedom: float, *, shift: float, nights: int
) -> Numbers:
    """What each night adds, [trials, nights], for normal nights with an estimated reference and an estimated deviation."""
    import numpy as np

    rng = np.random.default_rng(0)
    slowness = rng.standard_normal((TRIALS, nights)) + shift
    error_of_reference = rng.standard_normal((TRIALS, 1)) / math.sqrt(reference_nights)
    estimated_deviation = np.sqrt(rng.chisquare(degrees_of_freedom, (TRIALS, 1)) / degrees_of_freedom)
    steps: Numbers = (
        np.clip((slowness - error_of_reference) / estimated_deviation, -LARGEST_STEP, LARGEST_STEP) - allowance
    )
    return steps
