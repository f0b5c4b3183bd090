"""The simulation of detection: what is drawn, that the rules on arrays are the suite's, and what the tables say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from summarybench.analysis.alarms import (
    check_against_the_suite,
    history_alarms_of,
    threshold_alarms_of,
    verdicts_of,
)
from summarybench.analysis.detection import (
    BOTH,
    GOALS,
    HISTORY,
    RULES,
    VERDICT,
    alarms_by_rule,
    found_within,
    generator_of,
    simulate,
)
from summarybench.analysis.first_nights import simulate_first_nights
from summarybench.analysis.simulation import FIRST_TOKEN_SHARE, draw
from summarybench.analysis.truths import AS_MEASURED, SLIDE, STORED_NIGHTS, TRUTHS
from summarybench.commands import detection as detection_command
from summarybench.commands import spot_check as spot_check_command
from summarybench.core.outcomes import JudgementError
from summarybench.measure import spot_check
from summarybench.stats.sequential_simulation import first_alarm_rate
from tests.command import command
from tests.known_noise import write_replicates
from tests.measure.test_spot_check import A_GPU, THE_CPU, Stage

main = command("detection")


def drawn(truth=AS_MEASURED, noise=0.02, trials=400, seed=0):
    return draw(truth, noise, trials, generator_of(seed, truth, noise))


def truth_named(start):
    (found,) = (each for each in TRUTHS if each.name.startswith(start))
    return found


def rates(nights):
    return {rule: first_alarm_rate(found) for rule, found in alarms_by_rule(nights)[0].items()}


def shares(nights, within):
    return {rule: found_within(found)[str(within)] for rule, found in alarms_by_rule(nights)[0].items()}


# What is drawn -------------------------------------------------------------------------------------------------------


def test_single_runs_of_different_nights_vary_by_the_noise():
    assert drawn(noise=0.02).log_speeds[:, :, 0].std() == pytest.approx(0.02, rel=0.02)


def test_heavy_tails_have_the_same_deviation_and_more_extremes():
    heavy, normal = drawn(truth_named("heavy")).log_speeds, drawn().log_speeds
    assert heavy.std() == pytest.approx(normal.std(), rel=0.1)
    assert np.mean(np.abs(heavy) > 0.08) > 5 * np.mean(np.abs(normal) > 0.08)


def test_noise_grows_with_the_first_judged_night():
    speeds = drawn(truth_named("noise 1.5")).log_speeds[:, :, 0]
    assert speeds[:, STORED_NIGHTS:].std() == pytest.approx(1.5 * speeds[:, :STORED_NIGHTS].std(), rel=0.03)


def test_passes_of_a_night_share_what_the_truth_says():
    for truth, share in ((AS_MEASURED, 0.4), (truth_named("nine tenths"), 0.72)):
        first, second = np.moveaxis(drawn(truth, trials=2_000).log_speeds, 2, 0)
        assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(share, abs=0.02)


def test_outliers_are_a_twentieth_of_all_runs_and_slower_by_a_tenth_or_more():
    speeds = drawn(truth_named("outliers"), noise=0.005).log_speeds
    assert np.mean(speeds < math.log(0.92)) == pytest.approx(0.05, abs=0.003)
    assert speeds.min() > math.log(0.68)


def test_longer_outputs_change_raw_speed_and_not_the_judged_one():
    nights = drawn(truth_named("outputs"), noise=0.0005)
    gain = nights.raw_log_speeds[:, STORED_NIGHTS:].mean() - nights.raw_log_speeds[:, :STORED_NIGHTS].mean()
    assert gain == pytest.approx(math.log(2 / (FIRST_TOKEN_SHARE + 2 * (1 - FIRST_TOKEN_SHARE))), abs=0.001)
    assert nights.log_speeds.mean() == pytest.approx(0, abs=0.001)


def test_slowdown_and_slide_begin_with_the_first_judged_night():
    nights = drawn()
    step = nights.slowed_by(0.03).log_speeds - nights.log_speeds
    assert np.all(step[:, :STORED_NIGHTS] == 0)
    assert step[:, STORED_NIGHTS:] == pytest.approx(math.log(0.97))
    slide = nights.sliding().log_speeds - nights.log_speeds
    assert slide[0, STORED_NIGHTS : STORED_NIGHTS + 2, 0] == pytest.approx(
        [math.log(1 - SLIDE), 2 * math.log(1 - SLIDE)]
    )


def test_same_seed_draws_the_same_nights_whatever_else_is_simulated():
    one, other = drawn(), drawn()
    assert np.array_equal(one.log_speeds, other.log_speeds)
    assert not np.array_equal(one.log_speeds, drawn(seed=1).log_speeds)


# The rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
@pytest.mark.parametrize("noise", [0.005, 0.068])
def test_rules_on_arrays_are_the_suite_s_own(truth, noise):
    nights = drawn(truth, noise, trials=10).slowed_by(0.05)
    verdicts = verdicts_of(nights)
    assert check_against_the_suite(nights, verdicts, history_alarms_of(nights, verdicts.speeds)) == 20


@pytest.mark.parametrize("rule", ["verdict", "history"])
def test_different_decision_is_an_error_that_names_the_night(rule):
    nights = drawn(trials=10)
    verdicts = verdicts_of(nights)
    history = history_alarms_of(nights, verdicts.speeds)
    wrong = verdicts.alarmed if rule == "verdict" else history
    wrong[3, STORED_NIGHTS + 1] = ~wrong[3, STORED_NIGHTS + 1]
    with pytest.raises(JudgementError, match=f"decide night {STORED_NIGHTS + 1} of trial 3 differently"):
        check_against_the_suite(nights, verdicts, history)


def test_threshold_compares_with_the_newest_run_that_it_has_not_failed():
    nights = drawn(noise=0.0005, trials=5).slowed_by(0.10)
    assert threshold_alarms_of(nights)[:, STORED_NIGHTS:].all()
    assert not threshold_alarms_of(drawn(noise=0.0005, trials=5)).any()


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_history_keeps_its_false_alarms_under_every_truth(truth):
    assert rates(drawn(truth, trials=1_000))[HISTORY] <= (0.02 if truth.later_noise > 1 else 0.0075)


def test_unchanged_nights_fail_at_most_once_in_a_hundred():
    for noise in (0.005, 0.02, 0.068):
        assert rates(drawn(noise=noise, trials=1_000))[BOTH] <= 0.01


def test_night_with_one_outlier_pass_seldom_fails():
    """A pass that is slow by chance does not confirm an outlier: 0.8% of the verdicts failed until passes had to agree."""
    assert rates(drawn(truth_named("outliers"), noise=0.02, trials=1_000))[VERDICT] <= 0.005


# Row 5: each green night is adopted ----------------------------------------------------------------------------------


def test_slide_that_the_verdicts_follow_is_found_by_the_history_within_twelve_nights():
    """40 nights of −0.5% at a noise of 2%: the verdicts alone let more than a third pass."""
    nights = drawn(noise=0.02).sliding()
    verdict = alarms_by_rule(nights)[0][VERDICT][:, :40].any(axis=1).mean()
    assert verdict < 0.65
    assert shares(nights, 12)[HISTORY] >= 0.95


def test_step_that_the_verdicts_absorb_is_found_by_the_history_within_twelve_nights():
    """3% at a noise of 2%: 30 verdicts find it in less than half of the cases."""
    nights = drawn(noise=0.02, trials=1_000).slowed_by(0.03)
    assert shares(nights, 30)[VERDICT] < 0.5
    assert shares(nights, 12)[HISTORY] >= 0.95


def test_step_at_a_noise_of_half_a_percent_is_found_in_one_night():
    assert shares(drawn(noise=0.005).slowed_by(0.03), 1)[VERDICT] >= 0.95


# The command ---------------------------------------------------------------------------------------------------------


def test_quick_simulation_has_every_truth_and_its_goals(tmp_path, capsys):
    path = tmp_path / "table.md"
    assert main(["--quick", "--trials", "20", "--simulation-only", "--output", str(path)]) == 0
    found = json.loads(path.with_suffix(".json").read_text())["simulation"]
    assert [each["truth"] for each in found["conditions"]] == [each.name for each in TRUTHS]
    assert all(each["false_alarms"].keys() == set(RULES) for each in found["conditions"])
    assert [(each["noise"], each["slowdown"], each["nights"]) for each in found["goals"]] == [
        (each.noise, each.slowdown, each.nights) for each in GOALS if each.noise == 0.02
    ]
    shown = capsys.readouterr().out
    assert shown == path.read_text()
    assert "found in 95% within 12 nights at a noise of 2.0%" in shown
    assert f"The suite's own functions decided {9 * 6 * 20:,} of the nights too" in shown
    assert "| noise | 1 night stored | 2 nights stored |" in shown


@pytest.mark.parametrize(
    ("has_measured", "noises"), [(False, [0.005, 0.02, 0.068]), (True, [0.005, 0.013, 0.02, 0.068])]
)
def test_noise_that_was_measured_on_this_device_is_simulated_beside_the_fixed_ones(
    has_measured, noises, tmp_path, monkeypatch, capsys
):
    if has_measured:
        (tmp_path / "measured" / "tesla-t4").mkdir(parents=True)
        write_replicates(tmp_path / "measured" / "tesla-t4", 0.013)
    else:
        (tmp_path / "measured").mkdir()
    simulated = []
    monkeypatch.setattr(detection_command, "detect_device", lambda: SimpleNamespace(slug="tesla-t4", is_gpu=True))
    monkeypatch.setattr(detection_command, "simulate", lambda truths, noises, *_: simulated.extend(noises) or {})
    monkeypatch.setattr(detection_command, "write_found", lambda *_: None)
    given = ["--simulation-only", "--trials", "2", "--baselines", str(tmp_path / "measured")]
    assert main([*given, "--output", str(tmp_path / "table.md")]) == 0
    assert simulated == noises
    said = "measured on tesla-t4: 1.30% between nights or processes (eager)"
    assert (said in capsys.readouterr().err) is has_measured


def test_interval_of_a_first_night_holds_up_to_the_prior_and_not_at_twice_it():
    quiet, noisy = (
        {each["stored_nights"]: each for each in simulate_first_nights(0, noises=[noise], trials=100)}
        for noise in (0.03, 0.10)
    )
    assert (quiet[1]["coverage"], quiet[1]["one_pass"]) == (1.0, 0.0)
    assert noisy[1]["coverage"] < 0.95
    assert noisy[1]["two_passes"] < noisy[1]["one_pass"] < 0.10


def test_goals_say_by_how_much_they_are_missed():
    found = simulate([AS_MEASURED], [0.068], 50, 0, lambda _: None)
    goal = found["goals"][0]
    assert (goal["slowdown"], goal["nights"], goal["is_met"]) == (0.03, 60, False)
    assert 0.4 < goal["share"] < 0.95


@pytest.mark.parametrize("given", [["--trials", "0"], ["--seed", "-1"], ["--noise", "two"], ["--noise", "90%"]])
def test_wrong_numbers_are_one_line(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*given, "--simulation-only"]) == 4
    assert given[1] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_table_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    given = ["--quick", "--trials", "2", "--simulation-only"]
    assert main([*given, "--output", str(tmp_path / "file" / "table.md")]) == 4
    assert f"ERROR: cannot write {tmp_path}/file/table.md: " in capsys.readouterr().err


# The spot checks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("detection", "--spot-check"), ("detection", "--spot-checks-only"), ("spot-check",)])
def test_spot_checks_alone_draw_nothing_and_tell_each_disturbance_of_each_device(words, tmp_path, monkeypatch, capsys):
    spots = (Stage(disturbed_token=0.0125, disturbed_loop=0.75).run(), Stage().run())

    def check(device, say):
        sample = spot_check.ON_GPU if device.is_gpu else spot_check.ON_CPU
        return spot_check.SpotChecks(device=device.name, cpus=2, sample=sample, spots=spots[not device.is_gpu :])

    monkeypatch.setattr(spot_check_command, "check_spots", check)
    for each in (detection_command, spot_check_command):
        monkeypatch.setattr(each, "devices_to_try", lambda kind: (A_GPU, THE_CPU))
    monkeypatch.chdir(tmp_path)
    name, *options = words
    assert command(name)([*options, "--output", "table.md"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| it |", "## "))]
    assert lines == [
        f"## Real slowdowns: smollm2-135m-instruct-fp16 on {A_GPU.name}, 2 CPUs",
        "| it | 0.800 [0.800, 0.800] | REGRESSED | Python loop 0.75 | HOST: probes moved along: Python loop -25% |",
        "| it | 1.000 [1.000, 1.000] | UNCHANGED | Python loop 1.00 | – |",
        "## Real slowdowns: smollm2-135m-instruct-4-bit on a CPU, 2 CPUs",
        "| it | 1.000 [1.000, 1.000] | UNCHANGED | Python loop 1.00 | – |",
    ]


def test_gpu_that_is_asked_for_and_not_there_is_one_line_before_anything_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(detection_command, "simulate", lambda *_: pytest.fail("the simulation began"))
    assert main(["--device", "gpu", "--output", str(tmp_path / "table.md")]) == 4
    assert capsys.readouterr().err.startswith("ERROR: --device gpu: this process sees none")


@pytest.mark.slow
def test_command_simulates_and_tries_the_real_thing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(spot_check, "ON_CPU", replace(spot_check.ON_CPU, documents=2, max_new_tokens=4))
    monkeypatch.setattr(spot_check, "DELAYS", (0.0, 0.2))
    path = tmp_path / "table.md"
    given = ["--quick", "--trials", "2", "--device", "cpu", "--output", str(path)]
    assert main(given) == 0
    found = json.loads(path.with_suffix(".json").read_text())
    (checks,) = found["spot_checks"]
    spots = checks["spots"]
    assert len(spots) == len(spot_check.DELAYS) + 1
    assert all(0 < spot["low"] <= spot["ratio"] <= spot["high"] for spot in spots)
    assert "| a busy neighbour on" in capsys.readouterr().out
