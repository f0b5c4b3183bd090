"""How fast is the whole sample when all documents are submitted at once?

And when is each document finished?
"""

from __future__ import annotations

import pytest

from summarybench.analysis.comparison import assert_machine_not_slower, assert_not_regressed
from summarybench.analysis.quality import assert_rouge_floor
from summarybench.analysis.quality_change import assert_quality_held


@pytest.mark.kind("continuous")
def test_continuous(loaded_model, measure):
    """All documents at once are one timed round.

    Each step is filled with whichever documents are ready.
    """
    measurement, comparison = measure(loaded_model)
    assert_not_regressed(comparison)
    assert_rouge_floor(measurement.quality)
    assert_quality_held(*comparison.qualities, *comparison.faithfulness_changes)
    assert_machine_not_slower(comparison)
