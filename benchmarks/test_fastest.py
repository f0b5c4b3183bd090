"""How fast can each precision be on this device?

In large batches, and compiled where the device compiles.
"""

from __future__ import annotations

import pytest

from summarybench.analysis.comparison import assert_machine_not_slower, assert_not_regressed
from summarybench.analysis.quality import assert_rouge_floor
from summarybench.analysis.quality_change import assert_quality_held


@pytest.mark.kind("fastest")
def test_fastest(loaded_model, measure):
    """Even batches, each a timed round, the longest documents first.

    The workload has the batch size.
    """
    measurement, comparison = measure(loaded_model)
    assert_not_regressed(comparison)
    assert_rouge_floor(measurement.quality)
    assert_quality_held(*comparison.qualities, *comparison.faithfulness_changes)
    assert_machine_not_slower(comparison)
