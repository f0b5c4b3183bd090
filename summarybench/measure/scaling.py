"""The throughput of several processes at once, compared with one of them alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import fsum
from typing import Any, TypeVar

from summarybench.core.numbers import decimal
from summarybench.core.outcomes import InputError, JudgementError
from summarybench.documents.prompts import Prompt
from summarybench.engines.engine import TextGenerator, note_nothing
from summarybench.machine.clock import Clock
from summarybench.machine.device import Device
from summarybench.machine.peers import TIMEOUT_SECONDS, Peers
from summarybench.machine.telemetry import TelemetrySummary
from summarybench.measure.generation import Benchmark, GenerationRecord, Instruments, Measured, measure

LEAST_EFFICIENCY = 0.95
"""Required on GPUs, which share only the host. Processes on one CPU share its memory: their efficiency is only reported."""
SLOWER_AT_MOST = 4
"""A process counts as hung when its shard takes this many times as long as its warm-up predicts."""

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpeed:
    """The work of one process.

    `seconds` run from the common start to the end of its last document.
    """

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
    """The speed of all processes at once, and of process 0 alone.

    `alone` was measured before and after `together`.
    """

    together: tuple[ProcessSpeed, ...]
    alone: tuple[ProcessSpeed, ...]

    @property
    def processes(self) -> int:
        return len(self.together)

    @property
    def tokens_per_second(self) -> float:
        """Σ generated tokens ÷ seconds of the process that ended last.

        So a slow process counts.
        """
        return sum(each.generated_tokens for each in self.together) / max(each.seconds for each in self.together)

    @property
    def tokens_per_second_alone(self) -> float:
        """Σ generated tokens ÷ Σ seconds."""
        return sum(each.generated_tokens for each in self.alone) / fsum(each.seconds for each in self.alone)

    @property
    def efficiency(self) -> float:
        """Tokens per second of n processes ÷ (n × tokens per second of one alone).

        1 is the limit.
        """
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


def in_even_shards(prompts: Sequence[Prompt], processes: int) -> list[Prompt]:
    """The prompts in shards of equal size and similar work.

    The shards follow each other, and each begins with its longest prompt. Turn by turn, each process gets one prompt,
    from the longest on. The order of the processes is reversed after each turn, so that no process gets all the longer
    prompts. The last prompts, too few for a whole turn, are left out: a process without a document would count as slow.
    Raises InputError for fewer prompts than processes.
    """
    turns = len(prompts) // processes
    if not turns:
        raise InputError(
            f"{len(prompts)} documents for {processes} processes: ask for at least --documents {processes}"
        )
    by_length = sorted(prompts[: turns * processes], key=lambda prompt: -len(prompt.token_ids))
    shards: list[list[Prompt]] = [[] for _ in range(processes)]
    for number in range(turns):
        turn = by_length[number * processes : (number + 1) * processes]
        for shard, prompt in zip(shards, turn if number % 2 == 0 else reversed(turn), strict=True):
            shard.append(prompt)
    return [prompt for shard in shards for prompt in shard]


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
    """Measure all shards at once, and process 0's shard alone before and after that.

    Every process returns the measurement of all processes at once, in the order of the prompts. `on_record` gets this
    process's documents as they come, and the others' at the end. Raises as `measure`, in all processes.
    """
    shard = peers.shard(in_even_shards(prompts, peers.process.count))
    steps = _Steps(nodeid, model, shard, peers, max_new_tokens, instruments)
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
    """The steps of one measurement.

    All processes take them in the same order, and wait for each other with a timeout.
    """

    def __init__(
        self,
        nodeid: str,
        model: TextGenerator,
        shard: Sequence[Prompt],
        peers: Peers,
        max_new_tokens: int,
        instruments: Instruments,
    ) -> None:
        self._nodeid = nodeid
        self._model = model
        self._shard = shard
        self._peers = peers
        self._max_new_tokens = max_new_tokens
        self._instruments = instruments
        self._timeout_seconds = TIMEOUT_SECONDS + SLOWER_AT_MOST * len(shard) * max(
            peers.run_in_all(self._place("warm-up"), self._warm_up)
        )

    def alone(self, when: str) -> ProcessSpeed:
        """Process 0's speed with its shard, while the others wait."""
        found = self._peers.run_in_all(
            self._place(f"alone, {when}"),
            lambda: self._timed(_PlainRounds(), _ignore, _ignore)[1] if self._peers.process.reports else None,
            timeout_seconds=lambda: self._timeout_seconds,
        )[0]
        if found is None:
            raise RuntimeError("process 0 has not returned its speed")
        return found

    def at_once(
        self, benchmark: Benchmark, on_record: Callable[[GenerationRecord], None]
    ) -> list[tuple[Measured, ProcessSpeed]]:
        """The measurements of all processes by rank.

        They have a common start.
        """
        return self._peers.run_in_all(
            self._place("measured"),
            lambda: self._timed(benchmark, on_record, self._meet),
            timeout_seconds=lambda: self._timeout_seconds,
        )

    def _meet(self, when: str) -> None:
        self._peers.all_gather(self._place(f"{when} of the rounds"), None, timeout_seconds=self._timeout_seconds)

    def _timed(
        self, benchmark: Benchmark, on_record: Callable[[GenerationRecord], None], meet: Callable[[str], None]
    ) -> tuple[Measured, ProcessSpeed]:
        rounds = _Rounds(benchmark, self._instruments.clock, meet)
        measured = measure(
            rounds,
            self._model,
            self._shard,
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
        """Seconds of the longest document. All processes derive their timeout from it."""
        longest = max(self._shard, key=lambda prompt: len(prompt.token_ids))
        prepared = self._model.prepare([longest.token_ids])
        start = self._instruments.clock()
        self._model.generate(prepared, self._max_new_tokens, note_nothing)
        return self._instruments.clock() - start

    def _place(self, step: str) -> str:
        return f"{self._nodeid}, {step}"


def _ignore(_: object) -> None: ...


class _PlainRounds:
    """Runs rounds like pytest-benchmark's fixture.

    A test can use the fixture only once.
    """

    def pedantic(self, target: Callable[..., Any], *, setup: Callable[[], Any], rounds: int) -> None:
        for _ in range(rounds):
            arguments, options = setup()
            target(*arguments, **options)


class _Rounds:
    """Runs rounds between two barriers, `start` and `end`.

    `start_seconds` is the clock just before the first round.
    """

    def __init__(self, benchmark: Benchmark, clock: Clock, meet: Callable[[str], None]) -> None:
        self.start_seconds = 0.0
        self._benchmark = benchmark
        self._clock = clock
        self._meet = meet

    def pedantic(self, target: Callable[..., Any], *, setup: Callable[[], Any], rounds: int) -> None:
        self._meet("start")
        self.start_seconds = self._clock()
        self._benchmark.pedantic(target, setup=setup, rounds=rounds)
        self._meet("end")  # probing the machine after the rounds would disturb processes that are still in them


def _named(device: Device) -> str:
    return device.name if device.is_shared_by_processes else f"{device.name} ({device.index})"


def _gathered(everything: Sequence[Measured], order: Mapping[str, int]) -> Measured:
    """The measurements of all processes as one.

    Documents are in order. The peak of memory is the highest one, and the probes are those of process 0.
    """
    records = sorted(
        (record for measured in everything for record in measured.records), key=lambda record: order[record.document_id]
    )
    return replace(
        everything[0],
        records=tuple(replace(record, batch=number) for number, record in enumerate(records)),
        peak_memory_bytes=max(measured.peak_memory_bytes or 0 for measured in everything),
        telemetry=_of_all([measured.telemetry for measured in everything]),
        generated_tokens=sum(measured.generated_tokens for measured in everything),
    )


def _of_all(telemetry: Sequence[TelemetrySummary]) -> TelemetrySummary:
    """The combined telemetry of all processes.

    It has the sums of energy and time, the mean power, and the worst value of everything else.
    """
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
    """Check that GPUs reach 95% of the throughput of as many single ones.

    Raises JudgementError where they do not.
    """
    if not device.is_shared_by_processes and scaling.efficiency < LEAST_EFFICIENCY:
        raise JudgementError(
            f"scaling efficiency {decimal(scaling.efficiency, 3)}: {scaling.processes} processes make "
            f"{decimal(scaling.tokens_per_second, 1)} tokens/s and one alone "
            f"{decimal(scaling.tokens_per_second_alone, 1)}; GPUs must reach at least {LEAST_EFFICIENCY}"
        )
