"""Alarms in simulated runs, by the suite's decision and by plain thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from summarybench.analysis.comparison import FALSE_ALARM_LEVEL
from summarybench.analysis.simulation import NEWEST, PASSES, Numbers, Trials
from summarybench.core.outcomes import JudgementError
from summarybench.stats.changes import Change, pooled_change
from summarybench.stats.decision import holm, is_regressed
from summarybench.stats.intervals import INTERVAL_CONFIDENCE
from summarybench.stats.spread import Spread
from summarybench.stats.timings import Timing

EXPERIMENTS_OF_A_SESSION = 5
COMPARED_TRIALS = 40
"""Trials per cell that are also decided by the suite's own functions, which do not use arrays."""
CONFIRMED, TWO_PASSES = "this suite, --passes 1", "this suite, --passes 2"
PLAIN_5, PLAIN_10 = "mean seconds, threshold 5%", "mean seconds, threshold 10%"
PYTEST_BENCHMARK_CHECK = "mean:5%"
PYTEST_BENCHMARK = f"pytest-benchmark, --benchmark-compare-fail={PYTEST_BENCHMARK_CHECK}"
PLAIN = {PLAIN_5: 1.05, PLAIN_10: 1.10}
RULES = (CONFIRMED, TWO_PASSES, PLAIN_5, PLAIN_10, PYTEST_BENCHMARK)
Alarms = dict[str, NDArray[np.bool_]]
"""By rule: whether it raises an alarm, one entry per trial."""


def alarms(trials: Trials, slowdown: float) -> Alarms:
    """Which trials raise an alarm under each rule.

    Every document of today's passes is slower by `slowdown`.
    """
    both = trials.both.are_regressed(slowdown)
    ratios = (1 + slowdown) * trials.mean_ratio
    return {
        CONFIRMED: trials.first.are_regressed(slowdown) & both,
        TWO_PASSES: both,
        **{rule: ratios > threshold for rule, threshold in PLAIN.items()},
        PYTEST_BENCHMARK: np.array([pytest_benchmark_fails(ratio, 1.0) for ratio in ratios.tolist()]),
    }


def pytest_benchmark_fails(mean_now: float, mean_before: float) -> bool:
    """Whether pytest-benchmark's own check fails for `mean:5%`."""
    from pytest_benchmark.utils import parse_compare_fail

    return parse_compare_fail(PYTEST_BENCHMARK_CHECK).fails({"mean": mean_now}, {"mean": mean_before}) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """One trial in the form that the suite uses: lists of timings, one list per run."""

    baseline: Sequence[Sequence[Timing]]
    now: Sequence[Sequence[Timing]]
    spread: Spread

    def change(self, passes: int) -> Change:
        return pooled_change(self.now[:passes], self.baseline, self.spread.terms(len(self.baseline), passes))


def runs_of(trials: Trials, index: int, slowdown: float) -> Runs:
    tokens = trials.tokens[index].astype(int).tolist()

    def timings(runs: Numbers) -> list[list[Timing]]:
        return [
            [Timing(tokens=count, seconds=seconds) for count, seconds in zip(tokens, run.tolist(), strict=True)]
            for run in runs
        ]

    return Runs(
        baseline=timings(trials.baseline[index]),
        now=timings((1 + slowdown) * trials.now[index]),
        spread=Spread(standard_deviation=float(trials.spread[index]), degrees_of_freedom=trials.degrees_of_freedom),
    )


def decide_one(runs: Runs) -> dict[str, bool]:
    """Whether one trial raises an alarm under each rule.

    Uses the suite's own decision, and pytest-benchmark's own statistics and check.
    """
    both = is_regressed(runs.change(PASSES))
    now, before = _stats(runs.now[0]), _stats(runs.baseline[NEWEST])
    return {
        CONFIRMED: is_regressed(runs.change(1)) and both,
        TWO_PASSES: both,
        **{rule: now.mean > threshold * before.mean for rule, threshold in PLAIN.items()},
        PYTEST_BENCHMARK: pytest_benchmark_fails(now.mean, before.mean),
    }


def _stats(run: Sequence[Timing]) -> Any:
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for timing in run:
        stats.update(timing.seconds)
    return stats


def check_against_the_suite(trials: Trials, slowdown: float, found: Alarms) -> int:
    """Check `alarms` against the suite's own functions.

    Returns how many trials were compared.

    Raises JudgementError for the first trial on which they differ.
    """
    compared = min(COMPARED_TRIALS, len(trials))
    for index in range(compared):
        runs = runs_of(trials, index, slowdown)
        expected = decide_one(runs)
        seen = {rule: bool(decisions[index]) for rule, decisions in found.items()}
        for passes, changes in ((1, trials.first), (PASSES, trials.both)):
            own = runs.change(passes)
            if own.standard_error > 0:
                expected[f"p at {passes}"] = True
                seen[f"p at {passes}"] = math.isclose(
                    own.p_value, float(changes.p_values(slowdown)[index]), rel_tol=1e-6
                )
        if seen != expected:
            raise JudgementError(
                f"the simulation and the suite decide trial {index} differently: the simulation {seen}, the suite {expected}; "
                "see summarybench/analysis/alarms.py"
            )
    return compared


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAlarms:
    """By rule: whether a session raises an alarm, one entry per session."""

    without_holm: Alarms
    with_holm: Alarms


def session_alarms(trials: Trials) -> SessionAlarms:
    """The alarms of sessions of unchanged experiments.

    A session consists of several consecutive trials.

    As in a session, an experiment's p-value comes from both passes if it was measured twice, and otherwise from the first.
    It is 1 if a pass alone is not slow.
    """
    suspect, both = trials.first.are_regressed(0), trials.both.are_regressed(0)
    p_of_both = trials.both.p_values_for_holm(0)
    p_values = {CONFIRMED: np.where(suspect, p_of_both, trials.first.p_values(0)), TWO_PASSES: p_of_both}
    alarmed = {CONFIRMED: suspect & both, TWO_PASSES: both}
    rejected = {
        rule: np.array([holm(each, FALSE_ALARM_LEVEL) for each in _by_session(p_of_rule).tolist()])
        for rule, p_of_rule in p_values.items()
    }
    return SessionAlarms(
        without_holm={rule: np.any(_by_session(found), axis=1) for rule, found in alarmed.items()},
        with_holm={rule: np.any(_by_session(found) & rejected[rule], axis=1) for rule, found in alarmed.items()},
    )


def _by_session(of_trials: NDArray[Any]) -> NDArray[Any]:
    """[trials] → [sessions, experiments]."""
    return of_trials.reshape(-1, EXPERIMENTS_OF_A_SESSION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A share of trials with its exact (Clopper–Pearson) 95% interval."""

    found: int
    trials: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.found / self.trials

    def as_json(self) -> Mapping[str, float | int]:
        return {
            "found": self.found,
            "trials": self.trials,
            "share": self.share,
            "low": self.low,
            "high": self.high,
        }


def rate_of(alarmed: NDArray[np.bool_]) -> Rate:
    from scipy.stats import binomtest

    found, trials = int(alarmed.sum()), len(alarmed)
    bounds = binomtest(found, trials).proportion_ci(confidence_level=INTERVAL_CONFIDENCE, method="exact")
    return Rate(found=found, trials=trials, low=float(bounds.low), high=float(bounds.high))


def slowdown_found(trials: Trials, share: float) -> dict[str, float]:
    """By rule: the smallest slowdown that raises an alarm in this share of the trials."""
    both = trials.both.least_slowdown
    plain = -np.log(trials.mean_ratio)
    least = {
        CONFIRMED: np.maximum(trials.first.least_slowdown, both),
        TWO_PASSES: both,
        **{rule: plain + math.log(threshold) for rule, threshold in PLAIN.items()},
        PYTEST_BENCHMARK: plain + math.log(PLAIN[PLAIN_5]),
    }
    return {rule: math.expm1(max(0.0, float(np.quantile(needed, share)))) for rule, needed in least.items()}
