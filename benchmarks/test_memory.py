"""Is the memory that an experiment needs known before it is loaded?

Predicted and measured peak, side by side.
"""

from __future__ import annotations

import pytest

from summarybench.engines.memory_model import assert_prediction_holds


@pytest.mark.kind("memory")
def test_memory(loaded_model, measure):
    """The longest prompt makes the peak.

    After every experiment, the plugin checks that the model has released its memory.
    """
    measurement, _ = measure(loaded_model)
    assert_prediction_holds(loaded_model.predicted_memory_bytes, measurement.measured.peak_memory_bytes)
