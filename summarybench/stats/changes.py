"""The change of speed against a baseline, paired by document, and its uncertainty.

The speed of a run is a ratio of sums, tokens ÷ seconds. Its change is measured on the logarithm:

    d    = log(generated tokens per second now ÷ baseline)
    se²  = s_doc²/n + s_run² (1/R_baseline + 1/R_now)

s_doc is the standard deviation over documents of the linearized d (Cochran, Sampling Techniques, 3rd ed., ch. 6: the
variance of a ratio estimator). s_run is the standard deviation between runs of unchanged code in fresh processes. The
degrees of freedom of the sum are Welch and Satterthwaite's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import stdev

from summarybench.stats.intervals import INTERVAL_CONFIDENCE, Interval, student_quantile
from summarybench.stats.spread import Spread
from summarybench.stats.timings import Timing, added_up, influences, log_speed, speed_ratio

MINIMUM_COMMON_DOCUMENTS = 8
"""Runs with fewer documents in common are not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change of generated tokens per second against a baseline.

    `pass_ratios` holds the ratio of each pass alone to the same baseline; it is empty for a single pass.
    """

    log_ratio: float
    document_deviation: float
    documents: int
    spread: Spread
    baseline_runs: int = 1
    runs_now: int = 1
    pass_ratios: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        return math.exp(self.log_ratio)

    @property
    def _document_variance(self) -> float:
        return self.document_deviation**2 / self.documents

    @property
    def _run_variance(self) -> float:
        return self.spread.standard_deviation**2 * (1 / self.baseline_runs + 1 / self.runs_now)

    @property
    def standard_error(self) -> float:
        return math.sqrt(self._document_variance + self._run_variance)

    @property
    def degrees_of_freedom(self) -> float:
        """Welch and Satterthwaite's; an assumed spread counts as known."""
        uncertain = self._document_variance**2 / (self.documents - 1)
        if self.spread.degrees_of_freedom is not None:
            uncertain += self._run_variance**2 / self.spread.degrees_of_freedom
        return self.standard_error**4 / uncertain if uncertain > 0 else math.inf

    def upper_bound(self, confidence: float) -> float:
        """The one-sided upper bound of the ratio."""
        return math.exp(self.log_ratio + student_quantile(confidence, self.degrees_of_freedom) * self.standard_error)

    def lower_bound(self, confidence: float) -> float:
        """The one-sided lower bound of the ratio."""
        return math.exp(self.log_ratio - student_quantile(confidence, self.degrees_of_freedom) * self.standard_error)

    @property
    def p_value(self) -> float:
        """The probability of a slowdown this large, or larger, without a change."""
        from scipy.stats import t

        error = self.standard_error
        if error == 0:
            return 1.0 if self.log_ratio >= 0 else 0.0
        return float(t.cdf(self.log_ratio / error, self.degrees_of_freedom))

    def interval(self, confidence: float = INTERVAL_CONFIDENCE) -> Interval:
        """The two-sided interval of the ratio."""
        one_sided = (1 + confidence) / 2
        return Interval(low=self.lower_bound(one_sided), high=self.upper_bound(one_sided), confidence=confidence)


def paired_change(
    now: Sequence[Timing], baseline: Sequence[Timing], spread: Spread, *, baseline_runs: int = 1, runs_now: int = 1
) -> Change:
    """The change over documents that both runs measured, given in the same order.

    Raises ValueError if the two differ in length or hold fewer than 2 documents.
    """
    if len(now) != len(baseline) or len(now) < 2:
        raise ValueError(
            f"a paired change needs the same documents, at least 2: {len(now)} now, {len(baseline)} in the baseline"
        )
    log_ratio = log_speed(now) - log_speed(baseline)
    differences = [a - b for a, b in zip(influences(now), influences(baseline), strict=True)]
    return Change(
        log_ratio=log_ratio,
        document_deviation=stdev(differences),
        documents=len(now),
        spread=spread,
        baseline_runs=baseline_runs,
        runs_now=runs_now,
    )


def pooled_change(passes: Sequence[Sequence[Timing]], baseline: Sequence[Sequence[Timing]], spread: Spread) -> Change:
    """The change of pooled passes against pooled baseline runs.

    It includes the ratio of each pass alone.

    Every run holds the same documents in the same order. Raises ValueError as `paired_change` does.
    """
    pooled_baseline = added_up(baseline)
    change = paired_change(added_up(passes), pooled_baseline, spread, baseline_runs=len(baseline), runs_now=len(passes))
    if len(passes) == 1:
        return change
    return replace(change, pass_ratios=tuple(speed_ratio(each, pooled_baseline) for each in passes))
