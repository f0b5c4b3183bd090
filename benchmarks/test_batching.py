"""What do batches gain, what do they cost in quality, and how large may they be?"""

from __future__ import annotations

import pytest

from summarybench.analysis.comparison import assert_machine_not_slower, assert_not_regressed
from summarybench.analysis.quality import assert_rouge_floor
from summarybench.analysis.quality_change import assert_quality_held


@pytest.mark.kind("batching")
def test_batching(loaded_model, experiment, summarize_in_batches, compare):
    """Each batch is one timed round, the longest documents first; all batch sizes of a loader share one load."""
    summaries = summarize_in_batches(loaded_model, experiment)
    comparison = compare(summaries)
    assert_not_regressed(comparison)
    assert_rouge_floor(summaries.quality)
    assert_quality_held(comparison.quality)
    assert_machine_not_slower(comparison)


@pytest.mark.kind("largest_safe_batch")
def test_largest_safe_batch(loaded_model, experiment, find_largest_batch):
    """The largest that is predicted to fit, confirmed by running the longest prompts; fewer rows than the baseline's fail."""
    assert_not_regressed(find_largest_batch(loaded_model, experiment))
