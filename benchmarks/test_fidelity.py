"""Does a compiled loader compute what its eager counterpart computes?

And how far are both, and the eager loaders without a compiled one, from float32?
"""

from __future__ import annotations

import pytest

from summarybench.analysis.quality_change import assert_quality_held, at_level
from summarybench.measure.fidelity import assert_faithful


@pytest.mark.kind("fidelity")
def test_fidelity(measure):
    """Float32, the eager counterpart and the compiled loader, one after the other.

    The device holds one of them at a time. An eager loader is compared with float32, and what its format loses fails nothing.
    """
    measurement, comparison = measure()
    found = measurement.finding
    assert_faithful(found)
    if found.is_beside_counterpart:
        assert_quality_held(at_level(found.quality, comparison.quality_level))
