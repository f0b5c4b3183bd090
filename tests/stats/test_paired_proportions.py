"""Tango's score interval and McNemar's exact test."""

from __future__ import annotations

import math

import numpy as np
import pytest

from summarybench.stats.paired_proportions import mcnemar_p_value, score_interval

NORMAL_99 = 2.3263478740408408  # one-sided 99%, any printed table


def test_without_a_change_the_bound_solves_the_score_equation():
    # With no gain and no loss, Tango's statistic is −√(n·d ÷ (1 − d)): it is −z at d = z² ÷ (n + z²).
    found = score_interval(0, 0, 100, 0.98)
    expected = NORMAL_99**2 / (100 + NORMAL_99**2)
    assert (found.low, found.high) == (pytest.approx(-expected, abs=1e-6), pytest.approx(expected, abs=1e-6))


def test_bound_is_zero_where_mcnemar_s_statistic_is_at_its_quantile():
    # At a difference of 0 the statistic is (more − fewer) ÷ √(more + fewer), McNemar's: z² = 9 ÷ 9 with 6 more and 3 fewer.
    confidence = math.erf(1 / math.sqrt(2))  # two-sided, of z = 1
    assert score_interval(6, 3, 50, confidence).low == pytest.approx(0, abs=1e-6)


def test_gain_and_loss_are_mirror_images():
    a, b = score_interval(9, 2, 40, 0.98), score_interval(2, 9, 40, 0.98)
    assert (a.low, a.high) == (pytest.approx(-b.high), pytest.approx(-b.low))


def test_interval_holds_the_mean_and_stays_within_one():
    for more, fewer in ((8, 0), (0, 8), (4, 4), (7, 1)):
        found = score_interval(more, fewer, 8, 0.98)
        assert -1 <= found.low <= (more - fewer) / 8 <= found.high <= 1


@pytest.mark.parametrize(("more", "fewer", "pairs"), [(-1, 0, 8), (5, 4, 8), (0, 0, 0)])
def test_impossible_counts_are_refused(more, fewer, pairs):
    with pytest.raises(ValueError, match="gained"):
        score_interval(more, fewer, pairs, 0.98)


def test_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    counts = generator.multinomial(100, [0.12, 0.04, 0.84], 2_000)
    known = {
        (more, fewer): score_interval(more, fewer, 100, 0.98) for more, fewer in map(tuple, counts[:, :2].tolist())
    }
    covered = [known[more, fewer].low <= 0.08 <= known[more, fewer].high for more, fewer in counts[:, :2].tolist()]
    assert 0.96 < np.mean(covered) < 0.995


@pytest.mark.parametrize(("more", "fewer", "p_value"), [(7, 0, 1 / 128), (0, 7, 1.0), (0, 0, 1.0), (2, 1, 4 / 8)])
def test_p_value_is_the_binomial_tail(more, fewer, p_value):
    assert mcnemar_p_value(more, fewer) == pytest.approx(p_value)
