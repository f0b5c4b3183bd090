"""The embedded model with slowdowns that were put there, on this machine's GPU and CPU: what does the verdict say?

Each document is summarized as it is and disturbed, interleaved A B B A in one process.
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

from summarybench.analysis.attribution import Attribution, attribute, moves_between
from summarybench.catalogue.models import EXPERIMENTS, MODELS
from summarybench.core.outcomes import InputError, UnavailableError, Verdict
from summarybench.documents.sources import Prompt, embedded_documents
from summarybench.engines.loading import LoadedModel, NotLoaded, load, quiet_libraries
from summarybench.engines.weights import find_weights
from summarybench.machine.detection import detect_device
from summarybench.machine.device import Device
from summarybench.machine.environment import usable_cpus
from summarybench.machine.probes import Controls, as_extra_info, averaged, host_pulse, measure_controls, overall_rate
from summarybench.machine.telemetry import NullMonitor
from summarybench.measure.disturbances import Switch, busy_neighbour, delay, other_tenant
from summarybench.measure.generation import ChatModel, GenerationRecord, Instruments, build_prompts, measure
from summarybench.measure.metrics import time_to_first_token_seconds
from summarybench.measure.overhead import pairs
from summarybench.runs.run_file import Entry
from summarybench.stats.changes import WITHIN_ONE_PROCESS, Change, Timing, decide, paired_change

MAX_PROMPT_TOKENS = 128
TOLERANCE = 0.05
DELAYS = (0.0, 0.05, 0.10, 0.20)
ORDER = (False, True, True, False)
"""Whether a document's rounds are disturbed, and the readings of the controls: a steady drift is on both sides alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What is summarized on one kind of device."""

    experiment: str
    documents: int
    max_new_tokens: int


ON_CPU = Sample(experiment="smollm2-135m-instruct-4-bit", documents=8, max_new_tokens=12)
ON_GPU = Sample(experiment="smollm2-135m-instruct-fp16", documents=24, max_new_tokens=8)
"""About 20 seconds a disturbance, at the 30 to 45 tokens/s that a host asks a GPU for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What was measured of one disturbance: the rounds with it (`now`), those without (`before`), and the change."""

    name: str
    change: Change
    now: Entry
    before: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """What came of one disturbance: the change from the rounds without to those with it, as the suite judges it.

    `attribution` is None where the verdict asks for none.
    """

    name: str
    change: Change
    verdict: Verdict
    attribution: Attribution | None
    controls: dict[str, float]
    """Of each control: its rate with the disturbance ÷ without."""

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
            "controls": self.controls,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotChecks:
    """Every disturbance that was tried, and on what."""

    device: str
    cpus: int
    sample: Sample
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
    """The GPU, the CPU, or all that are there, the GPU first. Raises InputError where a GPU is asked for and there is none."""
    found = () if kind == "cpu" else (detect(os.environ),)
    gpus = tuple(device for device in found if device.is_gpu)
    if kind == "gpu" and not gpus:
        raise InputError(
            "--device gpu: this process sees none ('summarybench doctor' (make doctor) says more); --device cpu does without"
        )
    return gpus if kind == "gpu" else (*gpus, detect({**os.environ, "CUDA_VISIBLE_DEVICES": ""}))


def check_spots(device: Device, say: Callable[[str], None]) -> SpotChecks:
    """Delays in the decoding loop, then neighbours. `say` is told what goes on.

    About three minutes on two idle cores. Raises UnavailableError where the embedded model cannot be loaded, or a
    neighbour does not start.
    """
    quiet_libraries(show_progress=False)
    with _one_thread():
        found = _check_spots(device, say)
    device.release_memory()
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads of one matrix product wait for the last of them: beside a neighbour, two can be twenty times slower than one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_spots(device: Device, say: Callable[[str], None]) -> SpotChecks:
    sample = ON_GPU if device.is_gpu else ON_CPU
    clock = device.clock()
    instruments = Instruments(device=device, clock=clock, monitor=NullMonitor(), pulse=host_pulse(device, clock))
    loaded = _load(sample, device, instruments)
    prompts = _prompts(sample, loaded)
    for prompt in prompts:  # a GPU loads kernels for each new length: the first of four rounds would pay for it
        loaded.generate_bare(loaded.prepare([prompt.token_ids]), sample.max_new_tokens)
    dtype = str(loaded.settings.get("compute_dtype", loaded.settings["dtype"]))
    instruments = replace(instruments, controls=lambda: measure_controls(device, clock, dtype))
    sides = []
    for name, disturbance in _disturbances(loaded, instruments):
        say(f"spot check on the {device.name}: {name}")
        with disturbance as switch:
            found = disturbed(name, loaded, prompts, switch, instruments, max_new_tokens=sample.max_new_tokens)
        sides.append(found)
        interval = found.change.interval()
        say(f"  tokens/s with ÷ without {found.change.ratio:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    deviations = control_deviations([each.before for each in sides])
    spots = tuple(judged(each, deviations, is_gpu=device.is_gpu) for each in sides)
    return SpotChecks(device=device.name, cpus=usable_cpus(), sample=sample, spots=spots)


def _load(sample: Sample, device: Device, instruments: Instruments) -> LoadedModel:
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


def _prompts(sample: Sample, loaded: LoadedModel) -> tuple[Prompt, ...]:
    documents = embedded_documents().sample(sample.documents, seed=0)
    return build_prompts(loaded.chat, documents, MAX_PROMPT_TOKENS, sample.max_new_tokens)


def _disturbances(
    loaded: LoadedModel, instruments: Instruments
) -> Iterator[tuple[str, AbstractContextManager[Switch]]]:
    for share in DELAYS:
        yield f"each token delayed by {share:.0%} of its time", delay(loaded.model, share, instruments.clock)
    cpus = os.sched_getaffinity(0)
    yield f"a busy neighbour on {len(cpus)} CPUs", busy_neighbour(cpus)
    if instruments.device.is_gpu:
        yield "another tenant of the GPU", other_tenant(instruments.device)


class _Alternating:
    """A model that sets the switch before each round, in turn; the warm-up is not disturbed."""

    def __init__(self, model: ChatModel, switch: Switch) -> None:
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
    """Stands for pytest-benchmark's fixture outside of pytest: nobody asks for its statistics here."""

    def pedantic(self, target: Callable[..., Any], *, setup: Callable[[], Any], rounds: int) -> None:
        for _ in range(rounds):
            arguments, keywords = setup()
            target(*arguments, **keywords)


def disturbed(
    name: str,
    model: ChatModel,
    prompts: Sequence[Prompt],
    switch: Switch,
    instruments: Instruments,
    *,
    max_new_tokens: int,
) -> Sides:
    """Summarize each prompt four times, twice with the disturbance; the controls are measured with and without it too."""
    readings: dict[bool, list[Controls]] = {False: [], True: []}

    def read_controls() -> Controls:
        for is_disturbed in ORDER:
            switch(is_disturbed)
            readings[is_disturbed].append(instruments.controls())
        return readings[False][-1]

    measured = measure(
        _Rounds(),
        _Alternating(model, switch),
        [prompt for prompt in prompts for _ in ORDER],
        max_new_tokens=max_new_tokens,
        instruments=replace(instruments, controls=read_controls),
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


def control_deviations(undisturbed: Sequence[Entry]) -> dict[str, float]:
    """Of each control's logarithm between what was measured without any disturbance, as spread.json has it between runs."""
    return {
        control: stdev(log(_rate(entry, control)) for entry in undisturbed)
        for control in undisturbed[0].extra_info["controls"]
    }


def judged(sides: Sides, deviations: Mapping[str, float], *, is_gpu: bool) -> Spot:
    """The suite's verdict and, where it asks for one, the attribution."""
    verdict = decide(sides.change, TOLERANCE)
    return Spot(
        name=sides.name,
        change=sides.change,
        verdict=verdict,
        attribution=attribute(sides.change, sides.now, sides.before, deviations, is_gpu=is_gpu, differences=())
        if verdict in (Verdict.REGRESSED, Verdict.IMPROVED)
        else None,
        controls={move.name: exp(move.log_ratio) for move in moves_between(sides.now, sides.before, deviations)},
    )


def _timings(records: Sequence[GenerationRecord]) -> list[Timing]:
    return pairs([Timing(tokens=record.generated_tokens, seconds=record.seconds) for record in records])


def _entry(name: str, records: Sequence[GenerationRecord], controls: Sequence[Controls]) -> Entry:
    """One side as a run's entry: the first of each document's two rounds, and two readings before and two after averaged."""
    first_of_each = records[::2]
    return Entry.of(
        name=f"spot_check[{name}]",
        extra_info={
            "document_ids": [record.document_id for record in first_of_each],
            "generated_tokens": [record.generated_tokens for record in first_of_each],
            "time_to_first_token_seconds": [time_to_first_token_seconds(record) for record in first_of_each],
            "host_rate_per_second": [record.host_rate_per_second for record in records],
            "controls": as_extra_info(averaged(controls[:2]), averaged(controls[2:])),
        },
        seconds=tuple(record.seconds for record in first_of_each),
    )


def _rate(entry: Entry, control: str) -> float:
    return overall_rate(entry.extra_info["controls"][control])
