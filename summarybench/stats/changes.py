"""The change of speed against a baseline, paired by document, and its uncertainty.

The speed of a run is a ratio of sums, tokens ÷ seconds. Its change is measured on the logarithm:

    d    = log(generated tokens per second now ÷ baseline)
    se²  = s_doc²/n + noise of processes + noise of nights + noise of hosts

s_doc is the standard deviation over documents of the linearized d (Cochran, Sampling Techniques, 3rd ed., ch. 6: the
variance of a ratio estimator). The three other terms are how much runs of unchanged code differ (noise_parts.py). Every term
is an estimate with degrees of freedom; those of the sum are Welch and Satterthwaite's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import stdev

from summarybench.stats.intervals import INTERVAL_CONFIDENCE, Interval, student_probability, student_quantile
from summarybench.stats.noise_parts import NoiseTerm
from summarybench.stats.timings import Timing, added_up, influences, log_speed

MINIMUM_COMMON_DOCUMENTS = 8
"""Runs with fewer documents in common are not compared."""
WITHIN_ONE_PROCESS: tuple[NoiseTerm, ...] = ()
"""The noise between two sides that one process measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The change of generated tokens per second against a baseline.

    `noise` is what differences between runs add to the variance of `log_ratio`; it is empty where one process measured both
    sides. Of several passes, `alone` has the change of each to the same baseline, and `between_passes` the change from the
    first pass to the last.
    """

    log_ratio: float
    document_deviation: float
    documents: int
    noise: tuple[NoiseTerm, ...] = ()
    baseline_runs: int = 1
    runs_now: int = 1
    alone: tuple[Change, ...] = ()
    between_passes: Change | None = None

    @property
    def ratio(self) -> float:
        return math.exp(self.log_ratio)

    @property
    def pass_ratios(self) -> tuple[float, ...]:
        """The ratio of each of several passes to the same baseline; empty for a single pass."""
        return tuple(each.ratio for each in self.alone)

    @property
    def _document_variance(self) -> float:
        return self.document_deviation**2 / self.documents

    @property
    def standard_error(self) -> float:
        return math.sqrt(self._document_variance + math.fsum(term.variance for term in self.noise))

    @property
    def degrees_of_freedom(self) -> float:
        """Welch and Satterthwaite's."""
        uncertain = self._document_variance**2 / (self.documents - 1) + math.fsum(
            term.variance**2 / term.degrees_of_freedom for term in self.noise
        )
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
        error = self.standard_error
        if error == 0:
            return 1.0 if self.log_ratio >= 0 else 0.0
        return student_probability(self.log_ratio / error, self.degrees_of_freedom)

    def interval(self, confidence: float = INTERVAL_CONFIDENCE) -> Interval:
        """The two-sided interval of the ratio."""
        one_sided = (1 + confidence) / 2
        return Interval(low=self.lower_bound(one_sided), high=self.upper_bound(one_sided), confidence=confidence)


def paired_change(
    now: Sequence[Timing],
    baseline: Sequence[Timing],
    noise: tuple[NoiseTerm, ...],
    *,
    baseline_runs: int = 1,
    runs_now: int = 1,
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
        noise=noise,
        baseline_runs=baseline_runs,
        runs_now=runs_now,
    )


def pooled_change(
    passes: Sequence[Sequence[Timing]],
    baseline: Sequence[Sequence[Timing]],
    noise: tuple[NoiseTerm, ...],
    *,
    noise_of_one_pass: tuple[NoiseTerm, ...] = WITHIN_ONE_PROCESS,
    noise_between_passes: tuple[NoiseTerm, ...] = WITHIN_ONE_PROCESS,
) -> Change:
    """The change of pooled passes against pooled baseline runs.

    It includes the change of each pass alone, and the one between the first pass and the last.

    Every run holds the same documents in the same order. Raises ValueError as `paired_change` does.
    """
    pooled_baseline = added_up(baseline)
    change = paired_change(added_up(passes), pooled_baseline, noise, baseline_runs=len(baseline), runs_now=len(passes))
    if len(passes) == 1:
        return change
    return replace(
        change,
        alone=tuple(
            paired_change(each, pooled_baseline, noise_of_one_pass, baseline_runs=len(baseline)) for each in passes
        ),
        between_passes=paired_change(passes[-1], passes[0], noise_between_passes),
    )
