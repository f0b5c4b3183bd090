"""The variance of a series, from the differences of successive values (von Neumann, Ann. Math. Stat. 12, 1941).

A slide within the series hardly widens it, and a step counts once and not for every value after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def successive_difference_variance(values: Sequence[float]) -> float:
    """Half the mean squared difference of neighbouring values; of at least 2 values."""
    return math.fsum((b - a) ** 2 for a, b in pairwise(values)) / 2 / (len(values) - 1)


def successive_difference_freedom(values: int) -> float:
    """The degrees of freedom of that variance for so many values, at least 2."""
    return 2 * (values - 1) ** 2 / (3 * values - 4)
