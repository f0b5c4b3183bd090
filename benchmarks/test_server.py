"""How fast does a server summarize, and how long does a request wait?

And is the text still good?
"""

from __future__ import annotations

import pytest

from summarybench.analysis.comparison import assert_machine_not_slower, assert_not_regressed
from summarybench.analysis.quality import assert_rouge_floor
from summarybench.analysis.quality_change import assert_quality_held
from summarybench.measure.served_overhead import assert_client_costs_nothing
from summarybench.measure.served_record import assert_all_answered


@pytest.mark.kind("server")
def test_server(measure):
    """The whole sample is one timed round.

    Each test has its own number of requests in flight.
    """
    measurement, comparison = measure()
    assert_all_answered(measurement.finding)
    assert_not_regressed(comparison)
    assert_rouge_floor(measurement.quality)
    assert_quality_held(*comparison.qualities, *comparison.faithfulness_changes)
    assert_machine_not_slower(comparison)


@pytest.mark.kind("server_overhead")
def test_server_overhead(measure):
    """Does the suite's client cost anything?

    The same requests through it and through a bare streaming loop, interleaved A B B A in one process.
    """
    measurement, _ = measure()
    assert_client_costs_nothing(measurement.finding)
