"""Does the harness cost anything?

The same prompts through it and through a bare loop around `generate`.
"""

from __future__ import annotations

import pytest

from summarybench.measure.overhead import assert_harness_costs_nothing


@pytest.mark.kind("overhead")
def test_overhead(loaded_model, measure):
    """Interleaved A B B A for each document, in one process: only the harness differs."""
    measurement, _ = measure(loaded_model)
    assert_harness_costs_nothing(measurement.finding)
