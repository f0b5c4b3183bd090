"""The CUSUM of a series of nights: what raises its alarm, and how rarely unchanged code does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from summarybench.stats.sequential import LARGEST_STEP, Reference, cusum, nights_to_detect
from tests.forked import ROOT


def reference(deviation=0.02, nights=20, freedom=None):
    return Reference(
        mean=math.log(100), nights=nights, standard_deviation=deviation, degrees_of_freedom=freedom or nights - 1
    )


def nights(count, *, ratio=1.0, deviation=0.02, slide=0.0, seed=1):
    """Log speeds around 100 tokens per second, at this ratio of it and sliding by this share every night."""
    noise = np.random.default_rng(seed).normal(0, deviation, count)
    return [math.log(100 * ratio) + number * math.log(1 - slide) + each for number, each in enumerate(noise, start=1)]


def test_statistic_is_the_capped_sum_of_slowness_less_the_allowance():
    made = Reference(mean=0.0, nights=20, standard_deviation=0.02, degrees_of_freedom=19)
    allowance = -math.log(0.97) / 2 / 0.02
    found = cusum([-0.04, 0.0, -0.01, -1.0, 0.3], made)
    first = 2 - allowance
    third = max(0.0, first - allowance) + 0.5 - allowance
    assert found.statistic == pytest.approx(
        [first, first - allowance, max(0.0, third), max(0.0, third) + LARGEST_STEP - allowance, 0.0], abs=1e-12
    )


def test_step_is_found_and_dated():
    found = cusum([*nights(15), *nights(15, ratio=0.95, seed=2)], reference())
    assert 15 <= found.alarm <= 18
    assert found.since == 15


def test_slide_of_half_a_percent_a_night_is_found_within_twelve_nights():
    found = [cusum(nights(12, slide=0.005, seed=seed), reference()).alarm is not None for seed in range(200)]
    assert sum(found) >= 190


def test_one_disturbed_night_never_raises_the_alarm_and_two_in_a_row_do():
    for deviation in (0.0005, 0.005, 0.02, 0.068):
        quiet = [math.log(100)] * 5
        disturbed = math.log(100 * 0.3)
        assert cusum([*quiet, disturbed, *quiet], reference(deviation)).alarm is None
    assert cusum([math.log(100), disturbed, disturbed], reference(0.005)).alarm == 2


def test_certain_but_small_slowdown_raises_no_alarm():
    log_speeds = [math.log(99)] * 30  # 1% slower, ten standard deviations
    found = cusum(log_speeds, reference(0.001))
    assert found.statistic[-1] > found.threshold
    assert found.alarm is None


@pytest.mark.parametrize("deviation", [0.005, 0.02, 0.068])
@pytest.mark.parametrize("length", [8, 20])
def test_unchanged_series_raise_at_most_one_false_alarm_in_a_hundred_nights(deviation, length):
    """Reference and noise are estimated from `length` nights, as in use; other draws than those of the threshold."""
    rng = np.random.default_rng(99)
    alarms = tested = 0
    for _ in range(300):
        drawn = rng.normal(0, deviation, length + 40)
        estimated = Reference(
            mean=float(drawn[:length].mean()),
            nights=length,
            standard_deviation=float(drawn[:length].std(ddof=1)),
            degrees_of_freedom=length - 1,
        )
        found = cusum(list(drawn[length:]), estimated)
        tested += 40 if found.alarm is None else found.alarm + 1
        alarms += found.alarm is not None
    assert alarms / tested <= 0.0115  # 1%, and the sampling error of 300 series


def test_shorter_reference_asks_for_a_higher_threshold():
    assert reference(nights=8).threshold > reference(nights=20).threshold > reference(nights=60).threshold


def test_nights_to_detect_grow_with_the_noise_until_a_step_is_out_of_reach():
    assert nights_to_detect(reference(0.005)) == 2
    assert nights_to_detect(reference(0.02)) <= 12
    assert nights_to_detect(reference(0.068)) is None
    assert nights_to_detect(reference(0.068, nights=20), ratio=0.90) <= 12


@pytest.mark.parametrize(
    "wrong", [{"nights": 0}, {"standard_deviation": 0.0}, {"standard_deviation": math.nan}, {"degrees_of_freedom": 0}]
)
def test_impossible_references_are_refused(wrong):
    with pytest.raises(ValueError, match="impossible reference"):
        Reference(**{"mean": 0.0, "nights": 8, "standard_deviation": 0.1, "degrees_of_freedom": 7.0} | wrong)


def test_table_of_the_documentation_has_the_nights_that_are_computed():
    page = (ROOT / "docs" / "explanation" / "history.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    for noise, *cells in rows[1:]:
        made = reference(float(noise.rstrip("%")) / 100)
        found = [nights_to_detect(made, ratio) for ratio in (0.97, 0.95, 0.90)]
        expected = ["out of reach (60 nights)" if each is None else f"{each} nights" for each in found]
        assert cells == expected
