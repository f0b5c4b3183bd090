"""What a slowdown is: the share of the speed that is lost. 0.05 means 5% fewer tokens per second.

A slowdown of x is a ratio of speeds of 1 − x. It is not the share of time that is added: the time grows by x ÷ (1 − x).
"""

from __future__ import annotations

import math


def slowdown_of(ratio: float) -> float:
    """The slowdown of a ratio of speeds, now ÷ baseline. It is negative for a gain."""
    return 1 - ratio


def log_ratio_of(slowdown: float) -> float:
    """The logarithm of the ratio of speeds that a slowdown leaves."""
    return math.log1p(-slowdown)
