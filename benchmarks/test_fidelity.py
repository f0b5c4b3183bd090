"""Does a compiled loader compute what its eager twin computes?

And how far are both from float32?
"""

from __future__ import annotations

import pytest

from summarybench.analysis.quality_change import assert_quality_held, at_level
from summarybench.measure.fidelity import assert_faithful


@pytest.mark.kind("fidelity")
def test_fidelity(measure):
    """Float32, the eager twin and the compiled loader, one after the other.

    The device holds one of them at a time.
    """
    measurement, comparison = measure()
    assert_faithful(measurement.finding)
    assert_quality_held(at_level(measurement.finding.quality, comparison.quality_level))
