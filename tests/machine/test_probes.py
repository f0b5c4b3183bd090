"""The controls: what the device and its host can do, on a clock that tells and on the real one."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace
from statistics import stdev

import pytest

from summarybench.machine import cpu_device, cuda_device
from summarybench.machine.clock import Clock
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.detection import detect_device
from summarybench.machine.device import GIB
from summarybench.machine.probes import (
    Probe,
    ProbeReading,
    as_extra_info,
    averaged,
    copy_bandwidth,
    has_same_work,
    host_probe,
    matrix_product_work,
    measure_probes,
)
from tests.fakes import FakeGpu, FakeProbes

CPU = detect_device({"CUDA_VISIBLE_DEVICES": ""})
MEGABYTE = 1_000_000
COPY, PRODUCT = "copy_bandwidth_bytes_per_second", "matrix_product_flop_per_second"
LAUNCHES, LOOP = "kernel_launches_per_second", "python_loop_iterations_per_second"


def clock_with(copies):
    """A clock that is read before and after each copy, and lets it take these seconds; one reading more is an error."""
    readings, now = [], 0.0
    for seconds in copies:
        readings += [now, now + seconds]
        now += seconds + 5.0  # what passes between copies is in no figure
    return Clock(lambda: None, iter(readings).__next__)


def test_bandwidth_is_bytes_read_and_written_over_the_median_of_seven_copies_after_two_warm_ups():
    warm_ups, copies = [64.0, 64.0], [0.25, 8.0, 0.25, 0.5, 0.125, 8.0, 1.0]
    small = replace(CPU, memory_bytes=16 * MEGABYTE)
    assert copy_bandwidth(small, clock_with([*warm_ups, *copies])) == 2 * MEGABYTE / 0.5


@pytest.mark.parametrize(("memory_bytes", "copied_bytes"), [(64 * MEGABYTE, 4 * MEGABYTE), (64 * GIB, 256 * 1024**2)])
def test_copy_is_a_sixteenth_of_the_memory_and_on_a_cpu_at_most_256_mib(memory_bytes, copied_bytes):
    device = replace(CPU, memory_bytes=memory_bytes)
    assert copy_bandwidth(device, clock_with([1.0] * 9)) == 2 * copied_bytes


def test_bandwidth_of_this_machine_is_positive():
    small = replace(CPU, memory_bytes=64 * MEGABYTE)
    assert copy_bandwidth(small, small.clock()) > 0


def nothing():
    """What a repetition does where a test's clock says how long it took."""


def test_controls_of_a_cpu_have_positive_rates():
    found = measure_probes(CPU, CPU.clock(), "float32")
    assert list(found) == [COPY, PRODUCT, LOOP]
    assert all(0 < reading.rate < math.inf and reading.standard_deviation >= 0 for reading in found.values())


GPU = CudaDevice(
    kind="cuda", name="T4", slug="t4", family="t4", memory_bytes=GIB, compute_dtype="float16", uuid="GPU-1"
)


def fake_probes(*names, run=nothing, is_of_device=False):
    """Probes that do 10 units of work each."""
    return lambda: {name: Probe(work=10.0, run=run, is_of_device=is_of_device) for name in names}


@pytest.mark.parametrize(("dtype", "products"), [("float16", 16), ("bfloat16", 16), ("float32", 2)])
def test_a_gpu_s_repetition_queues_many_copies_and_products(monkeypatch, dtype, products):
    ran = []
    for name in ("copy_work", "matrix_product_work", "launch_work"):
        monkeypatch.setattr(cuda_device, name, lambda *_, name=name: lambda: ran.append(name))
    probes = GPU.probes.make(dtype)
    assert list(probes) == [COPY, PRODUCT, LAUNCHES]
    for probe in probes.values():
        probe.run()
    assert ran == [*["copy_work"] * 16, *["matrix_product_work"] * products, "launch_work"]
    work = {COPY: 16 * 2 * 256 * 1024**2, PRODUCT: products * 2 * 4096**3, LAUNCHES: 1000}
    assert {name: probe.work for name, probe in probes.items()} == work
    assert {name for name, probe in probes.items() if probe.is_of_device} == {COPY, PRODUCT}


def test_a_gpu_times_the_second_of_two_queued_repetitions_with_its_own_clock(monkeypatch):
    happened = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            happened.append("record")

        def synchronize(self):
            happened.append("wait")

        def elapsed_time(self, _):
            return 500.0

    monkeypatch.setattr("torch.cuda.Event", Event)
    assert GPU.probes.own_seconds(lambda: happened.append("run")) == 0.5
    assert happened == ["run", "record", "run", "record", "wait"]


def refuse():
    raise MemoryError


def test_controls_that_cannot_be_allocated_are_none_and_what_they_took_is_given_back():
    device = FakeGpu(own_probes=FakeProbes(refuse))
    assert measure_probes(device, device.clock(), "float32") == {}
    assert device.memory.releases == 1


def test_controls_that_run_out_of_memory_are_none_and_what_they_took_is_given_back():
    device = FakeGpu(own_probes=FakeProbes(fake_probes("a", run=refuse)))
    assert measure_probes(device, device.clock(), "float32") == {}
    assert device.memory.releases == 1


def test_any_other_fault_of_a_control_is_raised():
    def fail():
        raise RuntimeError("CUDA error: unspecified launch failure")

    device = FakeGpu(own_probes=FakeProbes(fake_probes("a", run=fail)))
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        measure_probes(device, device.clock(), "float32")


def test_beat_of_the_host_is_a_rate_of_loop_iterations_on_a_cpu():
    assert host_probe(CPU, clock_with([0.5]))() == 100_000 / 0.5


def test_control_is_the_rate_over_nine_repetitions_and_their_relative_deviation_after_two_warm_ups():
    device = FakeGpu(own_probes=FakeProbes(fake_probes("x_per_second")))
    repetitions = [0.25, 8.0, 0.25, 0.5, 0.125, 8.0, 1.0, 0.25, 0.5]
    found = measure_probes(device, clock_with([64.0, 64.0, *repetitions]), "float32")
    expected = stdev(math.log(seconds) for seconds in repetitions)
    assert found == {
        "x_per_second": ProbeReading(
            rate=pytest.approx(10.0 * 9 / sum(repetitions)), standard_deviation=pytest.approx(expected), work=10.0
        )
    }


def test_slice_that_is_lost_shows_in_a_gpu_s_launches_and_not_in_what_the_gpu_does_by_itself():
    repetitions = [0.25, 0.25, 0.25, 3.25, 0.25, 0.25, 0.25, 3.25, 0.25, 0.25, 0.25]
    own_seconds = iter([each for each in repetitions for _ in (COPY, PRODUCT)])
    device = FakeGpu(
        own_probes=FakeProbes(
            lambda: {**fake_probes(COPY, PRODUCT, is_of_device=True)(), **fake_probes(LAUNCHES)()},
            own_clock=own_seconds.__next__,
        )
    )
    found = measure_probes(device, clock_with(repetitions), "float16")
    assert {name: reading.rate for name, reading in found.items()} == {
        COPY: 10.0 / 0.25,
        PRODUCT: 10.0 / 0.25,
        LAUNCHES: pytest.approx(10.0 * 9 / (7 * 0.25 + 2 * 3.25)),
    }


def test_controls_are_interleaved():
    ran = []
    probes = {name: Probe(work=1.0, run=lambda name=name: ran.append(name)) for name in ("a", "b", "c")}
    measure_probes(FakeGpu(own_probes=FakeProbes(lambda: probes)), clock_with([1.0] * 33), "float32")
    assert ran == ["a", "b", "c"] * 11


def test_what_the_controls_allocate_is_let_go_of_before_memory_is_given_back():
    class Tensor:
        def copy(self):
            pass

    tensor = Tensor()
    alive, probes = weakref.ref(tensor), {"a": Probe(work=1.0, run=tensor.copy)}
    del tensor
    seen = []

    class Released(FakeGpu):
        def release_memory(self):
            super().release_memory()
            seen.append(alive() is None)

    device = Released(own_probes=FakeProbes(lambda: {"a": probes.pop("a")}))
    measure_probes(device, clock_with([1.0] * 11), "float32")
    assert seen == [True]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_matrix_product_is_in_the_dtype_that_was_asked_for(dtype):
    import torch

    product = matrix_product_work(16, dtype, "cpu")()
    assert (product.dtype, product.shape) == (getattr(torch, dtype), (16, 16))


def test_cpu_s_matrix_control_is_many_small_products(monkeypatch):
    products = []
    monkeypatch.setattr(cpu_device, "matrix_product_work", lambda *_: lambda: products.append(1))
    probe = CPU.probes.make("float32")[PRODUCT]
    probe.run()
    assert (len(products), probe.work) == (200, 200 * 2 * 256**3)


def reading(rate, standard_deviation=0.0, work=3.0):
    return ProbeReading(rate=rate, standard_deviation=standard_deviation, work=work)


def test_control_that_fitted_before_and_not_after_is_left_out():
    assert as_extra_info({"a": reading(10.0)}, {}) == {}


def test_run_file_has_the_rates_before_and_after_the_larger_deviation_and_the_work_the_host_s_beats_too():
    before = {COPY: reading(10.0, 0.1), LOOP: reading(5, 0, work=7)}
    after = {COPY: reading(9.0, 0.05), LOOP: reading(4, 1, work=7)}
    assert as_extra_info(before, after) == {
        COPY: {"before": 10.0, "after": 9.0, "standard_deviation": 0.1, "work": 3.0},
        LOOP: {"before": 5, "after": 4, "standard_deviation": 1, "work": 7, "beat_work": 7},
    }
    assert as_extra_info({}, {}) == {}


def test_readings_are_averaged_geometrically_with_the_largest_deviation_and_what_one_lacks_is_left_out():
    found = averaged([{"a": reading(2.0, 0.1), "b": reading(1.0)}, {"a": reading(8.0, 0.3)}])
    assert found == {"a": reading(pytest.approx(4.0), 0.3)}


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [({"work": 1}, {"work": 1.0}, True), ({"work": 1}, {"work": 2}, False), ({"work": 1}, {}, False), ({}, {}, False)],
)
def test_controls_that_do_not_both_tell_equal_work_are_not_comparable(one, other, is_same):
    assert has_same_work(one, other) is is_same
