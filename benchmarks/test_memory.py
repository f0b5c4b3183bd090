"""Is the memory that an experiment needs known before it is loaded? Predicted and measured peak, side by side."""

from __future__ import annotations

import pytest

from summarybench.engines.memory_model import assert_prediction_holds


@pytest.mark.kind("memory")
def test_memory(loaded_model, measure_memory):
    """The longest prompt makes the peak; that the model's memory is given back is checked after every experiment."""
    peak_bytes = measure_memory(loaded_model)
    assert_prediction_holds(loaded_model.predicted_memory_bytes, peak_bytes)
