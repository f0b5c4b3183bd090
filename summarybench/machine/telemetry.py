"""What NVML knows of the GPU around the timed rounds: energy, throttling, clocks, heat, and who else uses it.

Nothing here runs inside a round. A read between rounds sees an idle GPU, so what happened in a round is the difference of
cumulative counters read before and after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from summarybench.machine.device import DeviceRecord
from summarybench.machine.nvml import open_gpu

Number = TypeVar("Number", int, float)

REASONS = {
    "power": "NVML_PERF_POLICY_POWER",
    "thermal": "NVML_PERF_POLICY_THERMAL",
    "sync_boost": "NVML_PERF_POLICY_SYNC_BOOST",
    "board_limit": "NVML_PERF_POLICY_BOARD_LIMIT",
    "reliability": "NVML_PERF_POLICY_RELIABILITY",
}
"""Why a GPU may clock lower than asked to → NVML's name of the counter."""

REMEDIES = {
    "thermal": "cool the GPU or free it of other work",
    "sync_boost": "take the GPU out of its sync boost group",
    "board_limit": "see to the board's power supply",
    "reliability": "set its clocks and voltage back to the product's own",
}
"""What to do about throttling that makes figures no verdict. Power is not here: a product at its own default limit is itself."""

TOLERATED_SHARE = 0.1
"""The share of the measured time that a GPU may have been throttled for and still be judged."""

NO_GPU = "not a GPU: NVML knows nothing of it"
PROCESSES_UNKNOWN = (
    "whether other processes used the GPU cannot be known: NVML lists none, not even this one (as in some containers)"
)
ENERGY_UNKNOWN = "the energy of a round is not known, and so no sum: its counter was reset or did not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What NVML said at one moment. None, or a reason left out, is what this product does not offer.

    `seconds` are the host's monotonic clock's. `energy_millijoules` counts from the driver's start
    (nvmlDeviceGetTotalEnergyConsumption: Volta and newer). `violation_nanoseconds` says, per reason, for how long the GPU
    has been held below its application clocks so far: nanoseconds as NVIDIA documents them ("violationTime in
    Nanoseconds", NVML API Reference, nvmlViolationTime_t, and nvml.h; only its referenceTime is in microseconds; pynvml
    passes the number on as it is). nvmlDeviceGetViolationStatus is documented for Kepler and newer, and deprecated since
    CUDA 13.0: a driver of CUDA 14 may refuse it, and then no reason is known. `power_limit_watts` is the one enforced now,
    `default_power_limit_watts` the product's own.
    """

    seconds: float
    energy_millijoules: int | None = None
    violation_nanoseconds: Mapping[str, int] = field(default_factory=dict)
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    default_power_limit_watts: float | None = None
    foreign_processes: int | None = None


class Monitor(Protocol):
    """What telemetry needs of a device. `note` says why its foreign processes are unknown, where they are."""

    note: str

    def note_before_context(self) -> None: ...

    def read(self) -> Reading: ...

    def close(self) -> None: ...


class NullMonitor:
    """Stands for the monitor of a device that NVML does not know: its readings hold the time and nothing else."""

    note = NO_GPU

    def __init__(self, read_seconds: Callable[[], float] = time.perf_counter) -> None:
        self._read_seconds = read_seconds

    def note_before_context(self) -> None:
        return

    def read(self) -> Reading:
        return Reading(seconds=self._read_seconds())

    def close(self) -> None:
        return


class GpuMonitor:
    """NVML's view of one GPU, found by its UUID, since CUDA_VISIBLE_DEVICES renumbers. One a session.

    `pynvml_module` and `read_seconds` are for tests. Raises DeviceInvalidError where NVML cannot open the GPU.
    """

    note = PROCESSES_UNKNOWN

    def __init__(
        self, device: DeviceRecord, pynvml_module: Any = None, read_seconds: Callable[[], float] = time.perf_counter
    ) -> None:
        if pynvml_module is None:
            import pynvml

            pynvml_module = pynvml
        self._nvml = pynvml_module
        self._read_seconds = read_seconds
        self._before: tuple[int, ...] | None = None
        self._gpu = open_gpu(pynvml_module, device.name, device.uuid)
        self._default_power_limit_watts = self._gpu.watts("nvmlDeviceGetPowerManagementDefaultLimit")

    def note_before_context(self) -> None:
        """Remember who uses the GPU before this process does: they are foreign. Only the first call counts, since a later
        one may see this process's own CUDA context.
        """
        if self._before is None:
            self._before = self._process_ids()

    def read(self) -> Reading:
        """The GPU's state now. Raises DeviceLostError once the GPU is lost."""
        nvml, gpu = self._nvml, self._gpu
        return Reading(
            seconds=self._read_seconds(),  # the clock and the counters first, together: they are differenced
            energy_millijoules=gpu.ask("nvmlDeviceGetTotalEnergyConsumption"),
            violation_nanoseconds=self._violation_nanoseconds(),
            sm_clock_mhz=gpu.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            memory_clock_mhz=gpu.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            temperature_celsius=gpu.ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            power_watts=gpu.watts("nvmlDeviceGetPowerUsage"),
            power_limit_watts=gpu.watts("nvmlDeviceGetEnforcedPowerLimit"),
            default_power_limit_watts=self._default_power_limit_watts,
            foreign_processes=foreign_processes(self._before or (), self._process_ids(), os.getpid()),
        )

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _violation_nanoseconds(self) -> dict[str, int]:
        found = {
            reason: self._gpu.ask("nvmlDeviceGetViolationStatus", getattr(self._nvml, policy))
            for reason, policy in REASONS.items()
        }
        return {reason: int(status.violationTime) for reason, status in found.items() if status is not None}

    def _process_ids(self) -> tuple[int, ...]:
        """NVML's ids of the processes with a CUDA context on the GPU; empty also where it does not tell."""
        return tuple(process.pid for process in self._gpu.ask("nvmlDeviceGetComputeRunningProcesses") or ())


def foreign_processes(before: tuple[int, ...], now: tuple[int, ...], own_pid: int) -> int | None:
    """How many of the processes on the GPU now are not this one; None where that cannot be known.

    `before` are NVML's ids before this process made its CUDA context, `now` those after. In a container NVML may give the
    host's ids, among which `own_pid` is missing: then one entry that was not there before is taken to be this process. An
    empty list after the context exists lacks this process too, so it tells nothing.
    """
    present = set(now)
    if not present:
        return None
    own_is_listed = own_pid in present or bool(present - set(before))
    return len(present) - own_is_listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The readings around one timed round."""

    before: Reading
    after: Reading

    def __post_init__(self) -> None:
        if self.after.seconds < self.before.seconds:
            raise ValueError(f"a round ends before it starts: {self.before.seconds} s, {self.after.seconds} s")

    @property
    def seconds(self) -> float:
        return self.after.seconds - self.before.seconds

    @property
    def joules(self) -> float | None:
        millijoules = _increase(self.before.energy_millijoules, self.after.energy_millijoules)
        return None if millijoules is None else millijoules / 1000

    def throttled_seconds(self, reason: str) -> float | None:
        nanoseconds = _increase(
            self.before.violation_nanoseconds.get(reason), self.after.violation_nanoseconds.get(reason)
        )
        return None if nanoseconds is None else nanoseconds / 1e9


def _increase(before: int | None, after: int | None) -> int | None:
    """How far a cumulative counter went on; None where it is not offered, or wrapped around or was reset meanwhile."""
    return None if before is None or after is None or after < before else after - before


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySummary:
    """What the GPU did over the timed rounds; the time between rounds is in no sum. None is unknown.

    `joules` is a sum over all rounds, unknown if a round's is. `power_watts_mean` and `throttled_share` (0 to 1, per reason,
    those not offered left out) are over the rounds whose counters are known. Clocks, temperature and foreign processes are
    the extremes seen at the rounds' edges. `power_limit_watts` is the lowest limit enforced. `note` says in words what could
    not be known.
    """

    measured_seconds: float
    joules: float | None
    power_watts_mean: float | None
    throttled_share: Mapping[str, float]
    sm_clock_mhz_min: int | None
    sm_clock_mhz_max: int | None
    temperature_celsius_max: int | None
    power_limit_watts: float | None
    default_power_limit_watts: float | None
    foreign_processes: int | None
    note: str | None


class Telemetry:
    """Collects a reading before and after each timed round of one experiment.

    Both calls belong between rounds, after the device has finished; both raise DeviceLostError once the GPU is lost, and
    the rounds before it stay in the summary. A round that was begun and never ended does not count.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._before: Reading | None = None
        self._rounds: list[Round] = []

    def before_round(self) -> None:
        self._before = self._monitor.read()

    def after_round(self) -> None:
        before, self._before = self._before, None
        if before is None:
            raise RuntimeError("after_round without before_round: call both around each round")
        self._rounds.append(Round(before=before, after=self._monitor.read()))

    def summary(self) -> TelemetrySummary:
        return summarize(self._rounds, self._monitor.note)


def summarize(rounds: Sequence[Round], note: str) -> TelemetrySummary:
    """What these rounds amount to. `note` is used where their foreign processes are unknown."""
    readings = [reading for a_round in rounds for reading in (a_round.before, a_round.after)]
    sm_clocks = _known(reading.sm_clock_mhz for reading in readings)
    foreign = max(_known(reading.foreign_processes for reading in readings), default=None)
    joules = [a_round.joules for a_round in rounds]
    return TelemetrySummary(
        measured_seconds=sum((a_round.seconds for a_round in rounds), 0.0),
        joules=sum(_known(joules)) if rounds and None not in joules else None,
        power_watts_mean=_per_second(rounds, joules),
        throttled_share=_throttled_share(rounds),
        sm_clock_mhz_min=min(sm_clocks, default=None),
        sm_clock_mhz_max=max(sm_clocks, default=None),
        temperature_celsius_max=max(_known(reading.temperature_celsius for reading in readings), default=None),
        power_limit_watts=min(_known(reading.power_limit_watts for reading in readings), default=None),
        default_power_limit_watts=max(_known(reading.default_power_limit_watts for reading in readings), default=None),
        foreign_processes=foreign,
        note="; ".join(_notes(readings, joules, foreign, note)) or None,
    )


def _notes(
    readings: Sequence[Reading], joules: Sequence[float | None], foreign: int | None, processes_unknown: str
) -> Iterator[str]:
    if readings and foreign is None:
        yield processes_unknown
    if None in joules and any(reading.energy_millijoules is not None for reading in readings):
        yield ENERGY_UNKNOWN


def _throttled_share(rounds: Sequence[Round]) -> dict[str, float]:
    shares = {
        reason: _per_second(rounds, [a_round.throttled_seconds(reason) for a_round in rounds]) for reason in REASONS
    }
    return {reason: min(share, 1.0) for reason, share in shares.items() if share is not None}


def _per_second(rounds: Sequence[Round], amounts: Sequence[float | None]) -> float | None:
    """The rounds' amounts ÷ their seconds, over the rounds whose amount is known; None where that is none."""
    known = [(amount, a_round.seconds) for amount, a_round in zip(amounts, rounds, strict=True) if amount is not None]
    seconds = sum(of_round for _, of_round in known)
    return sum(amount for amount, _ in known) / seconds if seconds > 0 else None


def _known(values: Iterable[Number | None]) -> list[Number]:
    return [value for value in values if value is not None]


def problem(summary: TelemetrySummary) -> str | None:
    """One line why these figures are no verdict, with what to do; None where the GPU was itself and had no company."""
    return next(_problems(summary), None)


def _problems(summary: TelemetrySummary) -> Iterator[str]:
    shares = {reason: share for reason, share in summary.throttled_share.items() if share > TOLERATED_SHARE}
    for reason in sorted(shares.keys() & REMEDIES, key=lambda reason: -shares[reason]):
        heat = "" if summary.temperature_celsius_max is None else f" at {summary.temperature_celsius_max} °C"
        yield f"{_throttled(reason, shares[reason])}{heat}: {REMEDIES[reason]}, then measure again"
    limit, default = summary.power_limit_watts, summary.default_power_limit_watts
    if "power" in shares and limit is not None and default is not None and limit < default:
        yield (
            f"{_throttled('power', shares['power'])}: its power limit is {limit:g} W, below the product's default of "
            f"{default:g} W; restore it (nvidia-smi -pl {default:g}), then measure again"
        )
    if summary.foreign_processes:
        others = "1 other process" if summary.foreign_processes == 1 else f"{summary.foreign_processes} other processes"
        yield f"shared with {others}: free the GPU of other work (nvidia-smi lists it), then measure again"


def _throttled(reason: str, share: float) -> str:
    return f"throttled ({reason.replace('_', ' ')}) for {share:.0%} of the measured time"


def as_extra_info(summary: TelemetrySummary, generated_tokens: int) -> dict[str, Any]:
    """The summary as it stands in a run file: plain JSON types, None where unknown. `generated_tokens` are all rounds'."""
    joules = summary.joules
    return {
        "joules_per_token": joules / generated_tokens if joules is not None and generated_tokens else None,
        "telemetry": {
            "throttled_share": dict(summary.throttled_share),
            "temperature_celsius_max": summary.temperature_celsius_max,
            "sm_clock_mhz": [summary.sm_clock_mhz_min, summary.sm_clock_mhz_max],
            "power_watts_mean": summary.power_watts_mean,
            "power_limit_watts": summary.power_limit_watts,
            "foreign_processes": summary.foreign_processes,
            "note": summary.note,
        },
    }
