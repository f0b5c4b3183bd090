"""`summarybench compare`: two run files in, a line an experiment and an exit code out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.command import command
from tests.known_noise import write_replicates
from tests.run_files import A100, MACHINE, benchmark, run_of

main = command("compare")

NAME = "llama2-7b-chat-4-bit"
PYTEST_BENCHMARK_S_OWN = {
    "machine_info": {"node": "x"},
    "benchmarks": [{"name": "test_x", "extra_info": {}, "stats": {"data": [1.0]}}],
}


@pytest.fixture
def folders(tmp_path):
    """Two results folders, `now` and `before`, with the same hand-made run of one experiment in each."""
    for name in ("now", "before"):
        write(tmp_path / name, run_of(benchmark()))
    return tmp_path


def write(folder, run):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run))


def with_seconds(run, factor):
    """The same run, had it taken this many times as long."""
    for each in run["benchmarks"]:
        each["stats"]["data"] = [seconds * factor for seconds in each["stats"]["data"]]
    return run


def verdicts(output):
    """The lines that begin an experiment; what is said below each is indented."""
    return [line for line in output.splitlines() if not line.startswith(" ")]


# Two runs that sessions wrote -----------------------------------------------------------------------------------------


def test_two_sessions_of_one_thing_are_clean_with_a_line_an_experiment(project, capsys):
    project.bench()
    project.bench()
    before, now = sorted((project.folder / "results").glob("2*"))
    assert main([str(now), str(before)]) == 0
    lines = verdicts(capsys.readouterr().out)
    assert [line.partition(":")[0] for line in lines] == [
        f"smollm2-135m-instruct-{x}" for x in ("default", "8-bit", "4-bit")
    ]
    assert all(f": 1.000 times the speed of {before.name} [" in line for line in lines)


@pytest.mark.parametrize(("factor", "exit_code", "verdict"), [(0.5, 1, "REGRESSED"), (2.0, 0, "IMPROVED")])
def test_session_s_run_against_one_of_another_speed(project, capsys, factor, exit_code, verdict):
    run = project.bench().run
    write(project.folder / "other", with_seconds(run, factor))
    assert main([str(project.folder / "results" / "latest"), str(project.folder / "other")]) == exit_code
    lines = verdicts(capsys.readouterr().out)
    assert [f"{verdict}: {factor:.3f} times the speed of other [" in line for line in lines] == [True] * 3


# Hand-made ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", ["now", "now/run.json"])
@pytest.mark.parametrize("before", ["before", "before/run.json"])
def test_folder_and_file_are_the_same_to_it(folders, capsys, now, before):
    assert main([str(folders / now), str(folders / before)]) == 0
    speed, first_token, decode, quality = capsys.readouterr().out.splitlines()
    of_before = (
        "1.000 times the speed of before [0.824, 1.213], 8 documents, noise: processes 5.0% assumed, nights 2.0% assumed; "
        "not decided"
    )
    assert speed.startswith(f"{NAME}: UNCALIBRATED: {of_before}")
    assert first_token.startswith(
        "  time to first token: UNCALIBRATED: 0.250 s here, 0.250 s there: 1.000 times the speed of before ["
    )
    assert decode.startswith(f"  decode tokens/s: UNCALIBRATED: 56.6 here, 56.6 there: {of_before}")
    assert quality == (
        "  quality NON-INFERIOR to before: ROUGE-1 +0.0 points [+0.0, +0.0], margin 1.5, 8 documents, 0 summaries changed"
    )


def test_stored_baseline_is_named_by_its_file(folders, capsys):
    stored = (folders / "before" / "run.json").rename(folders / "before" / "0001_main.json")
    assert main([str(folders / "now"), str(stored)]) == 0
    assert "1.000 times the speed of 0001_main.json [" in capsys.readouterr().out


def test_run_in_the_current_folder_has_a_name_too(folders, capsys, monkeypatch):
    monkeypatch.chdir(folders / "before")
    assert main([str(folders / "now"), "run.json"]) == 0
    assert "1.000 times the speed of before [" in capsys.readouterr().out


def test_command_exits_with_what_main_returns(folders):
    write(folders / "before", with_seconds(run_of(benchmark()), 0.5))
    command = [sys.executable, "-m", "summarybench", "compare", str(folders / "now"), str(folders / "before")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"{NAME}: REGRESSED: 0.500 times the speed of before [")


def test_one_regression_among_others_is_enough(folders, capsys):
    slow, same = benchmark(seconds=(4.0,) * 8), benchmark("llama2-7b-chat-fp16")
    write(folders / "now", run_of(slow, same))
    write(folders / "before", run_of(benchmark(), same))
    assert main([str(folders / "now"), str(folders / "before")]) == 1
    assert [line.split(": ")[1] for line in verdicts(capsys.readouterr().out)] == ["REGRESSED", "UNCALIBRATED"]


@pytest.mark.parametrize(
    ("tolerance", "verdict"), [("5%", "UNCHANGED"), ("0.05", "UNCHANGED"), ("0.2%", "INCONCLUSIVE")]
)
def test_tolerance_decides_what_counts_as_no_change(folders, capsys, tolerance, verdict):
    for number, name in enumerate(("before", "now")):
        write(folders / name, run_of(benchmark()) | {"datetime": f"2026-11-29T0{number}:00:00"})
    write_replicates(folders / "before", 0.002, experiment=NAME, host=MACHINE["host"])
    assert main([str(folders / "now"), str(folders / "before"), "--tolerance", tolerance]) == 0
    assert f"{NAME}: {verdict}: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("driver", "spread", "said"),
    [
        ("580.95.05", None, "noise: processes 5.0% assumed, nights 2.0% assumed;"),
        (None, None, "noise: processes 12.0% assumed, nights 5.0% assumed;"),
        ("580.95.05", 0.02, "noise: processes 2.0% measured, nights 2.0% assumed"),
    ],
)
def test_spread_is_the_measured_one_beside_against_or_the_assumed_one_of_its_kind(
    folders, capsys, driver, spread, said
):
    for name in ("before", "now"):
        write(folders / name, run_of(benchmark(), driver=driver))
    if spread:
        write_replicates(folders / "before", spread, experiment=NAME, host=MACHINE["host"])
    main([str(folders / "now"), str(folders / "before")])
    assert said in capsys.readouterr().out


def test_run_of_another_device_is_incomparable_and_both_are_named(folders, capsys):
    write(folders / "before", run_of(benchmark(), device="Tesla T4"))
    assert main([str(folders / "now"), str(folders / "before")]) == 0
    assert capsys.readouterr().out == (
        f"{NAME}: INCOMPARABLE: before was measured on another device: Tesla T4 there, NVIDIA A100-SXM4-40GB here\n"
    )


def test_environment_differences_are_listed_below_the_verdict(folders, capsys):
    write(folders / "before", run_of(benchmark(), torch="2.12.0", driver="570.1"))
    main([str(folders / "now"), str(folders / "before")])
    verdict, *_, environment, _ = capsys.readouterr().out.splitlines()
    assert verdict.startswith(f"{NAME}: UNCALIBRATED: ")
    assert (
        environment == f"  environment: driver {MACHINE['driver']} here, 570.1 there; torch 2.13.0 here, 2.12.0 there"
    )


def test_cause_of_a_slowdown_is_told_below_it_and_leaves_the_exit_code(folders, capsys):
    held = {"kernel_launches_per_second": {"before": 1e5, "after": 1e5, "standard_deviation": 0.01, "work": 1000}}
    fell = {"kernel_launches_per_second": {"before": 5e4, "after": 5e4, "standard_deviation": 0.01, "work": 1000}}
    write(folders / "before", run_of(benchmark(controls=held)))
    write(folders / "now", run_of(benchmark(seconds=(4.0,) * 8, controls=fell)))
    assert main([str(folders / "now"), str(folders / "before")]) == 1
    verdict, cause, *_ = capsys.readouterr().out.splitlines()
    assert verdict.startswith(f"{NAME}: REGRESSED: 0.500 times the speed of before [")
    assert cause == "  HOST: probes moved along: kernel launches -50%"


def worse(seconds=2.0):
    """The hand-made run with eight summaries that score less by 10 points, and an eighth of them empty."""
    ids = {"empty": ["document 8"], "repeating": []}
    return run_of(
        benchmark(
            seconds=(seconds,) * 8, rouge1_scores=[0.15] * 8, degenerate_document_ids=ids, summary_sha256=["1"] * 8
        )
    )


@pytest.mark.parametrize(("seconds", "exit_code"), [(2.0, 10), (4.0, 1)])
def test_lost_quality_has_its_exit_code_unless_speed_was_lost_too(folders, capsys, seconds, exit_code):
    write(folders / "now", worse(seconds))
    assert main([str(folders / "now"), str(folders / "before")]) == exit_code
    assert capsys.readouterr().out.splitlines()[-1] == (
        "  quality INFERIOR to before: ROUGE-1 -10.0 points [-15.0, -5.0], margin 1.5, 8 documents, 8 summaries changed, "
        "1 more and 0 fewer empty (p 0.5), 0 more and 1 fewer repeating (p 1)"
    )


@pytest.mark.parametrize("change", [{"workload": "another workload"}, {"rouge1": None}])
def test_quality_is_not_compared_where_the_work_differs_or_nothing_was_scored(folders, capsys, change):
    write(folders / "before", run_of(benchmark(**change)))
    assert main([str(folders / "now"), str(folders / "before")]) == 0
    assert "quality" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage",
    [
        {"rouge1_scores": [0.25] * 7},
        {"rouge1_scores": [0.25] * 7 + [float("nan")]},
        {"rouge1_scores": [0.25] * 7 + [None]},
        {"summary_sha256": []},
        {"degenerate_document_ids": []},
        {"degenerate_document_ids": {"empty": []}},
    ],
)
def test_damaged_scores_are_refused(folders, refused, damage):
    write(folders / "before", run_of(benchmark(**damage)))
    assert "is not a run of this suite" in refused("now", "before")


def test_experiment_that_against_lacks_has_no_baseline_there(folders, capsys):
    write(folders / "now", run_of(benchmark("llama2-7b-chat-fp16")))
    assert main([str(folders / "now"), str(folders / "before")]) == 0
    assert "NO BASELINE: no baseline for 'llama2-7b-chat-fp16' in before" in capsys.readouterr().out


def test_run_without_experiments_says_so(folders, capsys):
    write(folders / "now", run_of())
    assert main([str(folders / "now"), str(folders / "before")]) == 4
    said = "has no measured experiment: the run is still going on, or measured nothing"
    assert capsys.readouterr().err == f"ERROR: {folders / 'now' / 'run.json'} {said}\n"


# The newest comparable baseline, and runs by number or name ----------------------------------------------------------

OTHER = "llama2-7b-chat-fp16"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Store hand-made runs of an A100 as baselines/SLUG/NNNN_NAME.json of the current folder, each a day later."""
    monkeypatch.chdir(tmp_path)

    def stored(number, *benchmarks, name="main", device=A100, **facts):
        folder = tmp_path / "baselines" / device.slug
        folder.mkdir(parents=True, exist_ok=True)
        for each in benchmarks:  # no two measurements are equal: an equal one would count once
            each["stats"]["data"] = [seconds * (1 + number / 1e9) for seconds in each["stats"]["data"]]
        run = {**run_of(*benchmarks), "device": asdict(device), "datetime": f"2026-11-{number:02}T00:00:00+00:00"}
        (folder / f"{number:04}_{name}.json").write_text(json.dumps(run | facts))

    return stored


@pytest.fixture
def latest(tmp_path):
    """Make a run of an A100, on the 20th unless said otherwise, the one in results/latest."""

    def measured(*benchmarks, day=20, **facts):
        run = {**run_of(*benchmarks), "device": asdict(A100), "datetime": f"2026-11-{day:02}T00:00:00+00:00"}
        (tmp_path / "results").mkdir(exist_ok=True)
        write(tmp_path / "results" / "latest", run | facts)

    return measured


def stored_path(number, name="main"):
    return f"baselines/{A100.slug}/{number:04}_{name}.json"


def test_run_alone_is_compared_with_the_newest_stored_run_of_its_workload_and_says_which(store, latest, capsys):
    for number in (1, 2):
        store(number, benchmark())
    store(3, benchmark(workload="another workload"))
    latest(benchmark())
    assert main(["results/latest"]) == 0
    first, verdict = verdicts(capsys.readouterr().out)
    assert first == f"against {stored_path(2)}, the newest earlier run with the same workload"
    assert verdict.startswith(f"{NAME}: UNCALIBRATED: 1.000 times the speed of 0002_main.json [")


def test_each_experiment_has_the_newest_stored_run_that_holds_it(store, latest, capsys):
    store(1, benchmark(OTHER))
    store(2, benchmark())
    latest(benchmark(), benchmark(OTHER, seconds=(4.0,) * 8))
    assert main(["results/latest"]) == 1
    assert verdicts(capsys.readouterr().out)[:2] == [
        f"against {stored_path(2)}, the newest earlier run with the same workload: {NAME}",
        f"against {stored_path(1)}, the newest earlier run with the same workload: {OTHER}",
    ]


def test_experiment_that_no_stored_run_holds_has_no_baseline_beside_others(store, latest, capsys):
    store(1, benchmark())
    latest(benchmark(), benchmark(OTHER))
    assert main(["results/latest"]) == 0
    assert f"{OTHER}: NO BASELINE: no baseline for '{OTHER}' on '{A100.slug}'" in capsys.readouterr().out


def test_another_workload_alone_is_said_and_is_incomparable(store, latest, capsys):
    store(1, benchmark(workload="another workload"))
    latest(benchmark())
    assert main(["results/latest"]) == 0
    first, verdict = verdicts(capsys.readouterr().out)
    assert first == f"against {stored_path(1)}, the most similar earlier run"
    assert verdict.startswith(f"{NAME}: INCOMPARABLE: 0001_main.json measured another workload")


def test_neither_the_run_s_own_copy_nor_a_later_run_nor_the_anchor_is_its_baseline(store, latest, capsys):
    store(1, benchmark())
    store(2, benchmark(), name="anchor")
    store(20, benchmark())
    store(21, benchmark())
    latest(benchmark(), day=20)
    assert main(["results/latest"]) == 0
    assert capsys.readouterr().out.startswith(f"against {stored_path(1)}, ")


def test_stored_run_is_compared_with_the_one_before_it(store, capsys):
    for number in (1, 2, 3):
        store(number, benchmark())
    assert main(["0003"]) == 0
    assert capsys.readouterr().out.startswith(f"against {stored_path(2)}, ")


def test_measured_noise_of_the_device_is_used(store, latest, capsys):
    store(1, benchmark())
    write_replicates(Path("baselines", A100.slug), 0.02, experiment=NAME, host=MACHINE["host"])
    latest(benchmark())
    main(["results/latest"])
    assert "noise: processes 2.0% measured" in capsys.readouterr().out


def test_without_any_earlier_run_it_is_one_line_that_says_what_to_give(store, latest, capsys):
    store(21, benchmark())
    latest(benchmark())
    assert main(["results/latest"]) == 4
    assert capsys.readouterr().err == (
        f"ERROR: baselines/{A100.slug} has no earlier run of what latest measured; give a run to compare with, AGAINST\n"
    )


def test_run_that_does_not_say_its_device_needs_a_second_path(store, latest, capsys):
    store(1, benchmark())
    latest(benchmark(), device=None)
    assert main(["results/latest"]) == 4
    assert "does not say on which device" in capsys.readouterr().err
    assert main(["results/latest", stored_path(1)]) == 0


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("1", "0001_main"),
        ("0001", "0001_main"),
        ("0001_main", "0001_main"),
        ("0001_main.json", "0001_main"),
        ("main", "0002_main"),
        ("nightly", "0003_nightly"),
        ("anchor", "0004_anchor"),
    ],
)
def test_other_run_is_found_by_number_or_name_the_newest_of_several(store, latest, capsys, given, found):
    for number, name in ((1, "main"), (2, "main"), (3, "nightly"), (4, "anchor")):
        store(number, benchmark(), name=name)
    latest(benchmark())
    assert main(["results/latest", given]) == 0
    assert f"1.000 times the speed of {found}.json [" in capsys.readouterr().out


def test_file_or_folder_of_that_name_comes_first(store, latest, tmp_path, capsys):
    store(1, benchmark())
    write(tmp_path / "0001", run_of(benchmark(seconds=(1.0,) * 8)))
    latest(benchmark())
    assert main(["results/latest", "0001"]) == 1
    assert "REGRESSED: 0.500 times the speed of 0001 [" in capsys.readouterr().out


def test_name_that_is_stored_nowhere_is_refused_with_what_there_is(store, latest, capsys):
    store(1, benchmark())
    latest(benchmark())
    for words in (["results/latest", "0002"], ["0002"]):
        assert main(words) == 4
        said = "'0002' is neither a file or folder, nor the number or name of a stored run; stored: "
        assert capsys.readouterr().err == f"ERROR: {said}{A100.slug}/0001_main.json\n"


def test_number_that_several_devices_have_is_refused_as_the_run(store, capsys):
    store(1, benchmark())
    store(1, benchmark(), device=replace(A100, slug="tesla-t4"))
    assert main(["0001"]) == 4
    paths = f"{stored_path(1)}, baselines/tesla-t4/0001_main.json"
    assert capsys.readouterr().err == f"ERROR: '0001' is stored for several devices; give one by its path: {paths}\n"


def test_baselines_may_lie_elsewhere(store, latest, tmp_path, capsys):
    store(1, benchmark())
    latest(benchmark())
    (tmp_path / "baselines").rename(tmp_path / "elsewhere")
    assert main(["results/latest", "--baselines", "elsewhere"]) == 0
    assert capsys.readouterr().out.startswith(f"against elsewhere/{A100.slug}/0001_main.json, ")


# What cannot be used --------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(folders, capsys):
    """The one ERROR line with which these arguments, given within `folders`, are refused."""

    def line(now, before, *options):
        assert main([str(folders / now), str(folders / before), *options]) == 4
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("ERROR: ")
        assert said.err.count("\n") == 1
        return said.err

    return line


@pytest.mark.parametrize("arguments", [("absent", "before"), ("now", "absent")])
def test_missing_file_is_named(folders, refused, arguments):
    assert f"cannot read {folders / 'absent'}: No such file or directory" in refused(*arguments)


def test_folder_without_a_run_is_named(folders, refused):
    (folders / "empty").mkdir()
    assert f"cannot read {folders / 'empty' / 'run.json'}" in refused("now", "empty")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b"{half", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "is not a run of this suite"),
        (b"null", "is not a run of this suite"),
        (b"{}", "is not a run of this suite"),
        (b'{"benchmarks": {}}', "is not a run of this suite"),
        (json.dumps(PYTEST_BENCHMARK_S_OWN).encode(), "is not a run of this suite"),
    ],
)
@pytest.mark.parametrize("arguments", [("foreign", "before"), ("now", "foreign")])
def test_foreign_file_is_named(folders, refused, arguments, content, said):
    (folders / "foreign").write_bytes(content)
    assert f"{folders / 'foreign'} {said}" in refused(*arguments)


def test_run_that_does_not_tell_its_driver_is_judged_or_refused_but_no_traceback(folders):
    write(folders / "before", {**run_of(benchmark()), "machine_info": {"device": MACHINE["device"]}})
    assert main([str(folders / "now"), str(folders / "before")]) in (0, 4)


@pytest.mark.parametrize("tolerance", ["lots", "0", "0%", "100%", "1", "5", "nan", "", "%"])
def test_bad_tolerance_is_refused(refused, tolerance):
    assert f"--tolerance {tolerance}: give a share between 0 and 1" in refused(
        "now", "before", "--tolerance", tolerance
    )


def test_bad_spread_beside_against_is_named(folders, refused):
    (folders / "before" / "spread.json").write_text("{}")
    assert f"{folders / 'before' / 'spread.json'} does not hold a measured spread" in refused("now", "before")
