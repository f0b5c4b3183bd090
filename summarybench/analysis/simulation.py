"""What the suite's decision finds, and what plain thresholds find, in runs drawn from measured timings and spreads.

A document takes in a run: its measured seconds × the run's factor × the document's own factor in that run. The run's
is normal on the logarithm, with the spread between runs; the document's has the shape of the measured seconds per token
and the measured deviation of one document in one run. The verdicts see the spread as `summarybench noise` would have measured
it: its variance is drawn from the chi-square distribution with that measurement's degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from summarybench.analysis.comparison import FALSE_ALARM_LEVEL
from summarybench.analysis.noise import COMPILED, is_compiled, read_spread
from summarybench.core.outcomes import InputError, JudgementError
from summarybench.runs.baselines import SPREAD_FILE, read_baselines
from summarybench.runs.run_file import entries_of
from summarybench.stats.changes import (
    ALARM_CONFIDENCE,
    INTERVAL_CONFIDENCE,
    MINIMUM_COMMON_DOCUMENTS,
    REGRESSION_RATIO,
    Change,
    Spread,
    Timing,
    holm,
    is_regressed,
    pooled_change,
)

DOCUMENTS, BASELINE_RUNS, PASSES = 100, 3, 2
EXPERIMENTS_OF_A_SESSION = 5
NEWEST = -1
"""The baseline run that a plain comparison takes."""
COMPARED_TRIALS = 40
"""Trials of each cell that the suite's own functions decide too, one document at a time."""

DISTURBED_RATIO = 0.70
"""The speed of a disturbed pass ÷ that of an undisturbed one. One pass on a shared host lost this much, and its kernel launches
with it."""

CONFIRMED, TWO_PASSES = "this suite, --passes 1", "this suite, --passes 2"
PLAIN_5, PLAIN_10 = "mean seconds, threshold 5%", "mean seconds, threshold 10%"
PYTEST_BENCHMARK_CHECK = "mean:5%"
PYTEST_BENCHMARK = f"pytest-benchmark, --benchmark-compare-fail={PYTEST_BENCHMARK_CHECK}"
PLAIN = {PLAIN_5: 1.05, PLAIN_10: 1.10}
RULES = (CONFIRMED, TWO_PASSES, PLAIN_5, PLAIN_10, PYTEST_BENCHMARK)

Numbers = NDArray[np.float64]
Alarms = dict[str, NDArray[np.bool_]]
"""By rule: whether it raised the alarm, one entry a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One experiment as it was measured: each document's timing, and the deviation of one document in one run."""

    experiment: str
    timings: tuple[Timing, ...]
    document_deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDevice:
    """What is stored of a device: its spread between runs, and the experiments of which both parts are known."""

    slug: str
    spread: Spread
    experiments: tuple[Measured, ...]


def read_devices(folder: Path) -> list[MeasuredDevice]:
    """Every device with a measured spread and stored runs of the experiments that it was measured on.

    Raises InputError where there is none, or a file cannot be used.
    """
    found = (_read_device(path.parent) for path in sorted(folder.glob(f"*/{SPREAD_FILE}")))
    devices = [device for both in found for device in both if device.experiments]
    if not devices:
        raise InputError(
            f"no device in {folder} has both a measured spread and stored runs of the same experiments; 'summarybench noise' (make spread) "
            "measures the one, --benchmark-save=NAME stores the other"
        )
    return devices


def _read_device(folder: Path) -> tuple[MeasuredDevice, ...]:
    """Its eager experiments and its compiled ones, with the same tuned kernels and with others: each has a spread of its own."""
    stored = read_baselines(folder)
    spread = read_spread(folder, is_gpu=True)  # only what is assumed where no spread was measured depends on `is_gpu`
    newest = {
        entry.experiment: entry
        for run in stored.runs
        for entry in entries_of(run.run)
        if entry.is_own_speed and len(entry.timings) >= MINIMUM_COMMON_DOCUMENTS
    }
    measured = [
        Measured(experiment=name, timings=tuple(newest[name].timings.values()), document_deviation=document_deviation)
        for name, document_deviation in sorted(spread.document_deviations.items())
        if name in newest
    ]
    eager, compiled = (
        tuple(each for each in measured if is_compiled(each.experiment) is kind) for kind in (False, True)
    )
    return (
        MeasuredDevice(slug=folder.name, spread=spread.runs, experiments=eager),
        MeasuredDevice(slug=f"{folder.name}, {COMPILED}", spread=spread.compiled, experiments=compiled),
        MeasuredDevice(
            slug=f"{folder.name}, {COMPILED} and tuned apart", spread=spread.tuned_apart, experiments=compiled
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Under which runs are drawn. `document_deviation` is None where each experiment's own, as measured, is taken.

    `disturbed_share` is the share of today's passes that something else on the machine slows down to DISTURBED_RATIO of their
    speed, each pass by itself. Stored runs stay undisturbed: a slow one among them would hide alarms.
    """

    run_deviation: float
    degrees_of_freedom: float
    document_deviation: float | None = None
    disturbed_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Drawn runs without any change of the code.

    `tokens` [trials, documents]; `baseline` and `now` are seconds [trials, runs, documents]; `spread` [trials] is the
    deviation between runs that the verdicts see.
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
        """Mean seconds of the first pass ÷ those of the newest baseline run."""
        ratio: Numbers = self.now[:, 0].mean(axis=1) / self.baseline[:, NEWEST].mean(axis=1)
        return ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """`statistics.Change` for many trials at once. A slowdown of all documents moves the log ratios and nothing else.

    `fastest_pass_log_ratio` is the log ratio of the pass that lost least speed; with one pass it is `log_ratio`.
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
        """The smallest slowdown that would be REGRESSED, on the logarithm of seconds."""
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
        """1 where a pass alone is not slow, as in a session."""
        return np.where(self._are_slow_in_each_pass(slowdown), self.p_values(slowdown), 1.0)


def draw(
    experiments: Sequence[Measured],
    conditions: Conditions,
    trials: int,
    rng: np.random.Generator,
    *,
    share_spread: int = 1,
) -> Trials:
    """Runs of experiments drawn at random; `share_spread` trials in a row see the same measurement of the spread."""
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
    if conditions.disturbed_share:  # drawn only here, so that undisturbed figures stay those of their seed
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


def _shape_of(measured: Measured) -> Numbers:
    """How the logarithm of seconds per token varies between documents, with mean 0 and deviation 1."""
    logarithms = np.log([timing.seconds / timing.tokens for timing in measured.timings])
    centred: Numbers = logarithms - logarithms.mean()
    deviation = centred.std()
    return centred / deviation if deviation > 0 else centred


def _changes(trials: Trials, *, passes: int) -> Changes:
    now, baseline = trials.now[:, :passes].sum(axis=1), trials.baseline.sum(axis=1)
    log_ratio = np.log(passes * baseline.sum(axis=1) / (BASELINE_RUNS * now.sum(axis=1)))
    alone = np.log(baseline.sum(axis=1)[:, None] / (BASELINE_RUNS * trials.now[:, :passes].sum(axis=2)))
    # The tokens of a document are the same in every run, and so is their part in the influences.
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


def alarms(trials: Trials, slowdown: float) -> Alarms:
    """What each rule says of the same draws, with every document of today's passes slower by this share."""
    both = trials.both.are_regressed(slowdown)
    ratios = (1 + slowdown) * trials.mean_ratio
    return {
        CONFIRMED: trials.first.are_regressed(slowdown) & both,
        TWO_PASSES: both,
        **{rule: ratios > threshold for rule, threshold in PLAIN.items()},
        PYTEST_BENCHMARK: np.array([pytest_benchmark_fails(ratio, 1.0) for ratio in ratios.tolist()]),
    }


def pytest_benchmark_fails(mean_now: float, mean_before: float) -> bool:
    """Whether `--benchmark-compare-fail=mean:5%` fails, by pytest-benchmark's own check."""
    from pytest_benchmark.utils import parse_compare_fail

    return parse_compare_fail(PYTEST_BENCHMARK_CHECK).fails({"mean": mean_now}, {"mean": mean_before}) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """One trial as the suite has runs: timings, a list a run."""

    baseline: Sequence[Sequence[Timing]]
    now: Sequence[Sequence[Timing]]
    spread: Spread

    def change(self, passes: int) -> Change:
        return pooled_change(self.now[:passes], self.baseline, self.spread)


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
    """What each rule says of one trial: the suite's own decision, and pytest-benchmark's own statistics and check."""
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
    """How many trials the suite's own functions decided as `alarms` did: all that were compared.

    Raises JudgementError for the first one of which they say otherwise.
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
                f"the simulation decides trial {index} otherwise than the suite: {seen} here, {expected} there"
            )
    return compared


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAlarms:
    """By rule: whether a session raised an alarm, one entry a session."""

    without_holm: Alarms
    with_holm: Alarms


def session_alarms(trials: Trials) -> SessionAlarms:
    """Trials taken together as sessions of several unchanged experiments.

    As in a session, an experiment's p-value is that of both passes where it was measured twice, else the first's; it is 1
    where a pass alone is not slow.
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
    """A share of trials with its exact (Clopper–Pearson) 95% bounds."""

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
    """By rule: the smallest slowdown that is found in this share of the trials."""
    both = trials.both.least_slowdown
    plain = -np.log(trials.mean_ratio)
    least = {
        CONFIRMED: np.maximum(trials.first.least_slowdown, both),
        TWO_PASSES: both,
        **{rule: plain + math.log(threshold) for rule, threshold in PLAIN.items()},
        PYTEST_BENCHMARK: plain + math.log(PLAIN[PLAIN_5]),
    }
    return {rule: math.expm1(max(0.0, float(np.quantile(needed, share)))) for rule, needed in least.items()}
