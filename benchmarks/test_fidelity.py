"""Does a compiled loader compute what its eager twin computes, and how far are both from float32?"""

from __future__ import annotations

import pytest

from fixtures.selection import experiments_to_load
from summarybench.analysis.quality_change import assert_quality_held
from summarybench.catalogue.models import FIDELITY_EXPERIMENTS
from summarybench.measure.fidelity import assert_faithful


@pytest.mark.fidelity
@pytest.mark.parametrize("unloaded_experiment", experiments_to_load(FIDELITY_EXPERIMENTS))
def test_fidelity(unloaded_experiment, measure_fidelity):
    """Float32, the eager twin and the compiled loader, one after the other: the device holds one of them at a time."""
    fidelity = measure_fidelity(unloaded_experiment)
    assert_faithful(fidelity)
    assert_quality_held(fidelity.quality)
