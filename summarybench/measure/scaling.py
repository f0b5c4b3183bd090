"""What several processes at once make of a sample, against one of them alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import fsum
from typing import Any, TypeVar

from summarybench.core.outcomes import InputError, JudgementError
from summarybench.documents.sources import Prompt
from summarybench.engines.engine import TextGenerator
from summarybench.machine.clock import Clock
from summarybench.machine.device import Device
from summarybench.machine.peers import PATIENCE_SECONDS, Peers
from summarybench.machine.telemetry import TelemetrySummary
from summarybench.measure.generation import Benchmark, GenerationRecord, Instruments, Measured, measure

LEAST_EFFICIENCY = 0.95
"""On GPUs, which share nothing but the host. Processes on one CPU share its cores and its memory: there, it is a figure."""
SLOWER_AT_MOST = 4
"""How many times as long as its warm-up says a share may take before the process counts as hung."""

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpeed:
    """What one process did of the whole: `seconds` are from the common start to its last document's end."""

    process: int
    device: str
    documents: int
    generated_tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.generated_tokens / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The speed of all processes at once, and of process 0 alone before and after them."""

    together: tuple[ProcessSpeed, ...]
    alone: tuple[ProcessSpeed, ...]

    @property
    def processes(self) -> int:
        return len(self.together)

    @property
    def tokens_per_second(self) -> float:
        """Σ generated tokens ÷ seconds of the process that ended last: one that lags behind counts."""
        return sum(each.generated_tokens for each in self.together) / max(each.seconds for each in self.together)

    @property
    def tokens_per_second_alone(self) -> float:
        """Σ generated tokens ÷ Σ seconds."""
        return sum(each.generated_tokens for each in self.alone) / fsum(each.seconds for each in self.alone)

    @property
    def efficiency(self) -> float:
        """Tokens per second of n processes ÷ (n × tokens per second of one alone): 1 is the limit."""
        return self.tokens_per_second / (self.processes * self.tokens_per_second_alone)

    def as_extra_info(self) -> dict[str, Any]:
        return {
            "processes": self.processes,
            "scaling_efficiency": self.efficiency,
            "scaling": {
                "tokens_per_second": self.tokens_per_second,
                "tokens_per_second_alone": self.tokens_per_second_alone,
                "per_process": [
                    {**asdict(each), "tokens_per_second": each.tokens_per_second} for each in self.together
                ],
            },
        }


def dealt(prompts: Sequence[Prompt], processes: int) -> list[Prompt]:
    """The prompts in the order in which equal parts of them are equal work: part after part, longest first in each.

    They are dealt from the longest on, to and fro, so that no process has all the longer ones of each deal. As many as
    make no whole deal, the last of the sample, are left out: a process without a document would count as slow.
    Raises InputError for fewer prompts than processes.
    """
    deals = len(prompts) // processes
    if not deals:
        raise InputError(
            f"{len(prompts)} documents for {processes} processes: ask for at least --documents {processes}"
        )
    by_length = sorted(prompts[: deals * processes], key=lambda prompt: -len(prompt.token_ids))
    shares: list[list[Prompt]] = [[] for _ in range(processes)]
    for number in range(deals):
        deal = by_length[number * processes : (number + 1) * processes]
        for share, prompt in zip(shares, deal if number % 2 == 0 else reversed(deal), strict=True):
            share.append(prompt)
    return [prompt for share in shares for prompt in share]


def measure_scaling(
    benchmark: Benchmark,
    model: TextGenerator,
    prompts: Sequence[Prompt],
    *,
    nodeid: str,
    peers: Peers,
    max_new_tokens: int,
    instruments: Instruments,
    on_record: Callable[[GenerationRecord], None],
) -> tuple[Measured, Scaling]:
    """Every process measures its share at once, process 0 its own once more before and after, while the others wait.

    What is handed on, in all processes, is what all measured at once, in the order of the prompts. `on_record` is told of
    this process's documents as they come, and of the others' when all are done. Raises as `measure`, in all processes.
    """
    share = peers.deal(dealt(prompts, peers.process.count))
    steps = _Steps(nodeid, model, share, peers, max_new_tokens, instruments)
    alone = [steps.alone("before")]
    everything = steps.at_once(benchmark, on_record)
    alone.append(steps.alone("after"))
    for rank, (measured, _) in enumerate(everything):
        if rank != peers.process.rank:
            for record in measured.records:
                on_record(record)
    order = {prompt.document.id: number for number, prompt in enumerate(prompts)}
    scaling = Scaling(together=tuple(speed for _, speed in everything), alone=tuple(alone))
    return _gathered([measured for measured, _ in everything], order), scaling


class _Steps:
    """The meetings of one measurement, in their order, and how long each is waited for."""

    def __init__(
        self,
        nodeid: str,
        model: TextGenerator,
        share: Sequence[Prompt],
        peers: Peers,
        max_new_tokens: int,
        instruments: Instruments,
    ) -> None:
        self._nodeid = nodeid
        self._model = model
        self._share = share
        self._peers = peers
        self._max_new_tokens = max_new_tokens
        self._instruments = instruments
        self._patience = PATIENCE_SECONDS + SLOWER_AT_MOST * len(share) * max(
            peers.together(self._place("warm-up"), self._warm_up)
        )

    def alone(self, when: str) -> ProcessSpeed:
        """Process 0's speed with its share, while the others wait."""
        found = self._peers.together(
            self._place(f"alone, {when}"),
            lambda: self._timed(_PlainRounds(), _tell_nobody, _tell_nobody)[1] if self._peers.process.reports else None,
            patience_seconds=lambda: self._patience,
        )[0]
        if found is None:
            raise RuntimeError("process 0 has measured and says nothing of it")
        return found

    def at_once(
        self, benchmark: Benchmark, on_record: Callable[[GenerationRecord], None]
    ) -> list[tuple[Measured, ProcessSpeed]]:
        """What each process measured, by rank, all of them between one common start and the end of the last."""
        return self._peers.together(
            self._place("measured"),
            lambda: self._timed(benchmark, on_record, self._meet),
            patience_seconds=lambda: self._patience,
        )

    def _meet(self, when: str) -> None:
        self._peers.share(self._place(f"{when} of the rounds"), None, patience_seconds=self._patience)

    def _timed(
        self, benchmark: Benchmark, on_record: Callable[[GenerationRecord], None], meet: Callable[[str], None]
    ) -> tuple[Measured, ProcessSpeed]:
        rounds = _Rounds(benchmark, self._instruments.clock, meet)
        measured = measure(
            rounds,
            self._model,
            self._share,
            max_new_tokens=self._max_new_tokens,
            instruments=self._instruments,
            on_record=on_record,
        )
        return measured, ProcessSpeed(
            process=self._peers.process.rank,
            device=_named(self._instruments.device),
            documents=len(measured.records),
            generated_tokens=measured.generated_tokens,
            seconds=measured.records[-1].end_seconds - rounds.start_seconds,
        )

    def _warm_up(self) -> float:
        """Seconds of the longest document, by which all know how long to wait for the others."""
        longest = max(self._share, key=lambda prompt: len(prompt.token_ids))
        prepared = self._model.prepare([longest.token_ids])
        start = self._instruments.clock()
        self._model.generate(prepared, self._max_new_tokens, lambda: None)
        return self._instruments.clock() - start

    def _place(self, step: str) -> str:
        return f"{self._nodeid}, {step}"


def _tell_nobody(_: object) -> None: ...


class _PlainRounds:
    """Rounds as pytest-benchmark's fixture makes them, which may be asked once a test."""

    def pedantic(self, target: Callable[..., Any], *, setup: Callable[[], Any], rounds: int) -> None:
        for _ in range(rounds):
            arguments, options = setup()
            target(*arguments, **options)


class _Rounds:
    """Rounds between two meetings, `start` and `end`; `start_seconds` is the clock's reading just before the first."""

    def __init__(self, benchmark: Benchmark, clock: Clock, meet: Callable[[str], None]) -> None:
        self.start_seconds = 0.0
        self._benchmark = benchmark
        self._clock = clock
        self._meet = meet

    def pedantic(self, target: Callable[..., Any], *, setup: Callable[[], Any], rounds: int) -> None:
        self._meet("start")
        self.start_seconds = self._clock()
        self._benchmark.pedantic(target, setup=setup, rounds=rounds)
        self._meet("end")  # what is measured after the rounds would disturb those who are still in them


def _named(device: Device) -> str:
    return f"{device.name} ({device.index})" if device.is_gpu else device.name


def _gathered(everything: Sequence[Measured], order: Mapping[str, int]) -> Measured:
    """What the processes measured as one: documents in order, the most memory that one of them had in use, the controls
    of process 0.
    """
    records = sorted(
        (record for measured in everything for record in measured.records), key=lambda record: order[record.document_id]
    )
    return replace(
        everything[0],
        records=tuple(replace(record, batch=number) for number, record in enumerate(records)),
        peak_memory_bytes=max(measured.peak_memory_bytes for measured in everything),
        telemetry=_of_all([measured.telemetry for measured in everything]),
        generated_tokens=sum(measured.generated_tokens for measured in everything),
    )


def _of_all(telemetry: Sequence[TelemetrySummary]) -> TelemetrySummary:
    """Sums of energy and time, the mean power of one device, and the extremes of the rest: what spoils one spoils all."""
    joules = [each.joules for each in telemetry]
    power = _known([each.power_watts_mean for each in telemetry])
    reasons = sorted({reason for each in telemetry for reason in each.throttled_share})
    return TelemetrySummary(
        measured_seconds=fsum(each.measured_seconds for each in telemetry),
        joules=None if None in joules else fsum(_known(joules)),
        power_watts_mean=fsum(power) / len(power) if power else None,
        throttled_share={
            reason: max(each.throttled_share.get(reason, 0.0) for each in telemetry) for reason in reasons
        },
        sm_clock_mhz_min=min(_known([each.sm_clock_mhz_min for each in telemetry]), default=None),
        sm_clock_mhz_max=max(_known([each.sm_clock_mhz_max for each in telemetry]), default=None),
        temperature_celsius_max=max(_known([each.temperature_celsius_max for each in telemetry]), default=None),
        power_limit_watts=min(_known([each.power_limit_watts for each in telemetry]), default=None),
        default_power_limit_watts=max(_known([each.default_power_limit_watts for each in telemetry]), default=None),
        foreign_processes=max(_known([each.foreign_processes for each in telemetry]), default=None),
        note="; ".join(dict.fromkeys(each.note for each in telemetry if each.note)) or None,
    )


def _known(values: Sequence[Number | None]) -> list[Number]:
    return [value for value in values if value is not None]


def assert_scales(scaling: Scaling, device: Device) -> None:
    """Raises JudgementError where GPUs make less of the sample than 95% of what so many of them alone would."""
    if device.is_gpu and scaling.efficiency < LEAST_EFFICIENCY:
        raise JudgementError(
            f"scaling efficiency {scaling.efficiency:.3f}: {scaling.processes} processes make {scaling.tokens_per_second:.1f} "
            f"tokens/s and one alone {scaling.tokens_per_second_alone:.1f}; at least {LEAST_EFFICIENCY} is asked for on GPUs"
        )
