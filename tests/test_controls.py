"""The control: how fast the device copies, on a clock that tells and on the real one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.controls import copy_bandwidth
from fixtures.device import GIB, Clock, clock_of, detect_device

CPU = detect_device({"CUDA_VISIBLE_DEVICES": ""})
MEGABYTE = 1_000_000


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
    assert copy_bandwidth(small, clock_of(small)) > 0
