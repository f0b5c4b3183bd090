"""Alarms in simulated nights: by the suite's verdict, by its history, and by a plain threshold.

The functions on arrays repeat the suite's rules for many series at once. `check_against_the_suite` decides some of the same
nights with the suite's own functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from summarybench.analysis.comparison import FALSE_ALARM_LEVEL
from summarybench.analysis.device_noise import GPU_PRIORS, NoiseClass
from summarybench.analysis.simulation import Nights, Numbers
from summarybench.analysis.truths import BASELINE_RUNS, DOCUMENTS, STORED_NIGHTS
from summarybench.core.outcomes import JudgementError
from summarybench.stats.changes import Change
from summarybench.stats.decision import REGRESSION_RATIO, holm, is_regressed
from summarybench.stats.intervals import ALARM_CONFIDENCE
from summarybench.stats.noise_parts import LEAST_DEGREES_OF_FREEDOM, Level, Observation, Place, estimate_parts
from summarybench.stats.sequential import cusum
from summarybench.stats.sequential_simulation import alarms_of

PRIORS = GPU_PRIORS[NoiseClass.EAGER]
Flags = NDArray[np.bool_]
COMPARISONS = 3
"""Holm's correction counts an experiment's speed, first token and decoding."""
PLAIN_THRESHOLD = 1.05
"""Of the mean seconds of a document against the newest stored run, as in `--benchmark-compare-fail=mean:5%`."""
EXPERIMENT, NIGHT_FORMAT = "simulated", "04d"
CHECKED_TRIALS, CHECKED_NIGHTS = 4, (0, 1, 6, 29, 59)
"""For each condition: how many series are also decided by the suite's own functions, and on which judged nights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What the suite decides in each night, [trials, nights]; stored nights have no alarm.

    A run that fails is not stored. `speeds` has what the history counts: the second pass of a suspect, otherwise the first.
    `bounds` are the upper bounds of the change in the first pass, logarithms; a suspect's is below 0.
    """

    alarmed: Flags
    speeds: Numbers
    bounds: Numbers


# The verdict on arrays -----------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Stored:
    """What the stored nights of one host say, [trials] each: squared successive differences, and the newest runs.

    `newest` is [trials, BASELINE_RUNS], the newest last.
    """

    squares: Numbers
    count: Numbers
    newest: Numbers

    @classmethod
    def of(cls, log_speeds: Numbers) -> _Stored:
        trials, nights = log_speeds.shape
        return cls(
            squares=(np.diff(log_speeds, axis=1) ** 2).sum(axis=1),
            count=np.full(trials, float(nights)),
            newest=log_speeds[:, -BASELINE_RUNS:] if nights else np.zeros((trials, BASELINE_RUNS)),
        )

    @property
    def freedom(self) -> Numbers:
        """`successive_difference_freedom`; 0 for fewer than 2 nights."""
        return np.where(self.count > 1, 2 * (self.count - 1) ** 2 / np.maximum(3 * self.count - 4, 1), 0.0)

    @property
    def variance(self) -> Numbers:
        """`successive_difference_variance`."""
        variance: Numbers = self.squares / 2 / np.maximum(self.count - 1, 1)
        return variance

    @property
    def runs(self) -> Numbers:
        """How many runs a baseline has."""
        return np.minimum(self.count, BASELINE_RUNS)

    @property
    def baseline(self) -> Numbers:
        is_used = np.arange(BASELINE_RUNS) >= BASELINE_RUNS - self.runs[:, None]
        mean: Numbers = (self.newest * is_used).sum(axis=1) / np.maximum(self.runs, 1)
        return mean

    def add(self, log_speeds: Numbers, is_stored: Flags) -> None:
        """Store a night's runs, except those that failed."""
        step = np.where(self.count > 0, (log_speeds - self.newest[:, -1]) ** 2, 0.0)
        self.squares = np.where(is_stored, self.squares + step, self.squares)
        self.count = self.count + is_stored
        self.newest = np.where(is_stored[:, None], np.column_stack([self.newest[:, 1:], log_speeds]), self.newest)


def verdicts_of(nights: Nights) -> Verdicts:
    """The verdicts on the judged nights, one after another, a suspect measured twice."""
    first, second = nights.log_speeds[:, :, 0], nights.log_speeds[:, :, 1]
    stored = _Stored.of(first[:, :STORED_NIGHTS])
    elsewhere = None
    if nights.is_moved:
        stored, elsewhere = _Stored.of(first[:, :0]), stored
    alarmed, speeds, bounds = np.zeros(first.shape, dtype=np.bool_), first.copy(), np.zeros(first.shape)
    for night in range(STORED_NIGHTS, first.shape[1]):
        noise = _noise_of(stored, elsewhere, nights.document_variance)
        has_own = stored.count > 0
        baseline, runs = stored.baseline, stored.runs
        if elsewhere is not None:
            baseline, runs = (
                np.where(has_own, baseline, elsewhere.baseline),
                np.where(has_own, runs, elsewhere.runs),
            )
        changes = (first[:, night] - baseline, second[:, night] - baseline)
        bounds[:, night] = _upper_bound(changes[:1], noise, runs, nights, ALARM_CONFIDENCE)
        confirmed = _upper_bound(changes, noise, runs, nights, 1 - FALSE_ALARM_LEVEL / COMPARISONS)
        is_suspect = _is_slow(changes[:1], bounds[:, night])
        is_confirmed = _is_slow(changes, confirmed) & ~_is_disputed(changes, noise, runs, nights)
        alarmed[:, night] = is_suspect & is_confirmed
        speeds[:, night] = np.where(is_suspect, second[:, night], first[:, night])
        stored.add(speeds[:, night], ~alarmed[:, night])
    return Verdicts(alarmed=alarmed, speeds=speeds, bounds=bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noise:
    """`NoiseParts.terms` without the numbers of runs: variances and degrees of freedom, [trials] each."""

    process: Numbers
    process_freedom: Numbers
    night: Numbers
    night_freedom: Numbers
    host: Numbers

    def terms(self, baseline_runs: Numbers, passes: int) -> Iterator[tuple[Numbers, Numbers | float]]:
        is_split = (
            self.night > 0
        )  # otherwise only nights were measured, and all of their variance may be shared by passes
        yield self.process * (1 / baseline_runs + np.where(is_split, 1 / passes, 1.0)), self.process_freedom
        yield self.night * (1 / baseline_runs + 1), self.night_freedom
        yield self.host * 2, LEAST_DEGREES_OF_FREEDOM


def _noise_of(stored: _Stored, elsewhere: _Stored | None, document_variance: float) -> _Noise:
    """`estimate_parts` where each night has one process, so that only nights were measured."""
    freedom, variance = stored.freedom, stored.variance
    if elsewhere is not None:
        is_pooled = freedom < LEAST_DEGREES_OF_FREEDOM
        both = freedom + elsewhere.freedom
        pooled = (freedom * variance + elsewhere.freedom * elsewhere.variance) / both
        freedom, variance = np.where(is_pooled, both, freedom), np.where(is_pooled, pooled, variance)
    least = variance * np.minimum(1.0, np.sqrt(2 / freedom))
    night = np.maximum(variance - document_variance, least)
    prior = PRIORS[Level.PROCESS] ** 2
    is_nearer = night < prior
    host = np.where(stored.count > 0, 0.0, PRIORS[Level.HOST] ** 2)
    return _Noise(
        process=np.where(is_nearer, night, prior),
        process_freedom=np.where(is_nearer, freedom, LEAST_DEGREES_OF_FREEDOM),
        night=np.where(is_nearer, 0.0, night - prior),
        night_freedom=freedom,
        host=host,
    )


def _upper_bound(
    changes: Sequence[Numbers], noise: _Noise, baseline_runs: Numbers, nights: Nights, confidence: float
) -> Numbers:
    """The logarithm of `Change.upper_bound`, for the passes pooled."""
    from scipy.special import stdtrit

    passes = len(changes)
    of_documents = nights.document_variance * (1 / baseline_runs + 1 / passes)
    terms = list(noise.terms(baseline_runs, passes))
    variance = of_documents + sum(term for term, _ in terms)
    uncertain = of_documents**2 / (DOCUMENTS - 1) + sum(term**2 / freedom for term, freedom in terms)
    bound: Numbers = np.mean(changes, axis=0) + stdtrit(variance**2 / uncertain, confidence) * np.sqrt(variance)
    return bound


def _is_slow(changes: Sequence[Numbers], upper_bound: Numbers) -> Flags:
    """`is_regressed`: the slowdown is relevant, also in each pass alone, and certain."""
    slow: Flags = (np.exp(np.max(changes, axis=0)) <= REGRESSION_RATIO) & (upper_bound < 0)
    return slow


def _is_disputed(changes: Sequence[Numbers], noise: _Noise, baseline_runs: Numbers, nights: Nights) -> Flags:
    """`is_disputed` of two passes whose first is a suspect: they are apart, and the second alone is none."""
    from scipy.special import stdtrit

    of_documents, of_processes = 2 * nights.document_variance, 2 * noise.process
    variance = of_documents + of_processes
    uncertain = of_documents**2 / (DOCUMENTS - 1) + of_processes**2 / noise.process_freedom
    reach = stdtrit(variance**2 / uncertain, (1 + ALARM_CONFIDENCE) / 2) * np.sqrt(variance)
    first, second = changes
    alone = _upper_bound([second], noise, baseline_runs, nights, ALARM_CONFIDENCE)
    disputed: Flags = (np.abs(second - first) > reach) & ~_is_slow([second], alone)
    return disputed


# The other rules on arrays -------------------------------------------------------------------------------------------


def history_alarms_of(nights: Nights, speeds: Numbers) -> Flags:
    """Which nights have an alarm of the history, [trials, nights]. Another host's nights are another series."""
    if not nights.is_moved:
        return alarms_of(speeds)
    return np.column_stack([alarms_of(speeds[:, :STORED_NIGHTS]), alarms_of(speeds[:, STORED_NIGHTS:])])


def threshold_alarms_of(nights: Nights) -> Flags:
    """Which judged nights a plain threshold fails, against the newest run that it has not failed."""
    seconds = nights.log_seconds[:, :, 0]
    alarmed, newest = np.zeros(seconds.shape, dtype=np.bool_), seconds[:, STORED_NIGHTS - 1]
    for night in range(STORED_NIGHTS, seconds.shape[1]):
        alarmed[:, night] = seconds[:, night] - newest > math.log(PLAIN_THRESHOLD)
        newest = np.where(alarmed[:, night], newest, seconds[:, night])
    return alarmed


# The suite's own functions -------------------------------------------------------------------------------------------


def check_against_the_suite(nights: Nights, verdicts: Verdicts, history: Flags) -> int:
    """Decide some nights with the suite's own functions too. Returns how many.

    Raises JudgementError for the first one that is decided differently.
    """
    checked = 0
    for trial in range(min(CHECKED_TRIALS, len(verdicts.speeds))):
        for night in (STORED_NIGHTS + each for each in CHECKED_NIGHTS):
            seen = bool(verdicts.alarmed[trial, night]), bool(history[trial, night])
            change = change_by_the_suite(nights, verdicts, trial, night)
            expected = verdict_fails(change), _history_fails(nights, verdicts, trial, night)
            bounds = float(np.exp(verdicts.bounds[trial, night])), change(1).upper_bound(ALARM_CONFIDENCE)
            if seen != expected or not math.isclose(*bounds, rel_tol=1e-9):
                raise JudgementError(
                    f"the simulation and the suite decide night {night} of trial {trial} differently (verdict, history): "
                    f"the simulation {seen}, the suite {expected}; upper bounds {bounds}; see summarybench/analysis/alarms.py"
                )
            checked += 1
    return checked


def _place(nights: Nights, night: int) -> Place:
    host = "another" if nights.is_moved and night >= STORED_NIGHTS else "first"
    return Place(host=host, night=format(night, NIGHT_FORMAT))


def change_by_the_suite(nights: Nights, verdicts: Verdicts, trial: int, night: int) -> Callable[[int], Change]:
    """The change of a night for so many passes, with the noise that the stored nights show."""
    stored = [each for each in range(night) if not verdicts.alarmed[trial, each]]
    here = _place(nights, night)
    observations = [
        Observation(
            experiment=EXPERIMENT,
            place=_place(nights, each),
            process=str(each),
            log_speed=float(verdicts.speeds[trial, each]),
            document_variance=nights.document_variance,
        )
        for each in stored
    ]
    parts = estimate_parts(observations, EXPERIMENT, PRIORS, here.host)
    of_host = [each for each in stored if _place(nights, each).host == here.host]
    baseline = (of_host or stored)[-BASELINE_RUNS:]
    before = [float(each) for each in verdicts.speeds[trial, baseline]]
    places = [_place(nights, each) for each in baseline]

    def change_of(now: Sequence[float], before: Sequence[float], places: Sequence[Place]) -> Change:
        return Change(
            log_ratio=fmean(now) - fmean(before),
            document_deviation=nights.document_deviation * math.sqrt(1 / len(before) + 1 / len(now)),
            documents=DOCUMENTS,
            noise=parts.terms([here] * len(now), places),
            baseline_runs=len(before),
            runs_now=len(now),
        )

    def change(passes: int) -> Change:
        now = [float(each) for each in nights.log_speeds[trial, night, :passes]]
        pooled = change_of(now, before, places)
        if passes == 1:
            return pooled
        return replace(
            pooled,
            alone=tuple(change_of([each], before, places) for each in now),
            between_passes=change_of(now[-1:], now[:1], [here]),
        )

    return change


def verdict_fails(change: Callable[[int], Change]) -> bool:
    both = change(2)
    others = [1.0] * (COMPARISONS - 1)
    return is_regressed(change(1)) and is_regressed(both) and holm([both.p_value, *others], FALSE_ALARM_LEVEL)[0]


def _history_fails(nights: Nights, verdicts: Verdicts, trial: int, night: int) -> bool:
    first = STORED_NIGHTS if nights.is_moved else 0
    return cusum(verdicts.speeds[trial, first : night + 1].tolist()).alarm is not None
