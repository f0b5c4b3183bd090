"""Slows the embedded model down, and checks that the verdict finds it.

It does so on this machine's GPU and CPU. Each document is summarized with and without the disturbance, interleaved A B
B A in one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, cycle
from math import exp, log
from statistics import stdev
from typing import Any

from summarybench.analysis.attribution import Attribution, MeasuredPass, attribute, moves_between
from summarybench.catalogue.models import EXPERIMENTS, MODELS
from summarybench.core.numbers import estimate, percent
from summarybench.core.outcomes import InputError, UnavailableError, Verdict
from summarybench.documents.prompts import Prompt
from summarybench.documents.sources import embedded_documents
from summarybench.engines.engine import TextGenerator
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.loading import load, quiet_libraries
from summarybench.engines.not_loaded import NotLoaded
from summarybench.engines.weights import find_weights
from summarybench.machine.detection import detect_device
from summarybench.machine.device import Device
from summarybench.machine.environment import usable_cpus
from summarybench.machine.probes import (
    ProbeReadings,
    as_extra_info,
    averaged,
    host_probe,
    measure_probes,
    overall_rate,
)
from summarybench.machine.telemetry import NullMonitor
from summarybench.measure.disturbances import Switch, busy_neighbour, delay, other_tenant
from summarybench.measure.generation import GenerationRecord, Instruments, build_prompts, measure
from summarybench.measure.metrics import time_to_first_token_seconds
from summarybench.measure.overhead import pairs
from summarybench.runs.run_file import Entry
from summarybench.stats.changes import WITHIN_ONE_PROCESS, Change, paired_change
from summarybench.stats.decision import decide
from summarybench.stats.timings import Timing

MAX_PROMPT_TOKENS = 128
TOLERANCE = 0.05
DELAYS = (0.0, 0.05, 0.10, 0.20)
ORDER = (False, True, True, False)
"""Whether a document's rounds, and the readings of the probes, are disturbed: a steady drift affects both sides alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotSample:
    """What is summarized on a kind of device."""

    experiment: str
    documents: int
    max_new_tokens: int


ON_CPU = SpotSample(experiment="smollm2-135m-instruct-4-bit", documents=8, max_new_tokens=12)
ON_GPU = SpotSample(experiment="smollm2-135m-instruct-fp16", documents=24, max_new_tokens=8)
"""About 20 seconds for each disturbance, at the 30 to 45 tokens/s that a host can launch kernels for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """One disturbance as measured.

    `now` has the rounds with it, `before` those without it.
    """

    name: str
    change: Change
    now: Entry
    before: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One disturbance as the suite judges it.

    The change is from the rounds without the disturbance to those with it. `attribution` is None where the verdict
    needs none.
    """

    name: str
    change: Change
    verdict: Verdict
    attribution: Attribution | None
    probes: dict[str, float]
    """For each machine probe: its rate with the disturbance ÷ without it."""

    def as_json(self) -> dict[str, Any]:
        interval = self.change.interval()
        return {
            "name": self.name,
            "ratio": self.change.ratio,
            "low": interval.low,
            "high": interval.high,
            "confidence": interval.confidence,
            "verdict": self.verdict.value,
            "attribution": None if self.attribution is None else asdict(self.attribution),
            "controls": self.probes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotChecks:
    """All disturbances that were tried on one device."""

    device: str
    cpus: int
    sample: SpotSample
    spots: tuple[Spot, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "cpus": self.cpus,
            **asdict(self.sample),
            "max_prompt_tokens": MAX_PROMPT_TOKENS,
            "spots": [spot.as_json() for spot in self.spots],
        }


def devices_to_try(kind: str, detect: Callable[[Mapping[str, str]], Device] = detect_device) -> tuple[Device, ...]:
    """The GPU, the CPU, or both, the GPU first.

    Raises InputError where a GPU is asked for and there is none.
    """
    found = () if kind == "cpu" else (detect(os.environ),)
    gpus = tuple(device for device in found if not device.is_host)
    if kind == "gpu" and not gpus:
        raise InputError(
            "--device gpu: this process sees none ('summarybench doctor' (make doctor) says more); --device cpu does without"
        )
    return gpus if kind == "gpu" else (*gpus, detect({**os.environ, "CUDA_VISIBLE_DEVICES": ""}))


def check_spots(device: Device, say: Callable[[str], None]) -> SpotChecks:
    """Try delays in the decoding loop, then neighbours.

    `say` gets a line for each step. It takes about three minutes on two idle cores. Raises UnavailableError where the
    embedded model cannot be loaded, or a neighbour does not start.
    """
    quiet_libraries(show_progress=False)
    with _one_thread():
        found = _check_spots(device, say)
    device.release_memory()
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread.

    Threads of a matrix product wait for each other, so two can be twenty times slower than one beside a busy neighbour.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_spots(device: Device, say: Callable[[str], None]) -> SpotChecks:
    sample = ON_GPU if device.affords_large_samples else ON_CPU
    clock = device.clock()
    instruments = Instruments(device=device, clock=clock, monitor=NullMonitor(), sample_host=host_probe(device, clock))
    loaded = _load(sample, device, instruments)
    prompts = _prompts(sample, loaded)
    for prompt in prompts:  # a GPU loads kernels for each new length, and the first of four rounds would pay for it
        loaded.generate_bare(loaded.prepare([prompt.token_ids]), sample.max_new_tokens)
    dtype = str(loaded.settings.get("compute_dtype", loaded.settings["dtype"]))
    instruments = replace(instruments, probe_machine=lambda: measure_probes(device, clock, dtype))
    sides = []
    for name, disturbance in _disturbances(loaded, instruments):
        say(f"spot check on the {device.name}: {name}")
        with disturbance as switch:
            found = disturbed(name, loaded, prompts, switch, instruments, max_new_tokens=sample.max_new_tokens)
        sides.append(found)
        interval = found.change.interval()
        say(f"  tokens/s with ÷ without {estimate(found.change.ratio, interval.low, interval.high, 3)}")
    deviations = probe_deviations([each.before for each in sides])
    spots = tuple(judged(each, deviations, is_gpu=device.is_gpu) for each in sides)
    return SpotChecks(device=device.name, cpus=usable_cpus(), sample=sample, spots=spots)


def _load(sample: SpotSample, device: Device, instruments: Instruments) -> LoadedModel:
    experiment = next(each for each in EXPERIMENTS if each.name == sample.experiment)
    found = load(
        experiment,
        lambda: find_weights(MODELS[experiment.model], {}, synthetic=False),
        device,
        instruments.clock,
        longest_sequence=lambda _: MAX_PROMPT_TOKENS + sample.max_new_tokens,
        predict=True,
    )
    if isinstance(found, NotLoaded):
        raise UnavailableError(f"{experiment.name}: {found.detail}")
    return found


def _prompts(sample: SpotSample, loaded: LoadedModel) -> tuple[Prompt, ...]:
    documents = embedded_documents().sample(sample.documents, seed=0)
    return build_prompts(loaded.chat, documents, MAX_PROMPT_TOKENS, sample.max_new_tokens)


def _disturbances(
    loaded: LoadedModel, instruments: Instruments
) -> Iterator[tuple[str, AbstractContextManager[Switch]]]:
    for share in DELAYS:
        yield f"each token delayed by {percent(share)} of its time", delay(loaded.model, share, instruments.clock)
    cpus = os.sched_getaffinity(0)
    yield f"a busy neighbour on {len(cpus)} CPUs", busy_neighbour(cpus)
    if not instruments.device.is_host:  # a busy neighbour shares the host
        yield "another tenant of the GPU", other_tenant(instruments.device)


class _Alternating:
    """A model that sets the switch before each round. The warm-up is not disturbed."""

    def __init__(self, model: TextGenerator, switch: Switch) -> None:
        self._prepare = model.prepare
        self._switch = switch
        self._turns = chain([False], cycle(ORDER))
        self.generate = model.generate
        self.generated_ids = model.generated_ids
        self.decode = model.decode
        self.ends_by_itself = model.ends_by_itself

    def prepare(self, rows: Sequence[Sequence[int]]) -> Any:
        prepared = self._prepare(rows)
        self._switch(next(self._turns))
        return prepared


class _Rounds:
    """Runs rounds like pytest-benchmark's fixture, without statistics."""

    def pedantic(self, target: Callable[..., Any], *, setup: Callable[[], Any], rounds: int) -> None:
        for _ in range(rounds):
            arguments, keywords = setup()
            target(*arguments, **keywords)


def disturbed(
    name: str,
    model: TextGenerator,
    prompts: Sequence[Prompt],
    switch: Switch,
    instruments: Instruments,
    *,
    max_new_tokens: int,
) -> Sides:
    """Summarize each prompt four times, twice with the disturbance.

    The machine is probed with and without it too.
    """
    readings: dict[bool, list[ProbeReadings]] = {False: [], True: []}

    def probe_both() -> ProbeReadings:
        for is_disturbed in ORDER:
            switch(is_disturbed)
            readings[is_disturbed].append(instruments.probe_machine())
        return readings[False][-1]

    measured = measure(
        _Rounds(),
        _Alternating(model, switch),
        [prompt for prompt in prompts for _ in ORDER],
        max_new_tokens=max_new_tokens,
        instruments=replace(instruments, probe_machine=probe_both),
        on_record=lambda _: None,
    )
    records: dict[bool, list[GenerationRecord]] = {False: [], True: []}
    for record, is_disturbed in zip(measured.records, cycle(ORDER), strict=False):
        records[is_disturbed].append(record)
    change = paired_change(_timings(records[True]), _timings(records[False]), WITHIN_ONE_PROCESS)
    return Sides(
        name=name,
        change=change,
        now=_entry(name, records[True], readings[True]),
        before=_entry(name, records[False], readings[False]),
    )


def probe_deviations(undisturbed: Sequence[Entry]) -> dict[str, float]:
    """The standard deviation of each probe's logarithm without disturbances.

    spread.json has the same figure between runs.
    """
    return {
        probe: stdev(log(_rate(entry, probe)) for entry in undisturbed)
        for probe in undisturbed[0].extra_info["controls"]
    }


def judged(sides: Sides, deviations: Mapping[str, float], *, is_gpu: bool) -> Spot:
    """The suite's verdict on one disturbance.

    It comes with the attribution where the verdict needs one.
    """
    verdict = decide(sides.change, TOLERANCE)
    disturbed_pass = MeasuredPass(entry=sides.now, log_ratio=sides.change.log_ratio, deviations=deviations)
    return Spot(
        name=sides.name,
        change=sides.change,
        verdict=verdict,
        attribution=attribute(sides.change, [disturbed_pass], [sides.before], is_gpu=is_gpu, differences=())
        if verdict in (Verdict.REGRESSED, Verdict.IMPROVED)
        else None,
        probes={move.name: exp(move.log_ratio) for move in moves_between(sides.now, sides.before, deviations)},
    )


def _timings(records: Sequence[GenerationRecord]) -> list[Timing]:
    return pairs([Timing(tokens=record.generated_tokens, seconds=record.seconds) for record in records])


def _entry(name: str, records: Sequence[GenerationRecord], readings: Sequence[ProbeReadings]) -> Entry:
    """One side as the entry of a run.

    It has the first of each document's two rounds, and the mean of each two probe readings.
    """
    first_of_each = records[::2]
    return Entry.of(
        name=f"spot_check[{name}]",
        extra_info={
            "document_ids": [record.document_id for record in first_of_each],
            "generated_tokens": [record.generated_tokens for record in first_of_each],
            "time_to_first_token_seconds": [time_to_first_token_seconds(record) for record in first_of_each],
            "host_rate_per_second": [record.host_rate_per_second for record in records],
            "controls": as_extra_info(averaged(readings[:2]), averaged(readings[2:])),
        },
        seconds=tuple(record.seconds for record in first_of_each),
    )


def _rate(entry: Entry, probe: str) -> float:
    return overall_rate(entry.extra_info["controls"][probe])
