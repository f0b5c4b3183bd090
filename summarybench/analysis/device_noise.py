"""The noise of a device: how much runs of unchanged code differ, from its stored runs and its measured replicates.

Every stored run is an observation. Nights of one workload with one set of versions on one host are replicates, and so are the
processes that `summarybench noise` measured in one night. The noise of a device improves by itself while nights go by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

from summarybench.analysis.noise import ProbeNoise, is_compiled, read_groups, read_probe_noise
from summarybench.analysis.quantities import Quantity, judged_quantities, timings_of
from summarybench.core.outcomes import Verdict
from summarybench.machine.device import DeviceRecord
from summarybench.machine.environment import VERSIONS
from summarybench.runs.baselines import Baselines, StoredRun
from summarybench.runs.device_files import ReplicatesRecord
from summarybench.runs.run_file import Entry, entries_of
from summarybench.stats.noise_parts import Level, NoiseParts, Observation, Place, estimate_parts
from summarybench.stats.spread import Spread, replicates_of
from summarybench.stats.timings import Timing, log_speed


class NoiseClass(StrEnum):
    """Experiments that decode alike, and so have noise in common. Batches and rounds belong to the class of their loader."""

    EAGER = "eager"
    """Waits for the host at every operation."""
    COMPILED = "compiled"
    """One CUDA graph a token, with the same tuned kernels on both sides."""
    TUNED_APART = "compiled, kernels tuned apart"
    """The compiler chose its kernels anew between the runs, or they are unknown."""


def _priors(process: float, night: float, host: float) -> Mapping[Level, float]:
    return MappingProxyType({Level.PROCESS: process, Level.NIGHT: night, Level.HOST: host})


GPU_PRIORS: Mapping[NoiseClass, Mapping[Level, float]] = MappingProxyType(
    {
        # Host-bound: 1.5% to 15% between processes of one H100 host, 2% on quiet ones.
        NoiseClass.EAGER: _priors(0.05, 0.02, 0.10),
        # The GPU decides: 0.03% between processes where the kernels are the same.
        NoiseClass.COMPILED: _priors(0.01, 0.02, 0.10),
        # Each tuning picks other kernels: 3% and 7% between processes of two H100 hosts.
        NoiseClass.TUNED_APART: _priors(0.05, 0.02, 0.10),
    }
)
CPU_PRIORS: Mapping[NoiseClass, Mapping[Level, float]] = MappingProxyType(
    # Between processes, five runs on two shared cores varied by 5.5% to 12%: other load interrupts threads that wait for each
    # other. Neighbours change from night to night, and one CPU model comes with other memory and clocks in each machine.
    dict.fromkeys(NoiseClass, _priors(0.12, 0.05, 0.30))
)
FIRST_TOKEN_FACTOR = 2.0
"""A first token is one step, where a speed averages a hundred, and no engine captures its prefill in a CUDA graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One quantity of one experiment in one run, before it is known with which runs it is compared."""

    quantity: Quantity
    observation: Observation
    tuned_kernels: str | None


@dataclass(frozen=True, kw_only=True)  # not slotted: what is derived is kept
class DeviceNoise:
    """The noise of a device, as far as it was measured; priors stand in for the rest.

    `probes` has the noise of the machine probes.
    """

    is_gpu: bool
    sightings: Sequence[Sighting] = ()
    probes: ProbeNoise = field(default_factory=ProbeNoise)

    def parts(
        self,
        experiment: str,
        quantity: Quantity = Quantity.SPEED,
        *,
        tuned_alike: bool = False,
        host: str | None = None,
    ) -> NoiseParts:
        """The parts of an experiment's noise on one host, or on any. `tuned_alike` matters only for compiled experiments."""
        noise_class = _class_of(experiment, tuned_alike=tuned_alike)
        priors = self.priors(quantity, noise_class)
        if quantity is not Quantity.SPEED:
            # Where the speed is known to be noisier than assumed, so are its parts.
            speed = self.parts(experiment, tuned_alike=tuned_alike, host=host)
            priors = {level: max(prior, speed.added(level)) for level, prior in priors.items()}
        return estimate_parts(self._observations.get((quantity, noise_class), ()), experiment, priors, host)

    def measured(self) -> dict[NoiseClass, float]:
        """How much single runs of different nights differ, for each class of experiments of which this was measured.

        Of nights, or of the processes of one night where nights were not measured. It is a relative standard deviation, over all
        experiments and hosts.
        """
        found = {}
        for noise_class in NoiseClass:
            observations = self._observations.get((Quantity.SPEED, noise_class), ())
            parts = estimate_parts(observations, "", self.priors(Quantity.SPEED, noise_class))
            known = [each for each in (parts.night, parts.process) if each.is_measured]
            if known:
                found[noise_class] = known[0].standard_deviation
        return found

    def priors(self, quantity: Quantity, noise_class: NoiseClass) -> Mapping[Level, float]:
        """The standard deviation that each level adds where it was not measured."""
        priors = (GPU_PRIORS if self.is_gpu else CPU_PRIORS)[noise_class]
        if quantity is not Quantity.FIRST_TOKEN:
            return priors
        return {**priors, Level.PROCESS: FIRST_TOKEN_FACTOR * priors[Level.PROCESS]}

    def control_deviations_like(self, entry: Entry, host: str | None) -> dict[str, float]:
        """The relative standard deviation between runs of each of the entry's machine probes, if it was measured."""
        return self.probes.on(host).control_deviations_like(entry)

    @cached_property
    def _observations(self) -> dict[tuple[Quantity, NoiseClass], list[Observation]]:
        found: dict[tuple[Quantity, NoiseClass], list[Observation]] = {}
        tunings: set[tuple[object, ...]] = set()
        for each in self.sightings:
            observation, tuned = each.observation, each.tuned_kernels
            if not is_compiled(observation.experiment):
                found.setdefault((each.quantity, NoiseClass.EAGER), []).append(observation)
                continue
            if tuned is not None:
                alike = replace(observation, series=f"{observation.series} {tuned}")
                found.setdefault((each.quantity, NoiseClass.COMPILED), []).append(alike)
            tuning = (each.quantity, observation.experiment, observation.series, observation.place.host, tuned)
            if tuned is None or tuning not in tunings:  # two runs with the same kernels say nothing of another tuning
                tunings.add(tuning)
                found.setdefault((each.quantity, NoiseClass.TUNED_APART), []).append(observation)
        return found


def spread_of(parts: NoiseParts, *, is_one_host: bool = True) -> Spread:
    """The noise of runs in nights of their own, as one number with Welch and Satterthwaite's degrees of freedom.

    Without `is_one_host`, the two sides of a comparison are of different hosts.
    """
    before = Place(host="one" if is_one_host else "another", night="before")
    terms = parts.terms([Place(host="one", night="now")], [before])
    variance = math.fsum(term.variance for term in terms)
    uncertain = math.fsum(term.variance**2 / term.degrees_of_freedom for term in terms)
    return Spread(
        standard_deviation=math.sqrt(variance / 2),
        degrees_of_freedom=variance**2 / uncertain if uncertain else parts.process.degrees_of_freedom,
        is_prior=not all(term.is_measured for term in terms),
    )


def _class_of(experiment: str, *, tuned_alike: bool) -> NoiseClass:
    if not is_compiled(experiment):
        return NoiseClass.EAGER
    return NoiseClass.COMPILED if tuned_alike else NoiseClass.TUNED_APART


def read_device_noise(baselines: Baselines, *, is_gpu: bool) -> DeviceNoise:
    """The noise in a device's folder: of its stored runs, and of its spread.json. Raises InputError for a damaged file."""
    groups = read_groups(baselines.folder)
    measured = list(_sightings_of_groups(groups, baselines.runs))
    in_groups = {(each.observation.experiment, each.observation.process) for each in measured}
    stored = [
        each
        for each in _sightings_of_runs(baselines.runs)
        if (each.observation.experiment, each.observation.process) not in in_groups
    ]
    return DeviceNoise(is_gpu=is_gpu, sightings=(*measured, *stored), probes=read_probe_noise(baselines.folder))


def measures_gpu(device: DeviceRecord, baselines: Baselines) -> bool:
    """Whether the device is a GPU. The record of another machine's device does not say that, but its stored runs do."""
    return baselines.are_of_gpu if device.is_remote else device.is_gpu


# Stored runs -----------------------------------------------------------------------------------------------------


def place_of(stored: StoredRun) -> Place:
    """A run's host and day. What a run does not state is shared with no other run."""
    unknown = f"unknown, {stored.label}"
    return Place(host=stored.host.id or unknown, night=str(stored.run["datetime"])[:10] or unknown)


def _sightings_of_runs(runs: Iterable[StoredRun]) -> Iterator[Sighting]:
    """Each run counts once, however often it is stored, and only what was measured undisturbed and at its own speed."""
    series: dict[str, list[tuple[StoredRun, Entry]]] = {}
    for stored in runs:
        for entry in entries_of(stored.run):
            if _is_observation(entry):
                members = series.setdefault(_series_of(stored, entry), [])
                if all(entry.seconds != other.seconds for _, other in members):
                    members.append((stored, entry))
    for name, members in series.items():
        for quantity in judged_quantities(members[0][1]):
            yield from _sightings_of_series(name, members, quantity)


def _is_observation(entry: Entry) -> bool:
    is_valid = entry.extra_info["verdict"] != Verdict.INVALID and not entry.broken_output
    return is_valid and entry.is_own_speed and entry.compared_count is None


def _series_of(stored: StoredRun, entry: Entry) -> str:
    versions = (stored.environment.get(name) for name in VERSIONS)
    return _series(entry.test, entry.extra_info["workload"], len(entry.timings), versions)


def _series(test: str, workload: str, rounds: int, versions: Iterable[object]) -> str:
    return " ".join(map(str, (test, workload, rounds, *versions)))


def _sightings_of_series(
    series: str, members: Sequence[tuple[StoredRun, Entry]], quantity: Quantity
) -> Iterator[Sighting]:
    lengths_of = members[0][1]
    found = [timings_of(entry, quantity, lengths_of) for _, entry in members]
    common = [each for each in found[0] if all(each in timings for timings in found)]
    if not common:
        return
    timings = [[of_run[each] for each in common] for of_run in found]
    document_variance = _document_variance(timings)
    for (stored, entry), of_run in zip(members, timings, strict=True):
        yield Sighting(
            quantity=quantity,
            observation=Observation(
                experiment=entry.experiment,
                place=place_of(stored),
                process=str(stored.run["datetime"]) or stored.label,
                log_speed=log_speed(of_run),
                document_variance=document_variance,
                series=series,
            ),
            tuned_kernels=entry.tuned_kernels,
        )


def _document_variance(runs: Sequence[Sequence[Timing]]) -> float:
    """What the documents add to the variance of one run's speed; 0 if it is unknown."""
    if len(runs) < 2 or len(runs[0]) < 2:
        return 0.0
    return replicates_of(runs).document_variance / len(runs[0])


# Replicates of one night -----------------------------------------------------------------------------------------


def _sightings_of_groups(groups: Iterable[ReplicatesRecord], runs: Iterable[StoredRun]) -> Iterator[Sighting]:
    """Groups from before hosts were identified name them as the stored runs of that time did."""
    ids = {str(stored.environment.get("host")): stored.host.id for stored in runs}
    for group in groups:
        old_id = str(group.get("host"))
        host = group.get("host_id") or ids.get(old_id, old_id)
        documents, versions = group["documents"], group.get("versions", {}).values()
        series = _series(group.get("test", "test_summarize"), group["workload"], documents, versions)
        tunings = group.get("tuned_kernels") or [None] * len(group["measured"])
        for quantity, speeds, document_deviation in _speeds_of(group):
            for measured, speed, tuned in zip(group["measured"], speeds, tunings, strict=True):
                yield Sighting(
                    quantity=quantity,
                    observation=Observation(
                        experiment=group["experiment"],
                        place=Place(host=host, night=measured[:10]),
                        process=measured,
                        log_speed=math.log(speed),
                        document_variance=document_deviation**2 / documents,
                        series=series,
                    ),
                    tuned_kernels=tuned,
                )


def _speeds_of(group: ReplicatesRecord) -> Iterator[tuple[Quantity, Sequence[float], float]]:
    """The speeds of a group's runs by quantity, with the deviation of one document. Older groups have the speed alone."""
    yield Quantity.SPEED, group["generated_tokens_per_second"], group["document_deviation"]
    for quantity, found in ((Quantity.FIRST_TOKEN, group.get("first_token")), (Quantity.DECODE, group.get("decode"))):
        if found is not None:
            yield quantity, found["speeds"], found["document_deviation"]
