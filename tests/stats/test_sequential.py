"""The CUSUM of a series of nights: what raises its alarm, and how rarely unchanged code does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from summarybench.stats.sequential import (
    ALLOWANCES,
    FALSE_ALARMS_PER_NIGHT,
    FEWEST_NIGHTS,
    LARGEST_STEP,
    SETTLED_NIGHT,
    THRESHOLDS_SETTLED,
    THRESHOLDS_WHILE_GROWING,
    Reference,
    cusum,
    reference_nights_of,
    reference_of,
    step,
)
from summarybench.stats.sequential_simulation import (
    alarms_of,
    first_alarm_rate,
    nights_to_detect,
    references_of,
    simulated_thresholds,
)
from tests.forked import ROOT


def reference(deviation=0.02, *, is_settled=True):
    return Reference(mean=math.log(100), nights=20, standard_deviation=deviation, is_settled=is_settled)


def nights(count, *, ratio=1.0, deviation=0.02, slide=0.0, seed=1):
    """Log speeds around 100 tokens per second, at this ratio of it and sliding by this share every night."""
    noise = np.random.default_rng(seed).normal(0, deviation, count)
    return [math.log(100 * ratio) + number * math.log(1 - slide) + each for number, each in enumerate(noise, start=1)]


# The reference -------------------------------------------------------------------------------------------------------


def test_reference_grows_from_8_to_20_nights_and_then_never_changes():
    assert [reference_nights_of(night) for night in (7, 8, 17, 18, 23, 29, 30, 400)] == [0, 8, 8, 9, 14, 20, 20, 20]
    log_speeds = nights(60)
    assert len({reference_of(log_speeds, night).mean for night in range(SETTLED_NIGHT, 60)}) == 1


def test_night_is_held_only_against_nights_before_it():
    log_speeds = nights(30)
    slow_from_then_on = [*log_speeds[:25], *(each - 0.5 for each in log_speeds[25:])]
    assert reference_of(log_speeds, 25) == reference_of(slow_from_then_on, 25)


def test_disturbed_night_in_the_reference_neither_moves_nor_widens_it():
    calm = nights(20, deviation=0.01)
    disturbed = [*calm[:5], calm[5] - 0.35, *calm[6:]]
    before, after = reference_of(calm, 20), reference_of(disturbed, 20)
    assert after.mean == pytest.approx(before.mean, abs=0.004)
    assert after.standard_deviation < 1.6 * before.standard_deviation


def test_noise_that_grows_widens_the_deviation_and_a_slide_and_a_step_hardly_do():
    calm = nights(60, deviation=0.01)
    before = reference_of(calm, 59).standard_deviation
    sliding = [each - 0.005 * number for number, each in enumerate(calm)]
    stepped = [*calm[:40], *(each - 0.05 for each in calm[40:])]
    noisier = [*calm[:40], *nights(20, deviation=0.02, seed=2)]
    assert reference_of(sliding, 59).standard_deviation < 1.1 * before
    assert reference_of(stepped, 59).standard_deviation < 1.1 * before
    assert reference_of(noisier, 59).standard_deviation > 1.2 * before


@pytest.mark.parametrize(
    "wrong", [{"nights": 0}, {"standard_deviation": 0.0}, {"standard_deviation": math.nan}, {"mean": math.inf}]
)
def test_impossible_references_are_refused(wrong):
    with pytest.raises(ValueError, match="impossible reference"):
        Reference(**{"mean": 0.0, "nights": 8, "standard_deviation": 0.1, "is_settled": False} | wrong)


# The test ------------------------------------------------------------------------------------------------------------


def test_step_is_the_capped_slowness_less_the_allowance():
    allowance = -math.log(0.97) / 2 / 0.02
    assert step(0.04, reference()) == pytest.approx(2 - allowance)
    assert step(1.0, reference()) == pytest.approx(LARGEST_STEP - allowance)
    assert step(-1.0, reference()) == pytest.approx(-LARGEST_STEP - allowance)


def test_first_nights_are_not_tested():
    assert cusum(nights(FEWEST_NIGHTS, slide=0.1)).statistic == (0.0,) * FEWEST_NIGHTS


def test_statistic_adds_up_the_steps_and_is_never_negative():
    log_speeds = nights(14)
    expected = [0.0] * FEWEST_NIGHTS
    for night in range(FEWEST_NIGHTS, 14):
        made = reference_of(log_speeds, night)
        expected.append(max(0.0, expected[-1] + step(made.mean - log_speeds[night], made)))
    assert max(expected) > 0
    assert cusum(log_speeds).statistic == pytest.approx(expected)


def test_lasting_slowdown_is_found_and_dated():
    found = cusum([*nights(30, deviation=0.01), *nights(15, ratio=0.95, deviation=0.01, seed=2)])
    assert 31 <= found.alarm <= 33
    assert 29 <= found.since <= 30


def test_later_nights_do_not_change_what_the_test_said_before():
    log_speeds = [*nights(12), *nights(40, ratio=0.94, seed=2)]
    whole = cusum(log_speeds)
    assert all(cusum(log_speeds[:count]).statistic == whole.statistic[:count] for count in range(9, 52))


def test_alarm_ends_a_few_nights_after_the_slowdown_is_repaired():
    slow = [*nights(30), *nights(60, ratio=0.9, seed=2)]
    repaired = [cusum([*slow, *nights(count, seed=3)]).alarm is None for count in range(12)]
    assert repaired[0] is False
    assert repaired[-1] is True


def test_one_disturbed_night_never_raises_the_alarm_and_two_in_a_row_do():
    for deviation in (0.0005, 0.005, 0.02, 0.068):
        quiet = nights(30, deviation=deviation)
        start = cusum(quiet).statistic[-1]
        disturbed = math.log(100 * 0.3)
        assert start > 0 or cusum([*quiet, disturbed]).alarm is None
    assert cusum([*nights(30, deviation=0.005), disturbed, disturbed]).alarm == 31


def test_certain_but_small_slowdown_raises_no_alarm():
    log_speeds = [*nights(30, deviation=0.001), *nights(30, deviation=0.001, ratio=0.99, seed=2)]
    found = cusum(log_speeds)
    made = reference_of(log_speeds, 59)
    assert (made.mean - math.log(99)) / made.standard_deviation > 5  # ten standard deviations, and 1% is not worth it
    assert found.statistic[-1] > made.threshold
    assert found.alarm is None


# How often ------------------------------------------------------------------------------------------------------------


def test_arrays_decide_as_single_series_do():
    rng = np.random.default_rng(7)
    log_speeds = 0.02 * rng.standard_normal((40, 70))
    log_speeds[::2, 35:60] -= 0.03
    alarmed, references = alarms_of(log_speeds), references_of(log_speeds)
    assert alarmed.any()
    for trial, series in enumerate(log_speeds.tolist()):
        for count in (9, 20, 33, 45, 62, 70):
            assert alarmed[trial, count - 1] == (cusum(series[:count]).alarm is not None)
        made = reference_of(series, 69)
        assert references.mean[trial, 69] == pytest.approx(made.mean)
        assert references.deviation[trial, 69] == pytest.approx(made.standard_deviation)


@pytest.mark.parametrize("deviation", [0.005, 0.02, 0.068])
def test_unchanged_series_raise_at_most_one_false_alarm_in_a_hundred_nights(deviation):
    """Other draws than those of the thresholds, from the first tested night on."""
    log_speeds = deviation * np.random.default_rng(99).standard_normal((2_000, 90))
    alarmed = alarms_of(log_speeds)
    assert first_alarm_rate(alarmed[:, FEWEST_NIGHTS:SETTLED_NIGHT]) <= 0.009
    assert first_alarm_rate(alarmed[:, FEWEST_NIGHTS:]) <= 1.2 * FALSE_ALARMS_PER_NIGHT


@pytest.mark.parametrize("allowance", [0.05, 0.2, 0.7, 1.5])
def test_thresholds_are_those_that_the_simulation_gives(allowance):
    place = ALLOWANCES.index(allowance)
    growing, settled = simulated_thresholds(allowance)
    assert (THRESHOLDS_WHILE_GROWING[place], THRESHOLDS_SETTLED[place]) == pytest.approx((growing, settled), abs=0.01)


def test_slide_of_half_a_percent_a_night_is_found_within_twelve_nights():
    log_speeds = 0.02 * np.random.default_rng(3).standard_normal((1_000, SETTLED_NIGHT + 12))
    log_speeds[:, SETTLED_NIGHT:] += math.log(0.995) * np.arange(1, 13)
    assert alarms_of(log_speeds)[:, SETTLED_NIGHT:].any(axis=1).mean() >= 0.95


def test_nights_to_detect_grow_with_the_noise_until_a_step_is_out_of_reach():
    assert nights_to_detect(0.005) <= 3
    assert nights_to_detect(0.02) <= 12
    assert nights_to_detect(0.068) is None
    assert nights_to_detect(0.068, ratio=0.90) <= 14


def test_table_of_the_documentation_has_the_nights_that_are_computed():
    page = (ROOT / "docs" / "explanation" / "history.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    for noise, *cells in rows[1:]:
        found = [nights_to_detect(float(noise.rstrip("%")) / 100, ratio) for ratio in (0.97, 0.95, 0.90)]
        expected = ["out of reach (60 nights)" if each is None else f"{each} nights" for each in found]
        assert cells == expected
