"""Noise in three parts: how much runs of unchanged code differ between processes, between nights and between hosts.

One run's log(tokens per second) is modelled as the sum of a host's, a night's and a process's own deviation (a nested
random-effects layout; Searle, Casella and McCulloch, Variance Components, 1992, ch. 3):

    y = mean + host + night within the host + process within the night

A part is stored as what a single run varies by *up to* its level: between processes of one night, between nights of one
host, between hosts. That is what single runs show directly: a series with one run a night measures the second without
saying anything of the first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from summarybench.stats.successive_differences import successive_difference_freedom, successive_difference_variance

LEAST_DEGREES_OF_FREEDOM = 4.0
"""A part with fewer is filled up with its prior: Student's quantile of fewer lets nothing be decided at 99%."""


class Level(StrEnum):
    """What two runs differ in, from the least to the most."""

    PROCESS = "processes"
    NIGHT = "nights"
    HOST = "hosts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The variance of a single run's log(tokens per second) among runs that differ in this level and those below it.

    `measured_share` is the share of the degrees of freedom that come from measurements; the rest is the prior's.
    """

    variance: float
    degrees_of_freedom: float
    measured_share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.variance < math.inf or not self.degrees_of_freedom > 0 or not 0 <= self.measured_share <= 1:
            raise ValueError(
                f"impossible noise: variance {self.variance}, {self.degrees_of_freedom} degrees of freedom, "
                f"measured share {self.measured_share}"
            )

    @property
    def standard_deviation(self) -> float:
        return math.sqrt(self.variance)

    @property
    def is_measured(self) -> bool:
        """Whether at least half of it was measured."""
        return self.measured_share >= 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and when one run was measured: its host, and the day (UTC) on which it began."""

    host: str
    night: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One run of one experiment: log(tokens per second) in one process, and the variance that its documents add to it.

    Runs are replicates if `experiment` and `series` are equal: the same work with the same versions. `process` is equal for the
    experiments that one process measured: their deviations are not independent.
    """

    experiment: str
    place: Place
    process: str
    log_speed: float
    document_variance: float = 0.0
    series: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseTerm:
    """What one part adds to the variance of a comparison."""

    level: Level
    variance: float
    degrees_of_freedom: float
    is_measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseParts:
    """The three parts of one experiment's noise on one device.

    With `is_split` false, only nights were measured: `process` is then `night`, and their shares are unknown.
    """

    process: Part
    night: Part
    host: Part
    is_split: bool = True

    def added(self, level: Level) -> float:
        """The standard deviation that a level adds to those below it."""
        process, night = self.process.variance, max(self.night.variance, self.process.variance)
        below = {Level.PROCESS: 0.0, Level.NIGHT: process, Level.HOST: night}
        part = {Level.PROCESS: self.process, Level.NIGHT: self.night, Level.HOST: self.host}
        return math.sqrt(max(part[level].variance - below[level], 0.0))

    def terms(self, now: Sequence[Place], baseline: Sequence[Place]) -> tuple[NoiseTerm, ...]:
        """The variance of log(speed now ÷ baseline), part by part; `now` and `baseline` have the place of each run.

        Both sides are means of their runs. What all runs of a night, or of a host, share cancels as far as both sides hold
        it. If it is unknown how much of a night's variance its processes share, they share all or nothing, whichever makes the
        comparison less certain. Raises ValueError where a side has no run.
        """
        if not now or not baseline:
            raise ValueError("a comparison needs a run on each side")
        weighted = [*((place, 1 / len(now)) for place in now), *((place, -1 / len(baseline)) for place in baseline)]
        of_runs = math.fsum(weight**2 for _, weight in weighted)
        of_nights = _sum_of_squared_sums((place, weight) for place, weight in weighted)
        of_hosts = _sum_of_squared_sums((place.host, weight) for place, weight in weighted)
        of_processes = of_runs if self.is_split else max(of_runs, of_nights)
        return tuple(
            NoiseTerm(
                level=level,
                variance=variance,
                degrees_of_freedom=part.degrees_of_freedom,
                is_measured=part.is_measured,
            )
            for level, part, variance in (
                (Level.PROCESS, self.process, self.process.variance * of_processes),
                (Level.NIGHT, self.night, self.added(Level.NIGHT) ** 2 * of_nights),
                (Level.HOST, self.host, self.added(Level.HOST) ** 2 * of_hosts),
            )
            if variance > 0
        )


def _sum_of_squared_sums(weighted: Iterable[tuple[object, float]]) -> float:
    """Σ over groups of the square of the group's summed weights; sums that cancel but for rounding are zero."""
    sums: defaultdict[object, float] = defaultdict(float)
    for group, weight in weighted:
        sums[group] += weight
    return math.fsum(each**2 for each in sums.values() if abs(each) > 1e-12)


# Estimating ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _MeanSquare:
    """An estimated variance with its degrees of freedom; zero of the latter where nothing was measured."""

    variance: float = 0.0
    degrees_of_freedom: float = 0.0


NOTHING = _MeanSquare()


def estimate_parts(
    observations: Sequence[Observation], experiment: str, priors: Mapping[Level, float], host: str | None = None
) -> NoiseParts:
    """The parts of one experiment's noise on one host, or on any host of the device.

    `observations` are unchanged code, of experiments that decode alike (the class). `priors` has, for each level that was not
    measured, the standard deviation that the level adds to those below it.

    A host with LEAST_DEGREES_OF_FREEDOM of its own is judged by its own runs: hosts with the same GPU differ tenfold. An
    experiment with fewer is shrunk to the others of its class, which fill its mean square up to so many (in the manner of
    Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004). One with enough stands alone: experiments of
    one class differ tenfold too, and a noisy neighbour would hide the slowdowns of a quiet one. Degrees of freedom are counted
    by processes, nights and hosts and not by experiments: those of one process share its deviation.
    """
    here = [each for each in observations if each.place.host == host]

    def scope(level: Level) -> Sequence[Observation]:
        return here if _clusters(here, level) >= LEAST_DEGREES_OF_FREEDOM else observations

    def own(level: Level, among: Sequence[Observation]) -> _MeanSquare:
        return _pooled([each for each in among if each.experiment == experiment], level)

    def measured(level: Level, among: Sequence[Observation]) -> _MeanSquare:
        others = [each for each in among if each.experiment != experiment]
        return _shrunk(own(level, among), _pooled(others, level))

    processes, nights = scope(Level.PROCESS), scope(Level.NIGHT)
    of_processes, of_nights = measured(Level.PROCESS, processes), measured(Level.NIGHT, nights)
    process = _with_prior(of_processes, priors[Level.PROCESS] ** 2)
    if processes is here and nights is not here and of_nights.degrees_of_freedom:
        # Other hosts' nights say what a night adds, and not how much this host's processes differ.
        added = max(of_nights.variance - measured(Level.PROCESS, observations).variance, 0.0)
        of_nights = _MeanSquare(variance=process.variance + added, degrees_of_freedom=of_nights.degrees_of_freedom)
    night = _with_prior(of_nights, process.variance + priors[Level.NIGHT] ** 2)
    knows_more = own(Level.NIGHT, nights).degrees_of_freedom > own(Level.PROCESS, processes).degrees_of_freedom
    is_nearer = not process.is_measured or knows_more or (nights is here and processes is not here)
    is_split = not (night.is_measured and is_nearer and night.variance < process.variance)
    if not is_split:
        process = night  # runs of one night differ by no more than runs of different nights
    below = max(process.variance, night.variance)
    host_part = _with_prior(measured(Level.HOST, observations), below + priors[Level.HOST] ** 2)
    return NoiseParts(process=process, night=night, host=host_part, is_split=is_split)


def _by_series(observations: Iterable[Observation]) -> list[list[Observation]]:
    found: defaultdict[tuple[str, str], list[Observation]] = defaultdict(list)
    for each in observations:
        found[each.experiment, each.series].append(each)
    return list(found.values())


def _mean_square(observations: Sequence[Observation], level: Level) -> _MeanSquare:
    """What single runs of one series vary by up to this level, without the part of their documents."""
    if len(observations) < 2:
        return NOTHING
    by_night: defaultdict[Place, list[float]] = defaultdict(list)
    for each in observations:
        by_night[each.place].append(each.log_speed)
    if level is Level.PROCESS:
        found = _within(by_night.values())
    elif level is Level.NIGHT:
        found = _between_nights(by_night)
    else:
        found = _between_hosts(by_night)
    if not found.degrees_of_freedom:
        return NOTHING
    documents = fmean(each.document_variance for each in observations)
    least = found.variance * min(1.0, math.sqrt(2 / found.degrees_of_freedom))
    # The documents alone may explain the whole mean square. The rest is then unknown and not zero, so it is never estimated
    # below the standard error of the mean square.
    return _MeanSquare(variance=max(found.variance - documents, least), degrees_of_freedom=found.degrees_of_freedom)


def _within(groups: Iterable[Sequence[float]]) -> _MeanSquare:
    squares, freedom = 0.0, 0
    for values in groups:
        mean = fmean(values)
        squares += math.fsum((each - mean) ** 2 for each in values)
        freedom += len(values) - 1
    return _MeanSquare(variance=squares / freedom, degrees_of_freedom=freedom) if freedom else NOTHING


def _between_nights(by_night: Mapping[Place, Sequence[float]]) -> _MeanSquare:
    """From the differences of successive nights, so that an accepted change of the code counts once and not every night."""
    squares = freedom = 0.0
    hosts: defaultdict[str, list[Place]] = defaultdict(list)
    for place in sorted(by_night, key=lambda each: (each.host, each.night)):
        hosts[place.host].append(place)
    for places in hosts.values():
        means = [fmean(by_night[place]) for place in places]
        if len(means) > 1:
            own = successive_difference_freedom(len(means))
            squares += own * successive_difference_variance(means)
            freedom += own
    if not freedom:
        return NOTHING
    return _MeanSquare(variance=squares / freedom + _averaged_away(by_night), degrees_of_freedom=freedom)


def _between_hosts(by_night: Mapping[Place, Sequence[float]]) -> _MeanSquare:
    hosts: defaultdict[str, list[float]] = defaultdict(list)
    for place, values in by_night.items():
        hosts[place.host].append(fmean(values))
    means = [fmean(each) for each in hosts.values()]
    found = _within([means])
    if not found.degrees_of_freedom:
        return NOTHING
    nights = _within(hosts.values())
    mean_nights = fmean(1 / len(each) for each in hosts.values())
    return _MeanSquare(
        variance=found.variance + nights.variance * (1 - mean_nights) + _averaged_away(by_night),
        degrees_of_freedom=found.degrees_of_freedom,
    )


def _averaged_away(by_night: Mapping[Place, Sequence[float]]) -> float:
    """What a night's mean over several processes varies by less than a single run."""
    within = _within(by_night.values())
    return within.variance * (1 - fmean(1 / len(values) for values in by_night.values()))


def _pooled(observations: Sequence[Observation], level: Level) -> _MeanSquare:
    """The mean squares of several series in one, with the degrees of freedom of their processes, nights or hosts."""
    found = [_mean_square(each, level) for each in _by_series(observations)]
    freedom = math.fsum(each.degrees_of_freedom for each in found)
    if not freedom:
        return NOTHING
    variance = math.fsum(each.degrees_of_freedom * each.variance for each in found) / freedom
    return _MeanSquare(variance=variance, degrees_of_freedom=min(freedom, _clusters(observations, level)))


def _clusters(observations: Sequence[Observation], level: Level) -> float:
    processes: defaultdict[Place, set[str]] = defaultdict(set)
    nights: defaultdict[str, set[str]] = defaultdict(set)
    for each in observations:
        processes[each.place].add(each.process)
        nights[each.place.host].add(each.place.night)
    if level is Level.PROCESS:
        return sum(len(each) - 1 for each in processes.values())
    if level is Level.NIGHT:
        return math.fsum(successive_difference_freedom(len(each)) for each in nights.values() if len(each) > 1)
    return len(nights) - 1


def _shrunk(own: _MeanSquare, of_device: _MeanSquare) -> _MeanSquare:
    lent = of_device.degrees_of_freedom
    if own.degrees_of_freedom:
        lent = min(lent, max(LEAST_DEGREES_OF_FREEDOM - own.degrees_of_freedom, 0.0))
    freedom = own.degrees_of_freedom + lent
    if not freedom:
        return NOTHING
    variance = (own.degrees_of_freedom * own.variance + lent * of_device.variance) / freedom
    return _MeanSquare(variance=variance, degrees_of_freedom=freedom)


def _with_prior(found: _MeanSquare, prior_variance: float) -> Part:
    """The measured variance, filled up with the prior's to LEAST_DEGREES_OF_FREEDOM."""
    missing = max(LEAST_DEGREES_OF_FREEDOM - found.degrees_of_freedom, 0.0)
    freedom = found.degrees_of_freedom + missing
    return Part(
        variance=(found.degrees_of_freedom * found.variance + missing * prior_variance) / freedom,
        degrees_of_freedom=freedom,
        measured_share=found.degrees_of_freedom / freedom,
    )
