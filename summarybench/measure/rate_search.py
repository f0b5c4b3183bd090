"""Finds the greatest rate of arrivals at which a server still meets an objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from summarybench.measure.load import Arrivals, LoadFigures

STEPS = 7
LOWEST_SHARE = 1 / 16
"""The search begins between this share of the saturated rate and the whole of it: an idle server is not searched for."""
WITHIN = 0.99
"""The share of the requests that must meet the objective, as in MLPerf Inference's server scenario."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStep:
    """One pass over the sample at one rate.

    `figures` is None where no request was answered. `first_failure` is why the first request failed; None if none did.
    """

    arrivals_per_second: float
    figures: LoadFigures | None
    first_failure: str | None = None

    @property
    def is_within(self) -> bool:
        """Whether enough requests met the objective, and none failed."""
        if self.figures is None or self.figures.failed:
            return False
        share = self.figures.objective_share
        return share is not None and share >= WITHIN


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSearch:
    """The steps of a search in the order in which they were made."""

    steps: tuple[RateStep, ...]

    @property
    def greatest_rate(self) -> float:
        """The greatest rate that was measured to be within the objective; 0 if none was."""
        return max((each.arrivals_per_second for each in self.steps if each.is_within), default=0.0)


def search_rate(measure: Callable[[Arrivals], RateStep], saturated_per_second: float) -> RateSearch:
    """Search between a sixteenth of the saturated rate and the whole of it, halving the interval of its logarithm.

    `measure` sends the whole sample at a rate. Seven steps find the rate within 5%.
    """
    low, high = saturated_per_second * LOWEST_SHARE, saturated_per_second
    steps: list[RateStep] = []
    for number in range(STEPS):
        rate = low if number == 0 else (low * high) ** 0.5
        step = measure(Arrivals(per_second=rate))
        steps.append(step)
        if number == 0 and not step.is_within:
            break  # not even that: lower rates would only measure an idle server
        if number:
            low, high = (rate, high) if step.is_within else (low, rate)
    return RateSearch(steps=tuple(steps))
