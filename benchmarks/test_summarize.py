"""How fast and how good are the summaries of each quantized model?

And did either get worse?
"""

from __future__ import annotations

import pytest

from summarybench.analysis.comparison import assert_machine_not_slower, assert_not_regressed
from summarybench.analysis.quality import assert_rouge_floor
from summarybench.analysis.quality_change import assert_quality_held


@pytest.mark.kind("summarize")
def test_summarize(loaded_model, measure):
    """Each document is one timed round.

    The summaries that were timed are the ones that are scored.
    """
    measurement, comparison = measure(loaded_model)
    assert_not_regressed(comparison)
    assert_rouge_floor(measurement.quality)
    assert_quality_held(*comparison.qualities, *comparison.faithfulness_changes)
    assert_quality_held(*comparison.beside_teacher)
    assert_machine_not_slower(comparison)
