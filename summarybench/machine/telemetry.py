"""Telemetry of the GPU around the timed rounds.

It covers energy, throttling, clocks, temperature, and other processes.

Nothing here runs inside a round. A reading between rounds sees an idle GPU, so the figures of a round are differences of
cumulative counters read before and after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from summarybench.core.numbers import percent, trimmed
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
"""Reasons for throttling, and NVML's names of their counters."""

REMEDIES = {
    "thermal": "cool the GPU, or end its other work",
    "sync_boost": "take the GPU out of its sync boost group",
    "board_limit": "check the board's power supply",
    "reliability": "reset its clocks and voltage to the product's defaults",
}
"""Remedies for throttling that invalidates figures. Power is not among them: its default limit is part of a product."""

TOLERATED_SHARE = 0.1
"""The largest share of the measured time with throttling at which a GPU is still judged."""

NO_GPU = "not a GPU: NVML does not report on it"
PROCESSES_UNKNOWN = (
    "whether other processes used the GPU is unknown: NVML lists none, not even this one (as in some containers)"
)
ENERGY_UNKNOWN = "the energy of a round, and so the total, is unknown: the counter was reset or did not respond"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """NVML's values at one moment.

    Values that the product does not offer are None; reasons are left out.

    - `seconds`: the host's monotonic clock.
    - `energy_millijoules`: since the driver was loaded (nvmlDeviceGetTotalEnergyConsumption, Volta and newer).
    - `violation_nanoseconds`: per reason, how long the GPU has run below its application clocks so far. The unit is
      documented in the NVML API Reference (nvmlViolationTime_t: "violationTime in Nanoseconds") and nvml.h; only
      referenceTime is in microseconds. nvmlDeviceGetViolationStatus is documented for Kepler and newer and deprecated since
      CUDA 13.0: a driver of CUDA 14 may refuse it, and then no reason is known.
    - `memory_used_bytes`: of all processes on the GPU.
    - `power_limit_watts`: the limit that is enforced now. `default_power_limit_watts`: the product's default.
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
    memory_used_bytes: int | None = None


class Monitor(Protocol):
    """Reads the telemetry of a device.

    `note` explains why other processes are unknown, in case they are.
    """

    note: str

    def note_before_context(self) -> None: ...

    def read(self) -> Reading: ...

    def close(self) -> None: ...


class NullMonitor:
    """The monitor of a device without NVML: its readings contain only the time."""

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
    """The telemetry of one GPU. One per session.

    The GPU is found by its UUID, because CUDA_VISIBLE_DEVICES renumbers GPUs.

    `pynvml_module` and `read_seconds` are for tests. Raises DeviceInvalidError if NVML cannot open the GPU.
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
        """Remember the processes that use the GPU before this one.

        They count as other processes.

        Only the first call counts: a later one may see this process's own CUDA context.
        """
        if self._before is None:
            self._before = self._process_ids()

    def read(self) -> Reading:
        """Read the GPU's state. Raises DeviceLostError for a lost GPU."""
        nvml, gpu = self._nvml, self._gpu
        return Reading(
            seconds=self._read_seconds(),  # the clock and the counters first and together, since their differences are used
            energy_millijoules=gpu.ask("nvmlDeviceGetTotalEnergyConsumption"),
            violation_nanoseconds=self._violation_nanoseconds(),
            sm_clock_mhz=gpu.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            memory_clock_mhz=gpu.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            temperature_celsius=gpu.ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            power_watts=gpu.watts("nvmlDeviceGetPowerUsage"),
            power_limit_watts=gpu.watts("nvmlDeviceGetEnforcedPowerLimit"),
            default_power_limit_watts=self._default_power_limit_watts,
            foreign_processes=foreign_processes(self._before or (), self._process_ids(), os.getpid()),
            memory_used_bytes=self._memory_used_bytes(),
        )

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _violation_nanoseconds(self) -> dict[str, int]:
        found = {
            reason: self._gpu.ask("nvmlDeviceGetViolationStatus", getattr(self._nvml, policy))
            for reason, policy in REASONS.items()
        }
        return {reason: int(status.violationTime) for reason, status in found.items() if status is not None}

    def _memory_used_bytes(self) -> int | None:
        """Bytes in use by all processes together."""
        found = self._gpu.ask("nvmlDeviceGetMemoryInfo")
        return None if found is None else int(found.used)

    def _process_ids(self) -> tuple[int, ...]:
        """NVML's ids of the processes with a CUDA context on the GPU.

        Also empty if NVML does not report them.
        """
        return tuple(process.pid for process in self._gpu.ask("nvmlDeviceGetComputeRunningProcesses") or ())


def foreign_processes(before: tuple[int, ...], now: tuple[int, ...], own_pid: int) -> int | None:
    """The number of other processes on the GPU; None if it is unknown.

    `before` holds NVML's process ids before this process created its CUDA context, and `now` those after. In a container
    NVML may report the host's ids, which do not include `own_pid`; then one new entry is taken to be this process. An empty
    list after the context exists lacks this process too, and so proves nothing.
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
    """The increase of a cumulative counter.

    None if it is not offered, or was reset or wrapped around meanwhile.
    """
    return None if before is None or after is None or after < before else after - before


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySummary:
    """The telemetry of all timed rounds; the time between rounds is excluded.

    None means unknown.

    - `joules`: the sum over all rounds; unknown if it is unknown for any round.
    - `power_watts_mean`, `throttled_share` (0 to 1 per reason): over the rounds whose counters are known. Reasons that the
      product does not offer are left out.
    - Clocks, temperature, other processes: the extremes seen at the edges of rounds.
    - `power_limit_watts`: the lowest limit that was enforced.
    - `note`: what is unknown, and why.
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

    Make both calls between rounds, after the device has finished. Both raise DeviceLostError for a lost GPU; the summary
    keeps the rounds before it. A round without an end does not count.
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
    """Summarize the telemetry of these rounds.

    `note` is included if other processes are unknown.
    """
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
    """Amounts ÷ seconds, over the rounds whose amount is known.

    None if no amount is known.
    """
    known = [(amount, a_round.seconds) for amount, a_round in zip(amounts, rounds, strict=True) if amount is not None]
    seconds = sum(of_round for _, of_round in known)
    return sum(amount for amount, _ in known) / seconds if seconds > 0 else None


def _known(values: Iterable[Number | None]) -> list[Number]:
    return [value for value in values if value is not None]


def problem(summary: TelemetrySummary) -> str | None:
    """One line on why the figures are invalid and what to do.

    None if the GPU was neither throttled nor shared.
    """
    return next(_problems(summary), None)


def _problems(summary: TelemetrySummary) -> Iterator[str]:
    shares = {reason: share for reason, share in summary.throttled_share.items() if share > TOLERATED_SHARE}
    for reason in sorted(shares.keys() & REMEDIES, key=lambda reason: -shares[reason]):
        heat = "" if summary.temperature_celsius_max is None else f" at {summary.temperature_celsius_max} °C"
        yield f"{_throttled(reason, shares[reason])}{heat}: {REMEDIES[reason]}, then measure again"
    limit, default = summary.power_limit_watts, summary.default_power_limit_watts
    if "power" in shares and limit is not None and default is not None and limit < default:
        yield (
            f"{_throttled('power', shares['power'])}: its power limit is {trimmed(limit)} W, below the product's default of "
            f"{trimmed(default)} W; restore it (nvidia-smi -pl {trimmed(default)}), then measure again"
        )
    if summary.foreign_processes:
        others = "1 other process" if summary.foreign_processes == 1 else f"{summary.foreign_processes} other processes"
        yield f"shared with {others}: end the GPU's other work (nvidia-smi lists it), then measure again"


def _throttled(reason: str, share: float) -> str:
    return f"throttled ({reason.replace('_', ' ')}) for {percent(share)} of the measured time"


def as_extra_info(summary: TelemetrySummary, generated_tokens: int) -> dict[str, Any]:
    """The summary for the run file, in plain JSON types.

    `generated_tokens` is the total of all rounds.
    """
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
