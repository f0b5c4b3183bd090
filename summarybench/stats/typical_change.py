"""The change of a typical document's speed.

A few disturbed documents do not affect it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from statistics import median

from summarybench.stats.intervals import INTERVAL_CONFIDENCE, Interval
from summarybench.stats.timings import Timing, log_speed

MOST_VALUES_EXACTLY = 200
"""For more values Wilcoxon's exact distribution takes seconds. The normal approximation is then within 3% of its
probabilities, from 0.5% on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalChange:
    """The change of a typical document's tokens per second.

    It is robust against a few disturbed documents.

    Hodges and Lehmann's estimate, with the exact interval that Wilcoxon's signed-rank test does not reject (Hollander,
    Wolfe and Chicken, Nonparametric Statistical Methods, 3rd ed., 2014, sections 3.2 and 3.3). It assumes that the
    documents' log ratios are independent and symmetrically distributed, not that they are normal.
    """

    walsh_averages: tuple[float, ...]
    """The averages of all pairs of log ratios, each paired with itself too; ascending."""
    documents: int

    @property
    def ratio(self) -> float:
        return math.exp(median(self.walsh_averages))

    def lower_bound(self, confidence: float) -> float | None:
        """The one-sided lower bound of the ratio.

        None for too few documents (99% needs 7).
        """
        rank = bounding_rank(self.documents, confidence)
        return math.exp(self.walsh_averages[rank - 1]) if rank else None

    def upper_bound(self, confidence: float) -> float | None:
        """The one-sided upper bound of the ratio; None as in `lower_bound`."""
        rank = bounding_rank(self.documents, confidence)
        return math.exp(self.walsh_averages[-rank]) if rank else None

    def interval(self, confidence: float = INTERVAL_CONFIDENCE) -> Interval | None:
        """The two-sided interval of the ratio; None as in `lower_bound` (95% needs 6)."""
        one_sided = (1 + confidence) / 2
        low, high = self.lower_bound(one_sided), self.upper_bound(one_sided)
        return None if low is None or high is None else Interval(low=low, high=high, confidence=confidence)


def typical_change(now: Sequence[Timing], baseline: Sequence[Timing]) -> TypicalChange:
    """The change over documents that both sides measured, given in the same order.

    Raises ValueError if the two differ in length or are empty.
    """
    if len(now) != len(baseline) or not now:
        raise ValueError(f"a typical change needs the same documents: {len(now)} now, {len(baseline)} in the baseline")
    ratios = [log_speed([a]) - log_speed([b]) for a, b in zip(now, baseline, strict=True)]
    averages = ((a + b) / 2 for a, b in combinations_with_replacement(ratios, 2))
    return TypicalChange(walsh_averages=tuple(sorted(averages)), documents=len(ratios))


@cache
def bounding_rank(values: int, confidence: float) -> int:
    """The rank of the Walsh average that bounds the centre of values.

    It is counted from either end, and bounds one side.

    The largest k with P(T⁺ ≤ k − 1) ≤ 1 − confidence; 0 if not even the outermost average is a bound.
    """
    allowed = (1 - confidence) * (1 + 1e-9)  # the rounding error of 1 − 0.975 must not decide
    averages = values * (values + 1) // 2
    return bisect_right(range(averages), allowed, key=lambda most: signed_rank_probability(most, values))


def signed_rank_probability(most: int, values: int) -> float:
    """The probability P(T⁺ ≤ most) for so many values around zero.

    T⁺ is the sum of the ranks of the positive ones.
    """
    from scipy.stats import wilcoxon

    signed, left = [], most
    for rank in range(values, 0, -1):  # build values whose T⁺ is `most`
        signed.append(rank if rank <= left else -rank)
        left -= max(signed[-1], 0)
    method = "exact" if values <= MOST_VALUES_EXACTLY else "asymptotic"
    return float(wilcoxon(signed, alternative="less", method=method, correction=True).pvalue)
