"""One meaning of a slowdown: the share of the speed that is lost."""

from __future__ import annotations

import math

import numpy as np
import pytest

from summarybench.analysis.simulation import draw
from summarybench.analysis.truths import STORED_NIGHTS, Truth
from summarybench.stats.power import Design, detection_probability, smallest_slowdown
from summarybench.stats.slowdowns import log_ratio_of, slowdown_of
from summarybench.stats.spread import Spread


@pytest.mark.parametrize(("ratio", "slowdown"), [(0.75, 0.25), (1.0, 0.0), (1.25, -0.25)])
def test_slowdown_is_the_share_of_the_speed_and_not_of_the_time(ratio, slowdown):
    assert slowdown_of(ratio) == slowdown
    assert math.exp(log_ratio_of(slowdown)) == pytest.approx(ratio)


def test_simulated_nights_are_slowed_by_the_share_of_their_speed():
    nights = draw(Truth(name="steady"), 0.01, 3, np.random.default_rng(0))
    slowed = nights.slowed_by(0.25)
    assert np.exp(slowed.log_speeds - nights.log_speeds)[:, STORED_NIGHTS:] == pytest.approx(0.75)
    assert np.exp(slowed.log_seconds - nights.log_seconds)[:, STORED_NIGHTS:] == pytest.approx(1 / 0.75)


def test_plan_s_smallest_slowdown_is_found_with_its_probability():
    design = Design(
        document_deviation=0.05, documents=20, spread=Spread(standard_deviation=0.05), baseline_runs=1, decisions=(1,)
    )
    found = smallest_slowdown(design)
    assert found > 0.1, "so large that the two meanings differ"
    assert detection_probability(design, log_ratio_of(found)) == pytest.approx(0.95, abs=1e-6)
