"""How much faster are several GPUs than one?

Each process has a GPU of its own and an equal part of the documents.
"""

from __future__ import annotations

import pytest

from summarybench.analysis.comparison import assert_machine_not_slower, assert_not_regressed
from summarybench.analysis.quality import assert_rouge_floor
from summarybench.analysis.quality_change import assert_quality_held
from summarybench.measure.scaling import assert_scales


@pytest.mark.kind("distributed")
def test_distributed(loaded_model, measure, device):
    """Process 0 alone with its part, then all at once, then process 0 again.

    Both rates come from one session.
    """
    measurement, comparison = measure(loaded_model)
    assert_not_regressed(comparison)
    assert_scales(measurement.finding, device)
    assert_rouge_floor(measurement.quality)
    assert_quality_held(*comparison.qualities, *comparison.faithfulness_changes)
    assert_machine_not_slower(comparison)
