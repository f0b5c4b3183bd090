"""Timings of documents, and the speed of a run.

The speed is the ratio of sums, tokens ÷ seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One document in one run: the tokens generated and the seconds taken.

    Raises ValueError unless both are positive.
    """

    tokens: int
    seconds: float

    def __post_init__(self) -> None:
        if self.tokens < 1 or not 0 < self.seconds < math.inf:
            raise ValueError(f"a timing needs tokens and seconds above zero: {self.tokens} tokens, {self.seconds} s")


def speed_ratio(now: Sequence[Timing], baseline: Sequence[Timing]) -> float:
    """Tokens per second now ÷ tokens per second of the baseline."""
    return math.exp(log_speed(now) - log_speed(baseline))


def log_speed(timings: Sequence[Timing]) -> float:
    """The logarithm of Σ tokens ÷ Σ seconds."""
    return math.log(sum(timing.tokens for timing in timings) / math.fsum(timing.seconds for timing in timings))


def influences(timings: Sequence[Timing]) -> list[float]:
    """The influence of each document on log(Σ tokens ÷ Σ seconds).

    To first order, times the number of documents.
    """
    mean_tokens = fmean(timing.tokens for timing in timings)
    mean_seconds = fmean(timing.seconds for timing in timings)
    return [timing.tokens / mean_tokens - timing.seconds / mean_seconds for timing in timings]


def added_up(runs: Sequence[Sequence[Timing]]) -> list[Timing]:
    """Pool several runs of the same documents, in the same order.

    Each document's tokens and seconds are added.
    """
    return [
        Timing(tokens=sum(each.tokens for each in passes), seconds=math.fsum(each.seconds for each in passes))
        for passes in zip(*runs, strict=True)
    ]
