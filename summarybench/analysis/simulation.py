"""Simulated runs and their changes of speed.

They are drawn from measured timings and spreads.

The seconds of a document in a run are its measured seconds × the run's factor × the document's own factor in that run. The
run's factor is log-normal with the spread between runs. The document's factor has the shape of the measured seconds per
token, and the measured standard deviation of one document in one run.

The verdicts see a spread as `summarybench noise` would have measured it: its variance is drawn from the chi-square
distribution with the degrees of freedom of that measurement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from summarybench.analysis.measured_devices import MeasuredExperiment
from summarybench.stats.decision import REGRESSION_RATIO
from summarybench.stats.intervals import ALARM_CONFIDENCE

DOCUMENTS, BASELINE_RUNS, PASSES = 100, 3, 2
NEWEST = -1
"""The index of the baseline run that a plain comparison uses."""
DISTURBED_RATIO = 0.70
"""The speed of a disturbed pass ÷ that of an undisturbed one, as once seen on a shared host, whose kernel launches slowed
down along."""
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The noise with which runs are drawn.

    With `document_deviation` None, each experiment has its own measured deviation. `disturbed_share` is the share of today's
    passes that something else on the machine slows down to DISTURBED_RATIO of their speed, independently of each other.
    Stored runs are never disturbed, because a slow baseline would hide alarms.
    """

    run_deviation: float
    degrees_of_freedom: float
    document_deviation: float | None = None
    disturbed_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Drawn runs of unchanged code.

    `tokens` is [trials, documents]; `baseline` and `now` are seconds, [trials, runs, documents]; `spread` [trials] is the
    standard deviation between runs that the verdicts see.
    """

    tokens: Numbers
    baseline: Numbers
    now: Numbers
    spread: Numbers
    degrees_of_freedom: float

    def __len__(self) -> int:
        return len(self.spread)

    @cached_property
    def first(self) -> Changes:
        return _changes(self, passes=1)

    @cached_property
    def both(self) -> Changes:
        return _changes(self, passes=PASSES)

    @cached_property
    def mean_ratio(self) -> Numbers:
        """The mean seconds of the first pass ÷ those of the newest baseline run."""
        ratio: Numbers = self.now[:, 0].mean(axis=1) / self.baseline[:, NEWEST].mean(axis=1)
        return ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """`stats.changes.Change` for many trials at once: [trials] each.

    A slowdown of all documents shifts only the log ratios.

    `fastest_pass_log_ratio` is the log ratio of the fastest pass; with one pass it equals `log_ratio`.
    """

    log_ratio: Numbers
    standard_error: Numbers
    degrees_of_freedom: Numbers
    fastest_pass_log_ratio: Numbers

    def are_regressed(self, slowdown: float) -> NDArray[np.bool_]:
        log_ratio = self.log_ratio - math.log1p(slowdown)
        regressed: NDArray[np.bool_] = (
            (np.exp(log_ratio) <= REGRESSION_RATIO)
            & (log_ratio + self._reach < 0)
            & self._are_slow_in_each_pass(slowdown)
        )
        return regressed

    def _are_slow_in_each_pass(self, slowdown: float) -> NDArray[np.bool_]:
        slow: NDArray[np.bool_] = np.exp(self.fastest_pass_log_ratio - math.log1p(slowdown)) <= REGRESSION_RATIO
        return slow

    @property
    def least_slowdown(self) -> Numbers:
        """The smallest slowdown that would be REGRESSED, as a logarithm of seconds."""
        threshold = -math.log(REGRESSION_RATIO)
        least: Numbers = np.maximum(
            self.log_ratio + np.maximum(threshold, self._reach), self.fastest_pass_log_ratio + threshold
        )
        return least

    @property
    def _reach(self) -> Numbers:
        from scipy.stats import t

        reach: Numbers = t.ppf(ALARM_CONFIDENCE, self.degrees_of_freedom) * self.standard_error
        return reach

    def p_values(self, slowdown: float) -> Numbers:
        from scipy.stats import t

        p_values: Numbers = t.cdf(
            (self.log_ratio - math.log1p(slowdown)) / self.standard_error, self.degrees_of_freedom
        )
        return p_values

    def p_values_for_holm(self, slowdown: float) -> Numbers:
        """The p-values for Holm's correction.

        They are 1 if a pass alone is not slow, as in a session.
        """
        return np.where(self._are_slow_in_each_pass(slowdown), self.p_values(slowdown), 1.0)


def draw(
    experiments: Sequence[MeasuredExperiment],
    conditions: Conditions,
    trials: int,
    rng: np.random.Generator,
    *,
    share_spread: int = 1,
) -> Trials:
    """Draw runs of randomly chosen experiments.

    Each `share_spread` consecutive trials see the same measured spread.
    """
    seconds = np.empty((trials, DOCUMENTS))
    tokens = np.empty((trials, DOCUMENTS))
    logarithms = np.empty((trials, BASELINE_RUNS + PASSES, DOCUMENTS))
    chosen = rng.integers(len(experiments), size=trials)
    for index, measured in enumerate(experiments):
        mine = chosen == index
        shape = (int(mine.sum()), DOCUMENTS)
        picked = rng.integers(len(measured.timings), size=shape)
        tokens[mine] = np.array([timing.tokens for timing in measured.timings])[picked]
        seconds[mine] = np.array([timing.seconds for timing in measured.timings])[picked]
        deviation = (
            measured.document_deviation if conditions.document_deviation is None else conditions.document_deviation
        )
        logarithms[mine] = deviation * rng.choice(_shape_of(measured), size=(shape[0], *logarithms.shape[1:]))
    logarithms += conditions.run_deviation * rng.standard_normal((*logarithms.shape[:2], 1))
    if conditions.disturbed_share:  # drawn only if needed, so that undisturbed figures depend on their seed alone
        disturbed = rng.random((trials, PASSES, 1)) < conditions.disturbed_share
        logarithms[:, BASELINE_RUNS:] -= math.log(DISTURBED_RATIO) * disturbed
    runs = seconds[:, None, :] * np.exp(logarithms)
    freedom = conditions.degrees_of_freedom
    drawn = rng.chisquare(freedom, size=-(-trials // share_spread)) / freedom
    return Trials(
        tokens=tokens,
        baseline=runs[:, :BASELINE_RUNS],
        now=runs[:, BASELINE_RUNS:],
        spread=np.repeat(conditions.run_deviation * np.sqrt(drawn), share_spread)[:trials],
        degrees_of_freedom=freedom,
    )


def _shape_of(measured: MeasuredExperiment) -> Numbers:
    """The standardized logarithms of seconds per token: mean 0, deviation 1."""
    logarithms = np.log([timing.seconds / timing.tokens for timing in measured.timings])
    centred: Numbers = logarithms - logarithms.mean()
    deviation = centred.std()
    return centred / deviation if deviation > 0 else centred


def _changes(trials: Trials, *, passes: int) -> Changes:
    now, baseline = trials.now[:, :passes].sum(axis=1), trials.baseline.sum(axis=1)
    log_ratio = np.log(passes * baseline.sum(axis=1) / (BASELINE_RUNS * now.sum(axis=1)))
    alone = np.log(baseline.sum(axis=1)[:, None] / (BASELINE_RUNS * trials.now[:, :passes].sum(axis=2)))
    # The tokens of a document are equal in all runs, so that their part of the influences cancels.
    differences = baseline / baseline.mean(axis=1, keepdims=True) - now / now.mean(axis=1, keepdims=True)
    document_variance = differences.var(axis=1, ddof=1) / DOCUMENTS
    run_variance = trials.spread**2 * (1 / BASELINE_RUNS + 1 / passes)
    variance = document_variance + run_variance
    uncertain = document_variance**2 / (DOCUMENTS - 1) + run_variance**2 / trials.degrees_of_freedom
    freedom = np.divide(variance**2, uncertain, out=np.full_like(variance, math.inf), where=uncertain > 0)
    return Changes(
        log_ratio=log_ratio,
        standard_error=np.sqrt(variance),
        degrees_of_freedom=freedom,
        fastest_pass_log_ratio=log_ratio if passes == 1 else alone.max(axis=1),
    )
