"""`summarybench history`: what it prints, its exit codes, and how a new speed is accepted."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from summarybench.core.invocation import this_invocation
from tests.analysis.test_history import noisy
from tests.command import command
from tests.run_files import A100

main = command("history")

NAME = "llama2-7b-chat-4-bit"
SLUG = "nvidia-a100-sxm4-40gb"


@pytest.fixture
def history(tmp_path, monkeypatch, capsys):
    """Store these runs, run the command with these arguments; its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def ran(runs, *arguments):
        folder = tmp_path / "baselines" / SLUG
        folder.mkdir(parents=True, exist_ok=True)
        for number, run in enumerate(runs, start=1):
            (folder / f"{number:04}_nightly.json").write_text(json.dumps(run))
        code = main(list(arguments))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return ran


SLOWED = [*noisy(20), *noisy(8, ratio=0.95, start=20)]


def test_steady_series_end_with_0_and_say_what_would_be_found(history):
    code, out, _ = history(noisy(30))
    assert code == 0
    assert f"{NAME} on host-012345: STEADY: 1.0" in out or f"{NAME} on host-012345: STEADY: 0.9" in out
    assert "(20 of 30 nights; one night varies by " in out
    assert "a slowdown of 3% is found within " in out


def test_the_newest_night_has_its_cost_and_energy(history):
    nights = noisy(30)
    _, out, _ = history(nights, "--gpu-hour-price", "1.80")
    assert "    the newest night: a million tokens took 10." in out or "a million tokens took 9." in out
    assert " at 1.80 per GPU-hour, 1111.1 Wh\n" in out
    _, out, _ = history(nights)
    assert "    the newest night: a million tokens took 1111.1 Wh\n" in out


def test_json_has_the_cost_of_each_night_at_the_price_that_its_run_states(history):
    _, out, _ = history([each | {"gpu_hour_price": 1.80} for each in noisy(3)], "--format", "json")
    (found,) = json.loads(out)["devices"][SLUG]
    assert [round(each["cost_per_million_tokens"]) for each in found["nights"]] == [10, 10, 10]
    assert [round(each["watt_hours_per_million_tokens"]) for each in found["nights"]] == [1111] * 3


def test_slowed_series_end_with_1_and_have_date_commits_and_the_way_to_accept_it(history):
    code, out, _ = history(SLOWED)
    assert code == 1
    assert f"{NAME} on host-012345: SLOWED: 0.94" in out
    assert "since 2026-10-21, between commits commit-19 and commit-20\n" in out
    assert f"if that is meant: {this_invocation().command('history', '--accept', NAME)}\n" in out


def test_accepting_starts_a_new_reference_and_the_series_is_no_longer_slow(history):
    code, out, _ = history(SLOWED, "--accept", NAME)
    assert code == 0
    assert f"accepted in baselines/{SLUG}/history.json: {NAME}\n" in out
    assert f"1 series has too few nights to be tested: {NAME} (" in out
    assert history(SLOWED)[0] == 0


def test_accepting_what_did_not_change_is_refused(history):
    code, _, err = history(noisy(12), "--accept", NAME)
    assert (code, err) == (
        4,
        f"ERROR: --accept {NAME}: no experiment with this in its name has slowed or become faster\n",
    )


def test_json_has_the_series_with_every_night(history):
    code, out, _ = history(SLOWED, "--format", "json")
    (found,) = json.loads(out)["devices"][SLUG]
    assert code == 1
    assert (found["trend"], found["since"], found["commits"]) == ("SLOWED", "2026-10-21", ["commit-19", "commit-20"])
    assert len(found["nights"]) == 28
    assert found["cusum"][-1] > found["reference"]["threshold"]


def test_folder_that_is_not_there_is_named(history):
    assert history(noisy(1), "--device", "tesla-t4")[::2] == (
        4,
        f"ERROR: --device tesla-t4: no such folder in baselines; stored there: {SLUG}\n",
    )


def test_no_stored_run_says_how_to_store_one(history, tmp_path):
    code, _, err = history([], "--baselines", str(tmp_path / "none"))
    assert code == 4
    assert "holds no stored runs" in err


@pytest.fixture
def finished(tmp_path):
    """A results folder with this run."""

    def written(run):
        folder = tmp_path / "results" / "tonight"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({**run, "device": asdict(A100)}))
        return folder

    return written


def test_finished_run_counts_as_tonight_without_being_stored(history, finished):
    *stored, tonight = SLOWED[:22]
    assert history(stored)[0] == 0
    code, out, _ = history(stored, "--run", str(finished(tonight)))
    assert code == 1
    assert "(12 of 22 nights;" in out


def test_finished_run_that_is_stored_already_counts_once(history, finished):
    code, out, _ = history(SLOWED, "--run", str(finished(SLOWED[-1])))
    assert code == 1
    assert "of 28 nights;" in out


def test_first_run_of_a_device_has_too_few_nights(history, finished, tmp_path):
    code, out, _ = history([], "--baselines", str(tmp_path / "none"), "--run", str(finished(SLOWED[0])))
    assert code == 0
    assert "1 series has too few nights to be tested" in out
