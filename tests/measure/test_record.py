"""Facts of a measured experiment that not every engine knows."""

from __future__ import annotations

from types import SimpleNamespace

from summarybench.measure.record import _utilization

SPEED = SimpleNamespace(decode_steps_per_second=20.0)


def test_utilization_is_the_weights_read_each_second_over_the_copy_bandwidth():
    assert _utilization(SimpleNamespace(weights_read_bytes=10), SPEED, 1_000.0) == 0.2


def test_an_engine_that_does_not_know_its_weights_has_no_utilization():
    assert _utilization(SimpleNamespace(weights_read_bytes=None), SPEED, 1_000.0) is None
