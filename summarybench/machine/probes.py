"""Machine probes: small benchmarks of the device and its host.

They depend on no model and no library version.

If a model's speed changed and the probes did not, the code is the cause. If a probe changed along, the machine is. The
run file calls the probes `controls`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from statistics import fmean, geometric_mean, median, stdev
from typing import TYPE_CHECKING, Any, Protocol

from summarybench.core.device_errors import is_out_of_memory
from summarybench.machine.clock import Clock

if TYPE_CHECKING:
    from summarybench.machine.device import Device

REPETITIONS = 7
WARM_UPS = 2
PROBE_REPETITIONS = 9

COPY_BANDWIDTH = "copy_bandwidth_bytes_per_second"
MATRIX_PRODUCT = "matrix_product_flop_per_second"
KERNEL_LAUNCHES = "kernel_launches_per_second"
PYTHON_LOOP = "python_loop_iterations_per_second"
OF_THE_GPU = (COPY_BANDWIDTH, MATRIX_PRODUCT)
"""Probes of what a GPU does by itself, once the host has queued it."""
OF_THE_HOST = (KERNEL_LAUNCHES, PYTHON_LOOP)
"""Probes of the host. `host_probe` takes a sample of one of them before each round."""
EVERY_PROBE = (*OF_THE_GPU, *OF_THE_HOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe of a device.

    `run` does one repetition; `work` is how much that is, in the unit of the probe's rate.

    `is_of_device` says that the device times the repetitions with its own clock, so that a busy host has no effect.
    """

    work: float
    run: Callable[[], object]
    is_of_device: bool = False


class DeviceProbes(Protocol):
    """The probes of one kind of device."""

    @property
    def copy_bytes(self) -> int:
        """The size of the copy that measures memory bandwidth: several times any cache."""

    def make(self, dtype: str) -> Mapping[str, Probe]:
        """Allocate all probes, by name and in the order in which they run.

        The matrix product is in `dtype`.
        """

    def of_host(self) -> Probe:
        """The probe of the host, which is also sampled before each round."""

    def own_seconds(self, run: Callable[[], object]) -> float:
        """The seconds of `run` on the device's own clock, for probes with `is_of_device`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReading:
    """One probe, before or after an experiment.

    It has a rate, and the relative standard deviation of its repetitions.

    The rate comes from the mean time of a repetition: a neighbour takes CPU time in slices, and a model loses each of
    them too. For what a GPU does by itself it comes from the median: a GPU can idle during one repetition because the
    host lost a slice, whereas a GPU that is slow or shared is slow in nearly all repetitions.

    `work` is how much one repetition does, in the unit of the rate. Rates of different work are not comparable, because
    the fixed cost of starting and waiting weighs differently.
    """

    rate: float
    standard_deviation: float
    work: float


ProbeReadings = Mapping[str, ProbeReading]
"""Readings by name of the probe. Each is a rate whose name contains its unit; lower is slower."""


def copy_bandwidth(device: Device, clock: Clock) -> float:
    """The device's memory bandwidth in bytes per second.

    Counts the bytes read plus the bytes written by a large copy.

    The median of 7 copies after 2 warm-ups.
    """
    size = min(device.probes.copy_bytes, device.memory_bytes // 16)
    copy = copy_work(size, device.torch_name)
    seconds = [seconds_of(copy, clock) for _ in range(WARM_UPS + REPETITIONS)][WARM_UPS:]
    return 2 * size / median(seconds)


def measure_probes(device: Device, clock: Clock, dtype: str) -> ProbeReadings:
    """Measure the device's probes.

    They are the copy bandwidth, a matrix product in `dtype`, and the host's probe.

    They are interleaved: 9 repetitions of each after 2 warm-ups. Releases the memory they take. Empty if memory runs out.
    """
    try:
        return _measure_probes(device, clock, dtype)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    device.release_memory()
    return {}


def _measure_probes(device: Device, clock: Clock, dtype: str) -> ProbeReadings:
    probes = device.probes.make(dtype)
    seconds: dict[str, list[float]] = {name: [] for name in probes}
    for _ in range(WARM_UPS + PROBE_REPETITIONS):
        for name, probe in probes.items():
            seconds[name].append(
                device.probes.own_seconds(probe.run) if probe.is_of_device else seconds_of(probe.run, clock)
            )
    readings = {
        name: _reading(probe.work, seconds[name][WARM_UPS:], median if probe.is_of_device else fmean)
        for name, probe in probes.items()
    }
    del probes, probe
    device.release_memory()
    return readings


def host_probe(device: Device, clock: Clock) -> Callable[[], float]:
    """A function that samples the host's probe once.

    It returns launches, or loop iterations, per second.

    Call it just before each round. A shared host drifts within seconds, which the probes before and after an experiment
    miss. A sample lasts long enough to include the slices of milliseconds that a neighbour takes.
    """
    probe = device.probes.of_host()
    return lambda: probe.work / seconds_of(probe.run, clock)


def _reading(amount: float, seconds: list[float], average: Callable[[list[float]], float]) -> ProbeReading:
    return ProbeReading(
        rate=amount / average(seconds),
        standard_deviation=stdev(log(one_repetition) for one_repetition in seconds),
        work=amount,
    )


# The run file ----------------------------------------------------------------------------------------------------


def averaged(readings: Sequence[ProbeReadings]) -> ProbeReadings:
    """Combine readings of equal work.

    The rate is the geometric mean, the deviation the largest.

    A probe that is missing from one of the readings is left out.
    """
    first, *others = readings
    return {
        name: ProbeReading(
            rate=geometric_mean(each[name].rate for each in readings),
            standard_deviation=max(each[name].standard_deviation for each in readings),
            work=first[name].work,
        )
        for name in first
        if all(name in other for other in others)
    }


def as_extra_info(before: ProbeReadings, after: ProbeReadings) -> dict[str, dict[str, float]]:
    """`controls` of the run file, in plain JSON types.

    Per probe: the rates before and after the experiment, the larger of the two relative deviations, and the work. For a
    probe of the host also the work of one sample.
    """
    return {
        name: {
            "before": before[name].rate,
            "after": after[name].rate,
            "standard_deviation": max(before[name].standard_deviation, after[name].standard_deviation),
            "work": before[name].work,
            **({"beat_work": before[name].work} if name in OF_THE_HOST else {}),
        }
        for name in before
        if name in after
    }


def overall_rate(control: Mapping[str, Any]) -> float:
    """The geometric mean of a probe's rates in a run file.

    They were measured before and after the experiment.
    """
    return sqrt(control["before"] * control["after"])


def has_same_samples(control: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the host samples of two run files are comparable.

    Runs that do not record their work never match.
    """
    return "beat_work" in control and control["beat_work"] == other.get("beat_work")


def has_same_work(control: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a probe of two run files is comparable.

    Runs that do not record its work never match.
    """
    return "work" in control and control["work"] == other.get("work")


# What a repetition does ------------------------------------------------------------------------------------------


def copy_work(size_bytes: int, device: str) -> Callable[[], object]:
    """A copy within the memory of a torch device."""
    import torch

    # Random bytes, because copies of zeros can be faster than copies of data. A CPU draws eight at once four times faster.
    words = torch.empty(-(-size_bytes // 8), dtype=torch.int64, device=device).random_()
    source = words.view(torch.uint8)[:size_bytes]
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def matrix_product_work(rows: int, dtype: str, device: str) -> Callable[[], object]:
    """A product of two square matrices on a torch device."""
    import torch

    left, right = torch.randn(2, rows, rows, device=device).to(getattr(torch, dtype))
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)


def launch_work(count: int, device: str) -> Callable[[], object]:
    """Launches of kernels so small that the GPU waits for the host."""
    import torch

    number = torch.zeros(1, device=device)

    def launch() -> None:
        for _ in range(count):
            number.add_(1)

    return launch


def python_loop_work(iterations: int) -> Callable[[], int]:
    def loop() -> int:
        total = 0
        for number in range(iterations):
            total += number
        return total

    return loop


def repeated(run: Callable[[], object], times: int) -> Callable[[], None]:
    def repeat() -> None:
        for _ in range(times):
            run()

    return repeat


def seconds_of(run: Callable[[], Any], clock: Clock) -> float:
    """The seconds of a repetition on the session's clock.

    The clock waits for the device.
    """
    start = clock()
    run()
    return clock() - start
