"""The device of a server: its own processes are not foreign ones, and its memory is what was not in use before."""

from __future__ import annotations

import pytest

from summarybench.machine.telemetry import Reading
from summarybench.measure.serving import ELSEWHERE, ServerMonitor


class Monitor:
    """Gives these readings one after the other."""

    note = "NVML lists none"

    def __init__(self, *readings):
        self._readings = iter(readings)

    def read(self):
        return next(self._readings)


class Process:
    def __init__(self, peak):
        self._peak = peak

    def peak_memory_bytes(self):
        return self._peak


def reading(foreign, used=None):
    return Reading(seconds=1.0, foreign_processes=foreign, memory_used_bytes=used, energy_millijoules=7)


@pytest.mark.parametrize(
    ("before", "ready", "now", "foreign"),
    [
        pytest.param(0, 2, 2, 0, id="the-servers-own"),
        pytest.param(0, 2, 3, 1, id="one-came-later"),
        pytest.param(1, 3, 3, 1, id="one-was-there-before"),
        pytest.param(0, 2, 1, 0, id="a-worker-ended"),
        pytest.param(None, None, None, None, id="unknown"),
    ],
)
def test_processes_of_the_server_are_not_foreign(before, ready, now, foreign):
    monitor = ServerMonitor(Monitor(reading(ready), reading(now)), reading(before))
    found = monitor.read()
    assert found.foreign_processes == foreign
    assert found.energy_millijoules == 7


def test_memory_on_a_gpu_is_what_was_not_in_use_before_the_launch():
    monitor = ServerMonitor(Monitor(reading(1, 90), reading(1, 100), reading(1, 80)), reading(0, 30))
    monitor.read()
    monitor.read()
    assert monitor.peak_memory_bytes(Process(5)) == 70


def test_memory_on_a_cpu_is_that_of_the_servers_processes():
    monitor = ServerMonitor(Monitor(reading(None), reading(None)), reading(None))
    monitor.read()
    assert monitor.peak_memory_bytes(Process(5)) == 5
    assert monitor.peak_memory_bytes(Process(0)) is None


def test_nothing_is_known_of_the_device_of_a_server_that_the_suite_did_not_start():
    monitor = ServerMonitor(Monitor(reading(3, 100)), None)
    assert monitor.read() == Reading(seconds=1.0)
    assert monitor.note == ELSEWHERE
    assert monitor.peak_memory_bytes(None) is None
