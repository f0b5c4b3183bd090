"""What do batches gain, what do they cost in quality, and how large may they be?"""

from __future__ import annotations

import pytest

from summarybench.analysis.comparison import assert_machine_not_slower, assert_not_regressed
from summarybench.analysis.quality import assert_rouge_floor
from summarybench.analysis.quality_change import assert_quality_held


@pytest.mark.kind("batching")
def test_batching(loaded_model, measure):
    """Each batch is one timed round, the longest documents first.

    All batch sizes of a loader share one load.
    """
    measurement, comparison = measure(loaded_model)
    assert_not_regressed(comparison)
    assert_rouge_floor(measurement.quality)
    assert_quality_held(*comparison.qualities, *comparison.faithfulness_changes)
    assert_machine_not_slower(comparison)


@pytest.mark.kind("largest_safe_batch")
def test_largest_safe_batch(loaded_model, measure):
    """The largest batch that is predicted to fit, confirmed by running it.

    It is run with the longest prompts. A smaller size than the baseline's fails.
    """
    _, comparison = measure(loaded_model)
    assert_not_regressed(comparison)
