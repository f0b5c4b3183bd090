"""What the detection table rests on: draws, rules and bounds; and the tables that its commands write."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from summarybench.analysis.alarms import (
    CONFIRMED,
    PLAIN_5,
    PLAIN_10,
    PYTEST_BENCHMARK,
    RULES,
    TWO_PASSES,
    alarms,
    check_against_the_suite,
    decide_one,
    pytest_benchmark_fails,
    rate_of,
    runs_of,
    session_alarms,
    slowdown_found,
)
from summarybench.analysis.detection import RUN_DEVIATIONS, SLOWDOWNS, _goals
from summarybench.analysis.measured_devices import MeasuredExperiment, read_devices
from summarybench.analysis.simulation import Conditions, draw
from summarybench.commands import detection as detection_command
from summarybench.commands import spot_check as spot_check_command
from summarybench.core.outcomes import InputError, JudgementError
from summarybench.measure import spot_check
from summarybench.stats.timings import Timing
from tests.command import command
from tests.measure.test_spot_check import A_GPU, THE_CPU, Stage
from tests.run_files import benchmark, replicates, run_of

main = command("detection")

MEASURED = MeasuredExperiment(
    experiment="llama2-7b-chat-4-bit",
    timings=tuple(Timing(tokens=100, seconds=2 + number / 10) for number in range(16)),
    document_deviation=0.1,
)
QUIET = Conditions(run_deviation=0.0, degrees_of_freedom=4, document_deviation=0.0)
NOISY = Conditions(run_deviation=0.02, degrees_of_freedom=4)


def drawn(conditions, trials=20, seed=0, **options):
    return draw([MEASURED], conditions, trials, np.random.default_rng(seed), **options)


def write_device(folder, spread=None, seconds=(2.0, 2.5) * 4):
    """A device's folder with one stored run and the spread of one of its experiments."""
    folder.mkdir(parents=True)
    (folder / "0001_main.json").write_text(json.dumps(run_of(benchmark(seconds=seconds))))
    group = replicates("llama2-7b-chat-4-bit", (30.0, 31.0, 32.0))
    contents = (
        {"standard_deviation": 0.02, "degrees_of_freedom": 4.5, "replicates": [group]} if spread is None else spread
    )
    (folder / "spread.json").write_text(json.dumps(contents))


def test_slowdown_of_half_is_found_by_every_rule():
    trials = drawn(Conditions(run_deviation=0.005, degrees_of_freedom=30, document_deviation=0.05))
    found = alarms(trials, 0.5)
    assert {rule: int(alarmed.sum()) for rule, alarmed in found.items()} == dict.fromkeys(RULES, 20)
    assert decide_one(runs_of(trials, 0, 0.5)) == dict.fromkeys(RULES, True)


def test_without_noise_and_change_no_rule_raises_an_alarm():
    trials = drawn(QUIET)
    assert {rule: int(alarmed.sum()) for rule, alarmed in alarms(trials, 0.0).items()} == dict.fromkeys(RULES, 0)
    assert decide_one(runs_of(trials, 0, 0.0)) == dict.fromkeys(RULES, False)


def test_without_noise_each_rule_finds_what_its_own_threshold_says():
    found = slowdown_found(drawn(QUIET), 0.95)
    assert found == pytest.approx(
        {CONFIRMED: 1 / 0.985 - 1, TWO_PASSES: 1 / 0.985 - 1, PLAIN_5: 0.05, PLAIN_10: 0.10, PYTEST_BENCHMARK: 0.05}
    )


def test_least_slowdown_separates_what_is_found_from_what_is_not():
    trials = drawn(NOISY, trials=200)
    for rule, slowdown in slowdown_found(trials, 0.5).items():
        assert 0.35 < alarms(trials, slowdown * 0.999)[rule].mean() <= 0.5, rule
        assert 0.5 <= alarms(trials, slowdown * 1.001)[rule].mean() < 0.65, rule


@pytest.mark.parametrize("slowdown", [0.0, 0.03, 0.1])
def test_trials_at_once_decide_as_the_suite_does_one_by_one(slowdown):
    trials = drawn(NOISY, trials=30)
    assert check_against_the_suite(trials, slowdown, alarms(trials, slowdown)) == 30


@pytest.mark.parametrize("rule", RULES)
def test_one_decision_that_differs_from_the_suites_stops_the_table(rule):
    trials = drawn(NOISY)
    found = alarms(trials, 0.05)
    found[rule][7] ^= True
    with pytest.raises(JudgementError, match="decide trial 7 differently"):
        check_against_the_suite(trials, 0.05, found)


DISTURBED = replace(NOISY, run_deviation=0.002, document_deviation=0.01, disturbed_share=0.3)


@pytest.mark.parametrize("slowdown", [0.0, 0.1])
def test_disturbed_passes_at_once_decide_as_the_suite_does_one_by_one(slowdown):
    trials = drawn(DISTURBED, trials=40)
    assert check_against_the_suite(trials, slowdown, alarms(trials, slowdown)) == 40


def test_disturbed_passes_are_seven_tenths_as_fast_in_their_share_and_stored_runs_are_not():
    trials = drawn(replace(QUIET, disturbed_share=0.3), trials=2_000)
    ratios = trials.baseline[:, :1].sum(axis=2) / trials.now.sum(axis=2)
    assert sorted(set(ratios.round(6).ravel().tolist())) == [0.7, 1.0]
    assert (ratios < 0.8).mean() == pytest.approx(0.3, abs=0.03)
    assert np.ptp(trials.baseline.sum(axis=2), axis=1).max() == pytest.approx(0)


def test_alarm_needs_every_pass_to_be_slow_and_no_more_than_before_to_find_a_slowdown_in_both():
    """Without noise: one disturbed pass of two is no alarm, and a slowdown of a tenth is found whatever disturbs the passes."""
    trials = drawn(replace(QUIET, disturbed_share=0.3), trials=500)
    are_disturbed = trials.now.sum(axis=2) > 1.2 * trials.baseline[:, 0].sum(axis=1, keepdims=True)
    unchanged, slower = alarms(trials, 0.0), alarms(trials, 0.1)
    for rule in (CONFIRMED, TWO_PASSES):
        assert np.array_equal(unchanged[rule], are_disturbed.all(axis=1)), rule
        assert slower[rule].all(), rule
        assert slowdown_found(trials, 0.5)[rule] == pytest.approx(1 / 0.985 - 1), rule


SEEN = Conditions(run_deviation=0.005, degrees_of_freedom=8, document_deviation=0.05, disturbed_share=0.05)


def test_one_disturbed_pass_in_twenty_costs_less_than_one_false_alarm_in_a_hundred_and_no_detection():
    """Deciding on the pooled speed alone, as if no pass were looked at alone, raises one in twenty trials."""
    trials = drawn(SEEN, trials=4_000)
    pooled_alone = replace(trials.both, fastest_pass_log_ratio=trials.both.log_ratio)

    def rate(changes, slowdown):
        return (trials.first.are_regressed(slowdown) & changes.are_regressed(slowdown)).mean()

    assert rate(pooled_alone, 0.0) > 0.045
    assert rate(trials.both, 0.0) < 0.01
    for slowdown in (0.1, 0.2):
        assert rate(trials.both, slowdown) == rate(pooled_alone, slowdown) == 1.0


def test_without_disturbed_passes_the_draws_are_those_of_the_seed():
    assert np.array_equal(drawn(NOISY).now, drawn(replace(NOISY, disturbed_share=0.0)).now)
    assert np.array_equal(drawn(NOISY).baseline, drawn(replace(NOISY, disturbed_share=0.5)).baseline)


def test_p_value_that_differs_from_the_suites_stops_the_table():
    trials = drawn(NOISY)
    found = alarms(trials, 0.0)
    trials.__dict__["first"] = replace(trials.first, standard_error=trials.first.standard_error * 1.001)
    with pytest.raises(JudgementError, match="'p at 1': False"):
        check_against_the_suite(trials, 0.0, found)


def test_same_seed_draws_the_same_and_another_seed_something_else():
    one, same, other = drawn(NOISY), drawn(NOISY), drawn(NOISY, seed=1)
    assert np.array_equal(one.now, same.now)
    assert np.array_equal(one.spread, same.spread)
    assert not np.array_equal(one.now, other.now)


def test_drawn_runs_vary_as_they_were_asked_to():
    trials = drawn(Conditions(run_deviation=0.03, degrees_of_freedom=4, document_deviation=0.0), trials=4_000)
    between_runs = np.log(trials.now[:, 0, 0] / trials.now[:, 1, 0]) / math.sqrt(2)
    assert between_runs.std() == pytest.approx(0.03, rel=0.05)
    assert (trials.spread**2).mean() == pytest.approx(0.03**2, rel=0.05)
    assert (trials.spread**2).std() == pytest.approx(0.03**2 * math.sqrt(2 / 4), rel=0.1)
    of_documents = drawn(replace(QUIET, document_deviation=None), trials=400)
    ratios = np.log(of_documents.now[:, 0] / of_documents.now[:, 1]) / math.sqrt(2)
    assert ratios.std() == pytest.approx(MEASURED.document_deviation, rel=0.05)


def test_experiments_of_a_session_share_one_measurement_of_the_spread():
    trials = drawn(NOISY, trials=10, share_spread=5)
    assert [len(set(part)) for part in trials.spread.reshape(2, 5).tolist()] == [1, 1]
    assert trials.spread[0] != trials.spread[5]


def test_holm_leaves_a_session_fewer_alarms_and_never_more():
    trials = drawn(Conditions(run_deviation=0.02, degrees_of_freedom=30, document_deviation=0.0), 5_000, share_spread=5)
    found = session_alarms(trials)
    for rule in (CONFIRMED, TWO_PASSES):
        without, corrected = found.without_holm[rule], found.with_holm[rule]
        assert len(without) == 1_000
        assert not (corrected & ~without).any()
        assert corrected.sum() < without.sum()
    assert rate_of(found.with_holm[TWO_PASSES]).low < 0.01 < rate_of(found.without_holm[TWO_PASSES]).low


def test_pytest_benchmark_fails_above_five_percent_and_not_at_it():
    """Its documentation: mean:5% fails where the mean is more than 5% above the stored one."""
    assert not pytest_benchmark_fails(2.0 * 1.05 - 1e-9, 2.0)
    assert pytest_benchmark_fails(2.0 * 1.05 + 1e-9, 2.0)
    assert not pytest_benchmark_fails(1.0, 2.0)


@pytest.mark.parametrize("found", [0, 3, 1_000])
def test_bounds_are_clopper_and_pearsons(found):
    rate = rate_of(np.arange(1_000) < found)
    low = 0.0 if found == 0 else beta.ppf(0.025, found, 1_000 - found + 1)
    high = 1.0 if found == 1_000 else beta.ppf(0.975, found + 1, 1_000 - found)
    assert (rate.share, rate.low, rate.high) == pytest.approx((found / 1_000, low, high), abs=1e-9)


def test_device_is_read_with_its_timings_and_deviations(tmp_path):
    write_device(tmp_path / "tesla-t4")
    (device,) = read_devices(tmp_path)
    (measured,) = device.experiments
    assert (device.slug, device.spread.standard_deviation, device.spread.degrees_of_freedom) == ("tesla-t4", 0.02, 4.5)
    assert (measured.experiment, measured.document_deviation) == ("llama2-7b-chat-4-bit", 0.1)
    assert [timing.seconds for timing in measured.timings] == [2.0, 2.5] * 4


def test_what_several_processes_measured_does_not_stand_for_the_experiment_itself(tmp_path):
    write_device(tmp_path / "tesla-t4")
    spread_over_two = benchmark(seconds=(9.0,) * 8) | {"name": "test_distributed[llama2-7b-chat-4-bit]"}
    (tmp_path / "tesla-t4" / "0002_two-gpus.json").write_text(json.dumps(run_of(spread_over_two)))
    ((measured,),) = (device.experiments for device in read_devices(tmp_path))
    assert [timing.seconds for timing in measured.timings] == [2.0, 2.5] * 4


@pytest.mark.parametrize("spread", [None, {"standard_deviation": 0.02, "degrees_of_freedom": 4.5}])
def test_without_both_parts_there_is_nothing_to_draw_from(tmp_path, spread, capsys):
    if spread is not None:
        write_device(tmp_path / "tesla-t4", spread)
    with pytest.raises(InputError, match=r"no device in .* has both a measured spread and stored runs"):
        read_devices(tmp_path)
    assert main(["--baselines", str(tmp_path), "--simulation-only", "--output", str(tmp_path / "x.md")]) == 4
    assert capsys.readouterr().err.startswith("ERROR: no device in")


def few_trials(folder, *arguments):
    write_device(folder / "baselines" / "tesla-t4")
    given = ["--baselines", str(folder / "baselines"), "--trials", "10", "--simulation-only", *arguments]
    assert main([*given, "--output", str(folder / "out" / "table.md")]) == 0
    return folder / "out" / "table.md"


def test_table_is_written_as_markdown_and_as_json_and_printed(tmp_path, capsys):
    path = few_trials(tmp_path)
    text = path.read_text()
    assert capsys.readouterr().out == text
    found = json.loads(path.with_suffix(".json").read_text())
    (device,) = found["devices"]
    assert found["spot_checks"] == []
    # The measured 2% is one of the table's own: six spreads would be seven otherwise.
    assert [cell["run_deviation"] for cell in device["cells"][:: len(RULES)]] == list(RUN_DEVIATIONS)
    for cell in device["cells"]:
        assert [rate["slowdown"] for rate in cell["rates"]] == list(SLOWDOWNS)
        assert all(rate["trials"] == 10 for rate in cell["rates"])
    assert device["trials_decided_by_the_suite_too"] == 10 * len(RUN_DEVIATIONS) * len(SLOWDOWNS)
    assert [row["run_deviation"] for row in device["disturbed"]] == list(RUN_DEVIATIONS)
    for row in device["disturbed"]:
        assert list(row["rules"]) == [CONFIRMED, TWO_PASSES]
        assert [[rate["slowdown"] for rate in rates] for rates in row["rules"].values()] == [[0.0, 0.1, 0.2]] * 2
    assert "Each pass of today is disturbed with a probability of 5%" in text
    assert text.count(" | this suite, --passes 1 | ") == 2 * len(RUN_DEVIATIONS)
    assert "2.0% \\* | this suite, --passes 1" in text


def test_same_seed_writes_the_same_table(tmp_path):
    one, same = few_trials(tmp_path / "one"), few_trials(tmp_path / "same")
    other = few_trials(tmp_path / "other", "--seed", "1")
    assert one.read_text() == same.read_text()
    rows, other_rows = (json.loads(path.with_suffix(".json").read_text())["devices"] for path in (one, other))
    assert rows != other_rows


@pytest.mark.parametrize("arguments", [("--trials", "0"), ("--seed", "-1")])
def test_impossible_numbers_are_refused(arguments, tmp_path, capsys):
    assert main([*arguments, "--simulation-only", "--output", str(tmp_path / "table.md")]) == 4
    assert "give at least 1 trial and a seed of 0 or more" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_table_that_cannot_be_written_is_one_line(tmp_path, capsys):
    write_device(tmp_path / "baselines" / "tesla-t4")
    (tmp_path / "file").write_text("")
    given = ["--baselines", str(tmp_path / "baselines"), "--trials", "5", "--simulation-only"]
    assert main([*given, "--output", str(tmp_path / "file" / "table.md")]) == 4
    assert capsys.readouterr().err.startswith(f"ERROR: cannot write {tmp_path}/file/table.md: ")


def cell(rule, run_deviation, unchanged, slower):
    rates = [(0.0, unchanged), (0.03, slower)]
    return {
        "rule": rule,
        "run_deviation": run_deviation,
        "rates": [{"slowdown": slowdown, "share": share} for slowdown, share in rates],
    }


def test_goals_are_judged_by_the_worst_row_as_found():
    cells = [
        *(cell(CONFIRMED, deviation, 0.01, share) for deviation, share in ((0.002, 1.0), (0.008, 0.95), (0.02, 0.1))),
        *(cell(TWO_PASSES, deviation, 0.0101, share) for deviation, share in ((0.002, 1.0), (0.008, 0.9499))),
    ]
    goals = list(_goals(cells))
    assert [(goal["rule"], goal["is_met"]) for goal in goals] == [
        (CONFIRMED, True),
        (CONFIRMED, True),
        (TWO_PASSES, False),
        (TWO_PASSES, False),
    ]
    assert goals[3]["worst"] == {"run_deviation": 0.008, "slowdown": 0.03, "share": 0.9499}


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
    monkeypatch.chdir(tmp_path)  # where no baselines are
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
    write_device(tmp_path / "baselines" / "tesla-t4")
    monkeypatch.setattr(detection_command, "read_devices", lambda _: pytest.fail("the simulation began"))
    assert main(["--device", "gpu", "--output", str(tmp_path / "table.md")]) == 4
    assert capsys.readouterr().err.startswith("ERROR: --device gpu: this process sees none")


@pytest.mark.slow
def test_command_simulates_and_tries_the_real_thing(tmp_path, monkeypatch, capsys):
    write_device(tmp_path / "baselines" / "tesla-t4")
    monkeypatch.setattr(spot_check, "ON_CPU", replace(spot_check.ON_CPU, documents=2, max_new_tokens=4))
    path = tmp_path / "table.md"
    given = ["--baselines", str(tmp_path / "baselines"), "--trials", "50", "--device", "cpu", "--output", str(path)]
    assert main(given) == 0
    found = json.loads(path.with_suffix(".json").read_text())
    (checks,) = found["spot_checks"]
    spots = checks["spots"]
    assert len(spots) == len(spot_check.DELAYS) + 1
    assert all(0 < spot["low"] <= spot["ratio"] <= spot["high"] for spot in spots)
    assert "| a busy neighbour on" in capsys.readouterr().out
