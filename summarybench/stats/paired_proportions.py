"""The difference of two proportions over the same things: Tango's score interval, and McNemar's exact test."""

from __future__ import annotations

import math

from summarybench.stats.intervals import Interval

_NEARLY_ONE = 1 - 1e-9


def score_interval(more: int, fewer: int, pairs: int, confidence: float) -> Interval:
    """The interval of the share now − the share before, of `pairs` things of which `more` gained the property and `fewer` lost it.

    Tango, Statistics in Medicine 17 (1998). Unlike Wald's interval, it has a width where nothing was gained or lost. Raises
    ValueError for counts that no number of pairs can have.
    """
    if min(more, fewer) < 0 or not more + fewer <= pairs or pairs == 0:
        raise ValueError(f"{more} gained and {fewer} lost of {pairs} pairs")
    return Interval(
        low=-_upper_bound(fewer, more, pairs, confidence),
        high=_upper_bound(more, fewer, pairs, confidence),
        confidence=confidence,
    )


def _upper_bound(more: int, fewer: int, pairs: int, confidence: float) -> float:
    from scipy.optimize import brentq
    from scipy.special import ndtri

    quantile = float(ndtri((1 + confidence) / 2))

    def beyond(difference: float) -> float:
        return _score(more, fewer, pairs, difference) + quantile

    mean = (more - fewer) / pairs
    if mean >= _NEARLY_ONE or beyond(_NEARLY_ONE) > 0:
        return 1.0
    return float(brentq(beyond, mean, _NEARLY_ONE, xtol=1e-9))


def _score(more: int, fewer: int, pairs: int, difference: float) -> float:
    """Tango's statistic, standard normal if the true difference is `difference`."""
    a = 2 * pairs
    b = (a - more + fewer) * difference - more - fewer
    c = -fewer * difference * (1 - difference)
    lost = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = pairs * (2 * lost + difference * (1 - difference))
    excess = more - fewer - pairs * difference
    return excess / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, excess) if excess else 0.0


def mcnemar_p_value(more: int, fewer: int) -> float:
    """The probability that at least `more` of the things that changed gained the property by chance: one-sided, exact.

    McNemar, Psychometrika 12 (1947).
    """
    if more + fewer == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(more, more + fewer, alternative="greater").pvalue)
