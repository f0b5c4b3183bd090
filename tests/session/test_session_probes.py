"""The machine probes of a session."""

from __future__ import annotations

import pytest

from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.device import GIB
from summarybench.session import probes
from tests.fakes import NoProbes

CPU = CpuDevice(kind="cpu", name="a CPU", slug="a-cpu", family="cpu", memory_bytes=8 * GIB, compute_dtype="float32")


def copying(monkeypatch, error):
    def copy(device, clock):
        if error:
            raise error
        return 3e12

    monkeypatch.setattr(probes, "copy_bandwidth", copy)


@pytest.mark.parametrize(
    ("error", "bandwidth"), [(None, 3e12), (MemoryError("CUDA out of memory"), None)], ids=["fits", "does-not-fit"]
)
def test_bandwidth_is_unknown_where_the_copy_does_not_fit(monkeypatch, error, bandwidth):
    copying(monkeypatch, error)
    assert probes.probes_of(CPU, CPU.clock()).copy_bandwidth == bandwidth


def test_copy_that_fails_otherwise_is_not_passed_over(monkeypatch):
    copying(monkeypatch, ValueError("boom"))
    with pytest.raises(ValueError, match="boom"):
        probes.probes_of(CPU, CPU.clock())


def test_no_probes_are_measured_where_the_clock_is_a_fake_one():
    none = NoProbes()
    assert (none.copy_bandwidth, none.measure("float32"), none.host_sample()) == (None, {}, None)
