"""What does a teacher gain from the drafts of its student?

And does it write the same summaries as without them?
"""

from __future__ import annotations

import pytest

from summarybench.analysis.comparison import assert_not_regressed
from summarybench.measure.lookup import assert_decodes_greedily


@pytest.mark.kind("student_draft")
def test_student_draft(loaded_model, measure):
    """Each document is one timed round.

    Plain decoding by the teacher alone summarizes the same documents first.
    """
    measurement, comparison = measure(loaded_model)
    assert_decodes_greedily(measurement.finding)
    assert_not_regressed(comparison)
