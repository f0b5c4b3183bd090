"""Where the mean of a series changes. The search is PELT's, from the ruptures library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

PENALTY = 3.0
"""In units of σ² log n for each change point: more than the 2 of the Bayesian information criterion, so that what is dated
is rarely noise (Killick, Fearnhead and Eckley, Journal of the American Statistical Association 107, 2012)."""
FEWEST_VALUES = 4


def change_points(values: Sequence[float], standard_deviation: float) -> list[int]:
    """The indices of the values at which a new mean begins, ascending; empty for fewer than 4 values.

    `standard_deviation` is the noise of a single value, in the unit of the values.
    """
    if len(values) < FEWEST_VALUES:
        return []
    import numpy as np
    import ruptures

    scaled = np.asarray(values).reshape(-1, 1) / standard_deviation
    found = ruptures.Pelt(model="l2", min_size=1, jump=1).fit(scaled).predict(pen=PENALTY * math.log(len(values)))
    return [int(each) for each in found[:-1]]  # the last one is the end of the series


def shifts_at(values: Sequence[float], points: Sequence[int]) -> dict[int, float]:
    """By change point, the mean of the values after it minus that before it, each up to the next change point."""
    bounds = [0, *points, len(values)]
    means = [fmean(values[start:end]) for start, end in pairwise(bounds)]
    return {point: after - before for point, (before, after) in zip(points, pairwise(means), strict=True)}
