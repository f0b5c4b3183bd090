"""Does the harness cost anything? The same prompts through it and through a bare loop around `generate`."""

from __future__ import annotations

import pytest

from fixtures.selection import experiments_as_parameters
from summarybench.catalogue.models import EXPERIMENTS
from summarybench.measure.overhead import assert_harness_costs_nothing

TIMED_TWICE = [experiment for experiment in EXPERIMENTS if experiment.loader in ("default", "fp16", "4-bit")]


@pytest.mark.overhead
@pytest.mark.parametrize("loaded_model", experiments_as_parameters(TIMED_TWICE), indirect=True)
def test_overhead(loaded_model, compare_with_bare_loop):
    """Interleaved A B B A for each document, in one process: what differs is the harness alone."""
    overhead = compare_with_bare_loop(loaded_model)
    assert_harness_costs_nothing(overhead)
