"""What the device and its host can do at this moment: small figures that no model and no library version changes.

Where a model's speed moved and these did not, the code moved; where one of them moved along, the machine did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from statistics import fmean, geometric_mean, median, stdev
from typing import Any

from summarybench.core.outcomes import is_out_of_memory
from summarybench.machine.clock import Clock
from summarybench.machine.device import Device

GPU_COPY_BYTES = 2 * 1024**3
CPU_COPY_BYTES = 256 * 1024**2
"""Several times any cache, and a small share of any memory."""
REPETITIONS = 7
WARM_UPS = 2

COPY_BANDWIDTH = "copy_bandwidth_bytes_per_second"
MATRIX_PRODUCT = "matrix_product_flop_per_second"
KERNEL_LAUNCHES = "kernel_launches_per_second"
PYTHON_LOOP = "python_loop_iterations_per_second"
OF_THE_GPU = (COPY_BANDWIDTH, MATRIX_PRODUCT)
"""What a GPU does by itself once the host has asked for it."""
OF_THE_HOST = (KERNEL_LAUNCHES, PYTHON_LOOP)
"""What `host_pulse` takes a beat of."""

CONTROL_REPETITIONS = 9
GPU_CONTROL_COPY_BYTES = 256 * 1024**2
GPU_COPIES = 16
CPU_CONTROL_COPY_BYTES = 64 * 1024**2
GPU_MATRIX_ROWS = 4096
GPU_MATRIX_PRODUCTS, GPU_FLOAT32_PRODUCTS = 16, 2
"""Queued at once, so that a repetition takes milliseconds, in which the host can ask for the one that is timed. A float32
product takes ten times as long as one of 16 bits."""
CPU_MATRIX_ROWS = 256
CPU_MATRIX_PRODUCTS = 200
LAUNCHES = 1000
LOOP_ITERATIONS = 100_000
"""Sizes that take milliseconds, so that all of it, before and after an experiment, takes about a second."""


def copy_bandwidth(device: Device, clock: Clock) -> float:
    """Bytes per second of the device's memory: a large copy, bytes read plus bytes written, median of 7 after 2 warm-ups."""
    size = min(GPU_COPY_BYTES if device.is_gpu else CPU_COPY_BYTES, device.memory_bytes // 16)
    copy = _copy(size, device)
    seconds = [_seconds(copy, clock) for _ in range(WARM_UPS + REPETITIONS)][WARM_UPS:]
    return 2 * size / median(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlReading:
    """One control, before or after an experiment: the rate over its repetitions, and their relative deviation.

    The mean and not the median: time that a neighbour takes away comes in slices, and a model pays for each of them.
    But the median of what a GPU does by itself: it can be left waiting in one of its milliseconds, when the host loses a
    slice; a GPU that is slow, or another's half of the time, is so in nearly all of them.

    `work` is how much one repetition does, in the rate's unit: of more of it, what starting and waiting take is a smaller
    share, so that rates of other work are not comparable.
    """

    rate: float
    standard_deviation: float
    work: float


Controls = Mapping[str, ControlReading]
"""By name. Each is a rate, its unit in its name: less is slower."""


def measure_controls(device: Device, clock: Clock, dtype: str) -> Controls:
    """Copy bandwidth, a matrix product in `dtype`, and the host's share: kernel launches, or a Python loop on a CPU.

    Interleaved, 9 repetitions after 2 warm-ups; what they allocate is given back. Empty where memory does not suffice.
    """
    try:
        return _measure_controls(device, clock, dtype)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    device.release_memory()
    return {}


def _measure_controls(device: Device, clock: Clock, dtype: str) -> Controls:
    controls = _gpu_controls(device, dtype) if device.is_gpu else _cpu_controls(device, dtype)
    of_the_gpu = OF_THE_GPU if device.is_gpu else ()
    seconds: dict[str, list[float]] = {name: [] for name in controls}
    for _ in range(WARM_UPS + CONTROL_REPETITIONS):
        for name, (_, run) in controls.items():
            seconds[name].append(_seconds_of_the_gpu(run) if name in of_the_gpu else _seconds(run, clock))
    readings = {
        name: _reading(amount, seconds[name][WARM_UPS:], median if name in of_the_gpu else fmean)
        for name, (amount, _) in controls.items()
    }
    del controls, run
    device.release_memory()
    return readings


def host_pulse(device: Device, clock: Clock) -> Callable[[], float]:
    """A beat of the host's control, one repetition of it, to be taken just before each round: launches, or iterations, per second.

    A host that is shared drifts by the second, and takes its time away in slices of milliseconds; controls before and after
    an experiment do not see the one, and a beat shorter than a slice not the other.
    """
    amount, beat = _host_work(device)
    return lambda: amount / _seconds(beat, clock)


def _reading(amount: float, seconds: list[float], average: Callable[[list[float]], float]) -> ControlReading:
    return ControlReading(
        rate=amount / average(seconds),
        standard_deviation=stdev(log(one_repetition) for one_repetition in seconds),
        work=amount,
    )


def averaged(readings: Sequence[Controls]) -> Controls:
    """Readings of equal work as one: the geometric mean of the rates, and the largest deviation. In all of them or left out."""
    first, *others = readings
    return {
        name: ControlReading(
            rate=geometric_mean(each[name].rate for each in readings),
            standard_deviation=max(each[name].standard_deviation for each in readings),
            work=first[name].work,
        )
        for name in first
        if all(name in other for other in others)
    }


def as_extra_info(before: Controls, after: Controls) -> dict[str, dict[str, float]]:
    """Plain JSON types: per control the rates before and after, the larger of the two relative deviations, and the work.

    The host's also tells how much of it a beat does.
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
    """The geometric mean of what a control of a run file was before and after the experiment."""
    return sqrt(control["before"] * control["after"])


def has_same_beats(control: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the beats of two run files can be compared; those of run files that do not tell were a fifth as long."""
    return "beat_work" in control and control["beat_work"] == other.get("beat_work")


def has_same_work(control: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two controls of run files can be compared. Of one that does not tell its work nobody knows what it did."""
    return "work" in control and control["work"] == other.get("work")


Work = tuple[float, Callable[[], object]]
"""How much one repetition does, in its control's unit, and the repetition."""


def _gpu_controls(device: Device, dtype: str) -> dict[str, Work]:
    products = GPU_FLOAT32_PRODUCTS if dtype == "float32" else GPU_MATRIX_PRODUCTS
    return {
        COPY_BANDWIDTH: (
            GPU_COPIES * 2 * GPU_CONTROL_COPY_BYTES,
            _repeated(_copy(GPU_CONTROL_COPY_BYTES, device), GPU_COPIES),
        ),
        MATRIX_PRODUCT: (
            products * 2 * GPU_MATRIX_ROWS**3,
            _repeated(_matrix_product(GPU_MATRIX_ROWS, dtype, device), products),
        ),
        KERNEL_LAUNCHES: _host_work(device),
    }


def _cpu_controls(device: Device, dtype: str) -> dict[str, Work]:
    return {
        COPY_BANDWIDTH: (2 * CPU_CONTROL_COPY_BYTES, _copy(CPU_CONTROL_COPY_BYTES, device)),
        MATRIX_PRODUCT: (
            CPU_MATRIX_PRODUCTS * 2 * CPU_MATRIX_ROWS**3,
            _repeated(_matrix_product(CPU_MATRIX_ROWS, dtype, device), CPU_MATRIX_PRODUCTS),
        ),
        PYTHON_LOOP: _host_work(device),
    }


def _host_work(device: Device) -> Work:
    if device.is_gpu:
        return LAUNCHES, _launches(device, LAUNCHES)
    return LOOP_ITERATIONS, _python_loop(LOOP_ITERATIONS)


def _copy(size: int, device: Device) -> Callable[[], object]:
    import torch

    # Random bits: copies of zeros can be faster than copies of data.
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device.torch_name)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _matrix_product(rows: int, dtype: str, device: Device) -> Callable[[], object]:
    import torch

    left, right = torch.randn(2, rows, rows, device=device.torch_name).to(getattr(torch, dtype))
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)


def _repeated(run: Callable[[], object], times: int) -> Callable[[], None]:
    """On a CPU many small ones, as decoding is: the threads meet after each, and wait for the one that was held up. On a GPU
    one after the other in its queue.
    """

    def repeat() -> None:
        for _ in range(times):
            run()

    return repeat


def _launches(device: Device, count: int) -> Callable[[], object]:
    """Kernels so small that the GPU waits for the host."""
    import torch

    number = torch.zeros(1, device=device.torch_name)

    def launch() -> None:
        for _ in range(count):
            number.add_(1)

    return launch


def _python_loop(iterations: int) -> Callable[[], int]:
    def loop() -> int:
        total = 0
        for number in range(iterations):
            total += number
        return total

    return loop


def _seconds(run: Callable[[], Any], clock: Clock) -> float:
    start = clock()
    run()
    return clock() - start


def _seconds_of_the_gpu(run: Callable[[], object]) -> float:
    """By the GPU's own clock, of the second of two in its queue: the host asks for it while the first one runs, so that
    neither a busy host nor its waiting is in the figure.
    """
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    run()
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000
