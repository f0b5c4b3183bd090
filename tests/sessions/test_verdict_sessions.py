"""Whole sessions whose verdict is about more than speed: whose fault it is, what is missing, and what the anchor shows."""

from __future__ import annotations

import copy
import json

import pytest

from tests.sessions.test_sessions import EMBEDDED, NO_FLOOR, lines_with

FOUR_BIT = ("-k", EMBEDDED[2])
TWICE_AS_SLOW = {"4-bit": 2.0}


# What a stored run holds and this one does not ---------------------------------------------------------------------

MISSED = "; a stored run has it, so this run must have it too"


def test_unavailable_experiment_that_a_stored_run_holds_fails_unasked(project):
    project.script({}, {"unavailable": ["8-bit", "4-bit"]})
    project.bench_once("--benchmark-save=main", "-k", EMBEDDED[2])
    session = project.bench()
    assert (session.exit_code, session.left_behind) == (11, "11")
    assert session.outcomes == {EMBEDDED[0]: "passed", EMBEDDED[1]: "unavailable", EMBEDDED[2]: "unavailable"}
    assert "1 failed, 1 passed, 1 skipped" in session.output
    assert f"{EMBEDDED[1]}: unavailable: no licence" in session.output.splitlines()
    assert f"{EMBEDDED[2]}: unavailable: no licence{MISSED}" in session.output.splitlines()


@pytest.mark.parametrize(
    "other", [("--max-new-tokens", "40"), ("--weights", "synthetic")], ids=["token limit", "weights"]
)
def test_unavailable_experiment_of_another_workload_stays_skipped(project, other):
    project.script({}, {"unavailable": ["8-bit", "4-bit"]})
    project.bench_once("--benchmark-save=main")
    session = project.bench(*other)
    assert session.exit_code == 11
    assert "1 passed, 2 skipped" in session.output
    assert MISSED not in session.output


def test_experiment_of_the_anchor_alone_stays_skipped(project):
    project.script({}, {"unavailable": ["4-bit"]})
    project.bench_once("--benchmark-save=anchor")
    assert "2 passed, 1 skipped" in project.bench().output


@pytest.mark.parametrize(("stored", "in_pytest"), [(True, "2 failed, 1 skipped"), (False, "1 failed, 2 skipped")])
def test_what_the_lost_gpu_kept_from_running_fails_where_a_stored_run_holds_it(project, stored, in_pytest):
    project.script({}, {"fail": {"default": "lost"}})
    project.bench_once(*FOUR_BIT, *(["--benchmark-save=main"] if stored else []))
    session = project.bench()
    assert session.exit_code == 11
    expected = "unavailable" if stored else "skipped"
    assert session.outcomes == {EMBEDDED[0]: "invalid", EMBEDDED[1]: "skipped", EMBEDDED[2]: expected}
    assert in_pytest in session.output
    told = f"{EMBEDDED[2]}: unavailable: not run: the GPU was lost in {EMBEDDED[0]}{MISSED}"
    assert (told in session.output.splitlines()) == stored
    assert "Traceback" not in session.output


def test_experiment_for_another_device_stays_skipped_whatever_is_stored(project):
    project.script({})
    project.bench_once("--benchmark-save=main")
    session = project.bench("-m", "t4")
    assert session.exit_code == 12
    assert set(session.outcomes.values()) == {"skipped"}


# Whose fault --------------------------------------------------------------------------------------------------------

LONG_PROMPTS = {"seconds_to_first_token": 0.5, "tokens": 40}


@pytest.mark.parametrize(
    ("before", "now", "cause", "expected"),
    [
        pytest.param({}, {"slower": TWICE_AS_SLOW}, "CODE", 1, id="controls-held"),
        pytest.param({}, {"slower": TWICE_AS_SLOW, "controls": 2.0}, "HOST", 11, id="controls-along"),
        pytest.param({}, {"slower": TWICE_AS_SLOW, "controls": 1.05}, "CODE", 1, id="controls-a-little-along"),
        pytest.param({}, {"slower": TWICE_AS_SLOW, "controls": 0.5}, "CODE", 1, id="controls-faster"),
        pytest.param({"controls": None}, {"slower": TWICE_AS_SLOW}, "UNKNOWN", 1, id="no-controls-before"),
        pytest.param({}, {"slower": TWICE_AS_SLOW, "controls": None}, "UNKNOWN", 1, id="no-controls-now"),
    ],
)
def test_regression_says_where_it_sits_and_only_the_exit_code_depends_on_it(project, before, now, cause, expected):
    project.script(before, now)
    project.bench_once("--benchmark-save=main", *FOUR_BIT)
    project.measured_noise()
    session = project.bench(*FOUR_BIT)
    info = session.infos["4-bit"]
    assert (info["verdict"], info["attribution"]["cause"]) == ("REGRESSED", cause)
    assert (session.exit_code, session.left_behind) == (expected, str(expected))
    assert session.outcomes == {EMBEDDED[2]: "failed"}
    assert f"  {cause}: {info['attribution']['detail']}" in session.output.splitlines()


@pytest.mark.parametrize(("before", "now"), [(40, 20), (20, 40)], ids=["half-as-long", "twice-as-long"])
def test_outputs_of_another_length_change_no_verdict_and_are_said_to_be(project, before, now):
    project.script(*(LONG_PROMPTS | {"tokens": tokens} for tokens in (before, now)))
    project.bench_once("--benchmark-save=main", *FOUR_BIT)
    project.measured_noise(0.01)
    session = project.bench(*FOUR_BIT)
    info = session.infos["4-bit"]
    assert (info["verdict"], info["attribution"]) == ("UNCHANGED", None)
    assert session.exit_code != 1  # half a summary scores less
    assert info["change"]["ratio"] == pytest.approx(1)
    assert (
        f"outputs of another length ({now}.0 tokens here, {before}.0 there) change it by a further"
        in info["verdict_detail"]
    )


def test_unchanged_speed_is_nobody_s_fault_whatever_the_controls_say(project):
    project.script({}, {"controls": 2.0})
    project.bench_once("--benchmark-save=main", *FOUR_BIT)
    assert project.bench(*FOUR_BIT).infos["4-bit"]["attribution"] is None


def test_regression_of_the_code_lists_the_versions_that_are_others(project):
    project.script({}, {"slower": TWICE_AS_SLOW})
    path = project.bench_once("--benchmark-save=main", *FOUR_BIT).stored[0]
    run = json.loads(path.read_text())
    run["machine_info"]["bitsandbytes"] = "0.1.0"
    path.write_text(json.dumps(run))
    session = project.bench(*FOUR_BIT)
    detail = session.infos["4-bit"]["attribution"]["detail"]
    assert "; other than the baseline's: bitsandbytes " in detail
    assert detail.endswith(", 0.1.0 there")


A_GPU = """
    from tests.fakes import FakeGpu, FakeMemory

    def pytest_benchmarked_device():
        return FakeGpu(memory=FakeMemory(allocated_bytes=1_000_000))
"""


def test_slowdown_along_with_a_gpu_s_memory_is_the_gpu_s(project):
    options = ("-m", "t4", "-k", "llama2 and 4-bit", "--document-source", "embedded", "--documents", "8")
    project.script({}, {"slower": TWICE_AS_SLOW, "controls": 2.0}, conftest=A_GPU)
    project.bench_once("--benchmark-save=main", *options)
    session = project.bench(*options)
    assert (session.exit_code, session.infos["4-bit"]["attribution"]["cause"]) == (11, "GPU")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param({"slower": {"8-bit": 2.0}, "controls": 2.0}, 10, id="10-before-the-machine-s-11"),
        pytest.param({"slower": {"4-bit": 2.0}, "controls": 2.0}, 10, id="10-before-the-machine-s-11-in-one-test"),
        pytest.param({"slower": {"8-bit": 2.0}}, 1, id="1-before-10"),
        pytest.param({"slower": {"4-bit": 2.0}}, 1, id="1-before-10-in-one-test"),
    ],
)
def test_lost_quality_counts_more_than_a_slower_machine_and_less_than_slower_code(project, now, expected):
    project.script({}, {"worthless": ["4-bit"], **now})
    project.bench_once("--benchmark-save=main", *NO_FLOOR)
    session = project.bench(*NO_FLOOR)
    assert (session.exit_code, session.left_behind) == (expected, str(expected))
    assert lines_with(session, f"{EMBEDDED[2]}: quality INFERIOR to 0001_main.json")
    (loader,) = now["slower"]
    assert session.infos[loader]["verdict"] == "REGRESSED"


# The anchor ---------------------------------------------------------------------------------------------------------


def test_second_anchor_is_refused_before_anything_is_measured(project, one_error_line):
    project.script({})
    anchor = project.bench_once("--benchmark-save=anchor", *FOUR_BIT).stored[0]
    before = anchor.read_bytes()
    session = project.bench("--benchmark-save=anchor", *FOUR_BIT)
    assert session.exit_code == 4
    assert f"{anchor} is the anchor, and an anchor is never replaced; " in one_error_line(session)
    assert (session.stored, anchor.read_bytes()) == ([anchor], before)
    assert len(list((project.folder / "results").glob("2*"))) == 1


def test_anchor_alone_is_no_baseline(project):
    project.script({}, {"slower": TWICE_AS_SLOW})
    project.bench_once("--benchmark-save=anchor", *FOUR_BIT)
    session = project.bench(*FOUR_BIT)
    assert (session.exit_code, session.infos["4-bit"]["verdict"]) == (0, "NO BASELINE")


def move_to_earlier_nights(project):
    """Date the stored runs one night after the other."""
    (folder,) = (project.folder / "baselines").iterdir()
    for path in folder.glob("0*.json"):
        run = json.loads(path.read_text())
        path.write_text(json.dumps(run | {"datetime": f"2026-11-{path.name[2:4]}T01:00:00+00:00"}))


def test_slow_slide_fails_against_the_anchor_and_no_night_regressed_against_the_newest(project):
    project.script(*({"slower": {"4-bit": 1.025**night}} for night in (0, 0, 1, 2, 3, 4)))
    project.bench_once("--benchmark-save=anchor", *FOUR_BIT)
    project.measured_noise(0.02, one_night=False)
    project.bench("--benchmark-save=main", *FOUR_BIT)
    nights = []
    for _ in range(4):
        move_to_earlier_nights(project)
        session = project.bench("--benchmark-save=nightly", *FOUR_BIT)
        nights.append(session.infos["4-bit"])
        assert session.exit_code == (1 if nights[-1]["anchor"]["verdict"] == "REGRESSED" else 0)
    assert session.exit_code == 1
    assert " times the speed of the anchor 0001_anchor.json" in session.output
    assert {night["verdict"] for night in nights}.isdisjoint({"REGRESSED", "IMPROVED"})
    assert [night["baseline"]["file"] for night in nights] == [
        "0002_main.json",
        "0003_nightly.json",
        "0004_nightly.json",
        "0005_nightly.json",
    ]
    assert nights[-1]["baseline"]["runs"] == ["0005_nightly.json", "0004_nightly.json", "0003_nightly.json"]
    assert [night["anchor"]["file"] for night in nights] == ["0001_anchor.json"] * 4
    assert [night["anchor"]["ratio"] for night in nights] == pytest.approx([1.025**-night for night in (1, 2, 3, 4)])
    assert [night["anchor"]["verdict"] == "REGRESSED" for night in nights] == [False, False, False, True]
    (told,) = lines_with(session, "against 0001_anchor.json")
    assert told.startswith("  against 0001_anchor.json: REGRESSED 0.906 [0.8")


# History ------------------------------------------------------------------------------------------------------------


def stored_nights(project, factors):
    """Copies of the one stored run, a night each before it, with its seconds times these factors."""
    (folder,) = (project.folder / "baselines").iterdir()
    (path,) = folder.glob("*_main.json")
    run = json.loads(path.read_text())
    path.unlink()
    for number, factor in enumerate(factors, start=1):
        copied = copy.deepcopy(run) | {"datetime": f"2026-01-{number:02}T03:00:00+00:00"}
        for benchmark in copied["benchmarks"]:
            benchmark["stats"]["data"] = [factor * each for each in benchmark["stats"]["data"]]
        (folder / f"{number:04}_nightly.json").write_text(json.dumps(copied))


# No two nights are equal: one measurement that is stored twice counts once.


def test_slow_slide_is_said_by_the_session_and_fails_the_night(project):
    project.script({}, {})
    project.bench_once("--benchmark-save=main", *FOUR_BIT)
    stored_nights(project, [0.9 * (1 + 0.004 * (-1) ** night + night / 1e6) for night in range(12)] + [1.002, 0.998])
    session = project.bench(*FOUR_BIT)
    record = session.run["benchmarks"][0]["extra_info"]["history"]
    assert (record["trend"], record["nights"], record["since"]) == ("SLOWED", 15, "2026-01-13")
    assert record["ratio"] == pytest.approx(0.9, abs=0.02)
    assert "history: SLOWED to 0.9" in session.output
    night = project.history("--run", "results/latest")
    assert night.returncode == 1
    assert f"{EMBEDDED[2]} on " in night.stdout
    assert "SLOWED" in night.stdout


def test_steady_nights_leave_the_night_green(project):
    project.script({}, {})
    project.bench_once("--benchmark-save=main", *FOUR_BIT)
    stored_nights(project, [1 + 0.004 * (-1) ** night + night / 1e6 for night in range(14)])
    session = project.bench(*FOUR_BIT)
    assert session.run["benchmarks"][0]["extra_info"]["history"]["trend"] == "STEADY"
    assert project.history("--run", "results/latest").returncode == 0
