"""Facts of a measured experiment that not every engine knows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from summarybench.measure.record import _utilization

SPEED = SimpleNamespace(decode_steps_per_second=20.0, cache_tokens_per_second=300.0)


def test_utilization_is_the_weights_and_the_cache_read_each_second_over_the_copy_bandwidth():
    engine = SimpleNamespace(weights_read_bytes=10, cache_bytes_per_token=2)
    assert _utilization(engine, SPEED, 1_000.0) == (10 * 20 + 2 * 300) / 1_000


@pytest.mark.parametrize("unknown", ["weights_read_bytes", "cache_bytes_per_token"])
def test_an_engine_that_does_not_know_what_it_reads_has_no_utilization(unknown):
    engine = SimpleNamespace(**{"weights_read_bytes": 10, "cache_bytes_per_token": 2, unknown: None})
    assert _utilization(engine, SPEED, 1_000.0) is None
