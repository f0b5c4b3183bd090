"""What does prompt lookup gain over plain decoding?

And does it write the same summaries?
"""

from __future__ import annotations

import pytest

from summarybench.analysis.comparison import assert_not_regressed
from summarybench.measure.lookup import assert_decodes_greedily


@pytest.mark.kind("prompt_lookup")
def test_prompt_lookup(loaded_model, measure):
    """Each document is one timed round.

    Plain decoding with the same weights summarizes the same documents first.
    """
    measurement, comparison = measure(loaded_model)
    assert_decodes_greedily(measurement.finding)
    assert_not_regressed(comparison)
