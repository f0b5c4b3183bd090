"""Series of stored nights: which runs belong together, when one has slowed, and what accepting a reference does."""

from __future__ import annotations

import json
import math
from datetime import date, timedelta

import numpy as np
import pytest

from summarybench.analysis.history import Trend, accept, read_accepted, series_of
from summarybench.core.outcomes import InputError, Verdict
from summarybench.runs.baselines import read_baselines
from tests.run_files import benchmark, run_of

FIRST = date(2026, 10, 1)
NAME = "llama2-7b-chat-4-bit"


def night(number, seconds=2.0, **machine):
    """One stored run of that night, at 100 tokens per `seconds` in each of 8 documents."""
    info = machine.pop("info", {})
    return {
        **run_of(benchmark(seconds=(seconds,) * 8, **info), **machine),
        "datetime": f"{FIRST + timedelta(days=number)}T03:00:00+00:00",
        "commit_info": {"id": f"commit-{number}"},
    }


def noisy(count, *, ratio=1.0, start=0, deviation=0.01, seed=0):
    factors = np.exp(np.random.default_rng(seed + start).normal(0, deviation, count))
    return [night(start + number, 2.0 / ratio * float(factor)) for number, factor in enumerate(factors)]


@pytest.fixture
def stored(tmp_path):
    """Store these runs as a device's baselines; the function gives its series."""

    def series(runs):
        for number, run in enumerate(runs, start=1):
            (tmp_path / f"{number:04}_nightly.json").write_text(json.dumps(run))
        return series_of(read_baselines(tmp_path))

    return series


def test_eight_nights_are_collected_and_the_ninth_is_tested(stored):
    (eight,) = stored(noisy(8))
    assert (eight.trend, eight.reference, eight.ratio) == (Trend.COLLECTING, None, None)
    (nine,) = stored(noisy(9))
    assert nine.trend is Trend.STEADY
    assert nine.reference.nights == 8


def test_reference_grows_to_twenty_nights_and_then_stands_still(stored):
    sizes = {count: stored(noisy(count))[0].reference_nights for count in (9, 18, 25, 30, 60)}
    assert sizes == {9: 8, 18: 8, 25: 15, 30: 20, 60: 20}


def test_step_has_its_night_its_commits_and_its_ratio(stored):
    (found,) = stored([*noisy(20), *noisy(8, ratio=0.95, start=20)])
    assert found.trend is Trend.SLOWED
    assert found.nights[found.first_changed].date == "2026-10-21"
    assert found.commits == ("commit-19", "commit-20")
    assert found.ratio == pytest.approx(0.95, abs=0.01)


def test_slow_slide_that_every_pairwise_verdict_absorbs_is_found(stored):
    factors = np.exp(np.random.default_rng(5).normal(0, 0.01, 40))
    (found,) = stored([night(n, 2.0 * 1.005**n * float(factor)) for n, factor in enumerate(factors)])
    assert found.trend is Trend.SLOWED


def test_longer_outputs_are_neither_a_gain_nor_do_they_hide_a_slowdown(stored):
    """A quarter of a second to the first token, then a steady pace: twice the tokens are 1.07 times as fast over all."""

    def longer(number, seconds_per_token):
        seconds = 0.25 + 199 * seconds_per_token
        return night(number, seconds, info={"generated_tokens": [200] * 8})

    pace = (2.0 - 0.25) / 99
    short = noisy(12, deviation=0.002)
    (unchanged,) = stored([*short, *(longer(12 + n, pace * (1 + n / 10_000)) for n in range(6))])
    assert unchanged.trend is Trend.STEADY
    assert unchanged.nights[-1].speed == pytest.approx(50.0, rel=0.001)
    (slower,) = stored([*short, *(longer(12 + n, 1.06 * pace * (1 + n / 10_000)) for n in range(6))])
    assert slower.trend is Trend.SLOWED
    assert slower.ratio == pytest.approx(1 / (1 + 0.06 * (1.75 / 2)), abs=0.003)


def test_gain_is_told_apart_from_a_slowdown(stored):
    (found,) = stored([*noisy(12), *noisy(6, ratio=1.10, start=12)])
    assert found.trend is Trend.FASTER
    assert found.ratio == pytest.approx(1.10, abs=0.02)


def test_versions_that_changed_with_the_speed_are_named(stored):
    (found,) = stored([*noisy(12), *(night(12 + n, 2.4 + n / 1e6, torch="2.14.0") for n in range(6))])
    assert found.changed_versions == ["torch 2.13.0 → 2.14.0"]


def test_hosts_workloads_and_samples_are_series_of_their_own(stored):
    runs = [night(0), night(1, host="another"), night(2, info={"workload": "another"}), night(3)]
    runs[3]["benchmarks"][0] = benchmark(seconds=(2.0,) * 9)
    assert len(stored(runs)) == 4


def test_runs_of_one_day_are_one_night(stored):
    (found,) = stored([night(0, 2.0), night(0, 2.2)])
    (only,) = found.nights
    assert only.speed == pytest.approx(math.sqrt(50 * 100 / 2.2))
    assert only.runs == ("0001_nightly.json", "0002_nightly.json")


def test_invalid_runs_and_broken_output_are_left_out(stored):
    invalid = night(0, info={"verdict": Verdict.INVALID.value})
    broken = night(1, info={"degenerate": {"empty": 8, "repeating": 0}})
    assert stored([invalid, broken]) == []


def test_accepted_reference_begins_with_the_first_changed_night(stored, tmp_path):
    (slowed,) = stored([*noisy(20), *noisy(12, ratio=0.95, start=20)])
    accept(tmp_path, [slowed])
    (found,) = series_of(read_baselines(tmp_path), read_accepted(tmp_path))
    assert (found.accepted, len(found.nights)) == ("2026-10-21", 12)
    assert found.trend is Trend.STEADY
    assert found.reference.tokens_per_second == pytest.approx(47.5, rel=0.01)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"schema": "1", "accepted": []}',
        '{"schema": 2, "accepted": []}',
        '{"schema": 1, "accepted": [{}]}',
    ],
)
def test_file_of_accepted_references_that_is_none_is_named_in_one_line(tmp_path, text):
    (tmp_path / "history.json").write_text(text)
    with pytest.raises(InputError, match=r"history\.json does not hold accepted references"):
        read_accepted(tmp_path)
