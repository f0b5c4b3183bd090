"""`summarybench bench` as whole sessions: what the first pass suspects is measured once more in a fresh process, then decided."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from summarybench.commands import bench as passes
from tests.command import command
from tests.conftest import ROOT, Project, newest_results
from tests.forked import forked_python
from tests.sessions.test_sessions import A_T4, EMBEDDED, FLOOR_OF_NINETY_PERCENT, heed_interrupts, lines_with

SMALL = ("--documents", "8")
SLOW = {"slower": {"4-bit": 2.0}}
ONCE_SLOW = {"slower": {"4-bit": 1.25}}
CONFIRMING = f"once more in a fresh process, before it is decided: {EMBEDDED[2]}"


@pytest.fixture
def stored(project: Project) -> Project:
    """A project with a baseline of all three experiments."""
    project.script({})
    assert project.bench_once("--benchmark-save=main").exit_code == 0
    project.measured_noise()
    return project


def folders(project: Project) -> list[Path]:
    return sorted((project.folder / "results").glob("2*"))


def kinds_in_journal(project: Project) -> list[str]:
    """The kind of each record of the newest run, every line of which can be read."""
    journal = (newest_results(project.folder) / "journal.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["kind"] for line in journal.splitlines()]


def test_slowdown_that_the_second_pass_shows_too_fails_and_both_are_in_the_file(stored):
    stored.script(SLOW)
    session = stored.make_bench()
    assert (session.exit_code, session.left_behind, len(stored.begun)) == (1, "1", 2)
    assert len(lines_with(session, CONFIRMING)) == 1
    first, run = folders(stored)[-2].name, session.run
    assert run["confirms"]["run"] == first
    info = session.infos["4-bit"]
    assert (info["verdict"], info["change"]["passes"], info["change"]["documents"]) == ("REGRESSED", 2, 8)
    pass_before = info["first_pass"]
    assert (pass_before["run"], pass_before["verdict"], pass_before["change"]["passes"]) == (first, "REGRESSED", 1)
    earlier = json.loads((folders(stored)[-2] / "run.json").read_text())["benchmarks"][-1]
    assert pass_before["seconds"] == earlier["stats"]["data"]
    facts = ("document_ids", "generated_tokens", "time_to_first_token_seconds", "controls", "change", "attribution")
    assert {name: pass_before[name] for name in facts} == {name: earlier["extra_info"][name] for name in facts}
    assert "Traceback" not in session.output


def test_everything_else_is_carried_and_each_outcome_is_there_once(stored):
    stored.script(SLOW)
    session = stored.make_bench()
    assert session.outcomes == {EMBEDDED[0]: "passed", EMBEDDED[1]: "passed", EMBEDDED[2]: "failed"}
    first = folders(stored)[-2].name
    assert [info.get("carried_from") for info in session.infos.values()] == [first, first, None]
    assert [session.infos[loader]["first_pass"] for loader in ("default", "8-bit")] == [None, None]
    assert Counter(kinds_in_journal(stored)) == {
        "session": 1,
        "document": 24,
        "experiment": 3,
        "outcome": 3,
        "superseded_document": 8,
        "session_seconds": 1,
    }
    assert f"second pass of {first} (commit unversioned): carried {', '.join(EMBEDDED[:2])}; measured now: " in (
        session.output
    )


def test_slowdown_of_the_first_pass_alone_does_not_fail_and_the_report_says_so(stored):
    stored.script(ONCE_SLOW, {})
    session = stored.make_bench("--benchmark-save=again", "--benchmark-json=copy.json")
    assert (session.exit_code, session.left_behind, len(stored.begun)) == (0, "0", 2)
    info = session.infos["4-bit"]
    assert (info["verdict"], info["first_pass"]["verdict"]) == ("INCONCLUSIVE", "REGRESSED")
    assert info["change"]["ratio"] == pytest.approx(2 / 2.25)
    assert info["first_pass"]["change"]["ratio"] == pytest.approx(1 / 1.25)
    assert (
        "  first pass: REGRESSED 0.800 [0.677, 0.945]; the verdict above pools both passes"
        in session.output.splitlines()
    )
    assert "2 passes" in info["verdict_detail"]
    assert session.outcomes == dict.fromkeys(EMBEDDED, "passed")
    assert [path.name for path in session.stored] == ["0001_main.json", "0002_again.json"]
    assert json.loads((stored.folder / "copy.json").read_text()) == session.run


DISTURBED = {"slower": {"4-bit": 1 / 0.70}, "controls": 1 / 0.70}
UNDISTURBED = {"slower": {"4-bit": 1 / 1.004}}
EACH_MUST_BE_SLOW = "and each must be at most 0.985; measure again to decide"


def test_one_disturbed_pass_does_not_fail_even_where_both_together_are_slow(stored):
    stored.script(DISTURBED, UNDISTURBED)
    session = stored.make_bench()
    info = session.infos["4-bit"]
    assert info["change"]["ratio"] == pytest.approx(2 / (1 / 0.70 + 1 / 1.004))
    assert info["change"]["pass_ratios"] == pytest.approx([0.70, 1.004])
    assert info["change"]["p_value"] < 0.01
    assert (info["first_pass"]["verdict"], info["first_pass"]["attribution"]["cause"]) == ("REGRESSED", "HOST")
    assert (info["verdict"], info["attribution"], session.outcomes[EMBEDDED[2]]) == ("INCONCLUSIVE", None, "passed")
    assert (session.exit_code, session.left_behind, len(stored.begun)) == (0, "0", 2)
    told = f"not REGRESSED: pass 1 alone is 0.700 and pass 2 alone is 1.004, {EACH_MUST_BE_SLOW}"
    assert len(lines_with(session, told)) == 3  # speed, first token and decoding


@pytest.mark.parametrize("script", [(DISTURBED, UNDISTURBED), (UNDISTURBED, DISTURBED)], ids=["first", "second"])
def test_one_disturbed_pass_of_two_that_were_asked_for_does_not_fail(stored, script):
    stored.script(*script)
    session = stored.make_bench("--passes", "2", "-k", EMBEDDED[2])
    assert (session.infos["4-bit"]["verdict"], session.exit_code, len(stored.begun)) == ("INCONCLUSIVE", 0, 2)
    assert len(lines_with(session, EACH_MUST_BE_SLOW)) == 3  # speed, first token and decoding


@pytest.mark.parametrize(("controls", "cause", "expected"), [((1.5, 1.6), "HOST", 11), ((1.5, 1.0), "CODE", 1)])
def test_slowdown_is_the_machine_s_where_its_probes_show_it_in_both_passes(stored, controls, cause, expected):
    stored.script(
        *({"slower": {"4-bit": slower}, "controls": each} for slower, each in zip((1.5, 1.6), controls, strict=True))
    )
    session = stored.make_bench()
    sits = session.infos["4-bit"]["attribution"]
    assert (sits["cause"], session.exit_code) == (cause, expected)
    assert "pass 1 (0.667) copy bandwidth " in sits["detail"]


def test_session_in_which_nothing_regressed_is_one_process(stored):
    stored.script({})
    session = stored.make_bench()
    assert (session.exit_code, len(stored.begun)) == (0, 1)
    assert "confirms" not in session.run


@pytest.mark.parametrize(
    ("script", "options", "expected"),
    [
        ({"fail": {"8-bit": "interrupted"}, "slower": {"default": 2.0}}, (), 2),
        (SLOW, ("--documents", "0"), 4),
        (SLOW, ("--passes", "many"), 4),
        (SLOW, ("--confirm",), 4),
        (SLOW, ("-k", "no-such-experiment"), 5),
        (SLOW, ("-m", "t4"), 12),
    ],
)
def test_session_that_decided_nothing_hands_its_code_on(stored, script, options, expected):
    stored.script({"slower": {"default": 2.0}}, {})
    assert (
        stored.bench("-k", EMBEDDED[0]).exit_code == 1
    )  # a suspect that lies about in results/latest is none of this one's
    stored.script(script)
    session = stored.make_bench(*options)
    assert (session.exit_code, len(stored.begun)) == (expected, 1)
    assert "Traceback" not in session.output
    assert "once more in a fresh process" not in session.output


ANOTHER_RUN_MEANWHILE = """
    import subprocess, sys
    from pathlib import Path

    def pytest_unconfigure():
        if len(Path("begun").read_text().split()) == 1:
            subprocess.run([sys.executable, "-m", "pytest", "benchmarks", "-p", "no:cacheprovider", "-k", "default"])
"""


def test_suspect_is_confirmed_though_another_run_has_moved_latest_between_the_passes(stored):
    stored.script(SLOW, {}, SLOW, conftest=ANOTHER_RUN_MEANWHILE)
    session = stored.make_bench()
    first, _, second = (path.name for path in folders(stored)[-3:])
    assert (session.exit_code, session.left_behind, len(stored.begun)) == (1, "1", 3), session.output
    assert newest_results(session.folder).resolve().name == second
    assert session.run["confirms"]["run"] == session.infos["4-bit"]["first_pass"]["run"] == first
    assert (folders(stored)[-2] / "exit_code").read_text() == "0\n"
    assert len(lines_with(session, CONFIRMING)) == 1


@pytest.mark.parametrize("options", [("--results-dir", "elsewhere"), ("--results-dir=elsewhere",)])
def test_suspect_is_confirmed_in_whichever_results_folder(stored, options):
    stored.script(SLOW)
    session = stored.make_bench(*options)
    assert (session.exit_code, len(stored.begun)) == (1, 2), session.output
    assert len(list((stored.folder / "elsewhere").glob("2*"))) == 2


def test_without_a_temporary_folder_there_is_one_line_and_no_session(capfd, monkeypatch):
    def refuse(**_):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(passes.tempfile, "TemporaryDirectory", refuse)
    monkeypatch.setattr(passes, "run_benchmarks", lambda *_: pytest.fail("a session has begun"))
    assert command("bench")([]) == 4
    assert capfd.readouterr().err.splitlines() == [
        "ERROR: no temporary folder can be used ([Errno 2] No usable temporary directory found in ['/tmp']); "
        "name a writable one in TMPDIR"
    ]


def test_failure_that_is_no_slowdown_is_not_measured_again(stored):
    stored.script({"fail": {"8-bit": "boom"}})
    session = stored.make_bench()
    assert (session.exit_code, len(stored.begun)) == (1, 1)


def test_confirmation_is_not_confirmed_again(stored):
    stored.script(SLOW)
    assert stored.bench().exit_code == 1
    assert stored.make_bench("--confirm", "results/latest").exit_code == 1
    assert len(stored.begun) == 2


@pytest.mark.parametrize("option", [("--resume", "results/latest"), ("--resume=results/latest",)])
def test_suspect_of_a_resumed_run_is_confirmed(stored, option):
    stored.script({"fail": {"8-bit": "interrupted"}}, ONCE_SLOW, {})
    assert stored.bench().exit_code == 2
    session = stored.make_bench(*option)
    assert (session.exit_code, len(stored.begun)) == (0, 3), session.output
    assert session.infos["4-bit"]["first_pass"]["verdict"] == "REGRESSED"


def test_two_passes_measure_what_is_compared_twice_and_save_once_after_the_second(stored):
    stored.script({"slower": {"8-bit": 1.2}})
    session = stored.make_bench("--passes", "2", "--benchmark-save=two")
    assert (session.exit_code, len(stored.begun)) == (0, 2), session.output
    assert {info["change"]["passes"] for info in session.infos.values()} == {2}
    assert {info["first_pass"]["run"] for info in session.infos.values()} == {folders(stored)[-2].name}
    assert len(lines_with(session, "not saved yet: the second pass decides")) == 1
    assert [path.name for path in session.stored] == ["0001_main.json", "0002_two.json"]
    assert json.loads(session.stored[-1].read_text())["confirms"]["run"] == folders(stored)[-2].name


def test_two_passes_together_find_what_neither_does_alone(stored):
    stored.script({"slower": {"8-bit": 1.21}})
    session = stored.make_bench("--passes", "2", "-k", EMBEDDED[1])
    info = session.infos["8-bit"]
    assert (info["first_pass"]["verdict"], info["verdict"]) == ("INCONCLUSIVE", "REGRESSED")
    # Three comparisons need p < 0.0033: what one pass does not show at 1% is not beyond chance in two.
    assert "; not failed: p 0.0048, and of 3 comparisons" in info["verdict_detail"]
    assert (session.exit_code, session.left_behind) == (0, "0")


def test_two_passes_without_a_baseline_are_one_that_is_saved(project):
    project.script({})
    session = project.make_bench("--passes", "2", "--benchmark-save=main")
    assert (session.exit_code, len(project.begun), len(session.stored)) == (0, 1, 1)


@pytest.mark.parametrize(("script", "expected", "of_make"), [((SLOW,), "1", 2), ((ONCE_SLOW, {}), "0", 0)])
def test_night_leaves_the_code_and_the_run_of_its_second_pass(stored, script, expected, of_make):
    stored.script(*script)
    command = ["make", "-f", str(ROOT / "Makefile"), "nightly", f"PY={forked_python()}", "INSTALLED=pytest.ini"]
    environment = {**stored.environment, "MAKEFLAGS": "", "FAMILY": "cpu"}
    made = subprocess.run(
        [*command, "--assume-old=pytest.ini"], cwd=stored.folder, env=environment, capture_output=True, check=False
    )
    latest = newest_results(stored.folder)
    assert (made.returncode, (latest / "exit_code").read_text()) == (of_make, f"{expected}\n"), made.stdout
    assert (stored.folder / "results" / "nightly-cpu.json").read_text() == (latest / "run.json").read_text()
    assert json.loads((latest / "run.json").read_text())["benchmarks"][-1]["extra_info"]["first_pass"]


# Signals ------------------------------------------------------------------------------------------------------------


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def signalled(project: Project, what: signal.Signals, *, to_all: bool) -> tuple[int, str]:
    """`summarybench bench` that gets a signal when a model has fallen asleep: as from a terminal to all processes, or alone."""
    driver = subprocess.Popen(
        project.passes_command(),
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + 60
    while not (project.folder / "asleep").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    (os.killpg if to_all else os.kill)(driver.pid, what)
    try:
        output, _ = driver.communicate(timeout=30)
    finally:
        for left in project.begun:
            if is_running(left):
                os.kill(left, signal.SIGKILL)
                pytest.fail(f"process {left} was left behind, measuring")
    return driver.returncode, output


@pytest.mark.parametrize("script", [({"asleep": "8-bit"},), (SLOW, {"asleep": "4-bit"})], ids=["first", "second"])
def test_ctrl_c_in_either_pass_ends_both_processes_with_2_and_keeps_what_was_finished(stored, script):
    stored.script(*script)
    exit_code, output = signalled(stored, signal.SIGINT, to_all=True)
    assert (exit_code, len(stored.begun)) == (2, len(script))
    assert "Traceback" not in output
    assert (newest_results(stored.folder) / "exit_code").read_text() == "2\n"
    run = json.loads((newest_results(stored.folder) / "run.json").read_text())
    assert len(run["benchmarks"]) == len(script)
    assert {each["outcome"] for each in run["outcomes"]} == {"passed", "failed"}
    assert Counter(kinds_in_journal(stored))["document"] == len(run["benchmarks"]) * 8 + 2


@pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_signal_for_the_driver_alone_ends_the_session_that_it_began(stored, what):
    stored.script({"asleep": "8-bit"})
    exit_code, output = signalled(stored, what, to_all=False)
    expected = {signal.SIGINT: 2, signal.SIGKILL: -signal.SIGKILL}.get(what, 128 + what)
    assert (exit_code, len(stored.begun)) == (expected, 1)
    assert "Traceback" not in output
    latest = newest_results(stored.folder)
    run = json.loads((latest / "run.json").read_text())
    assert [each["extra_info"]["experiment"] for each in run["benchmarks"]] == [EMBEDDED[0]]
    assert [each["outcome"] for each in run["outcomes"]] == ["passed", "failed", "failed"]
    assert (latest / "exit_code").read_text() == "2\n"


def test_session_ends_with_make_even_if_that_is_killed(stored):
    stored.script({"asleep": "8-bit"})
    command = ["make", "-f", str(ROOT / "Makefile"), "bench", f"PY={sys.executable}", "INSTALLED=pytest.ini"]
    made = subprocess.Popen(
        [*command, "--assume-old=pytest.ini", "ARGS=-p no:cacheprovider"],
        cwd=stored.folder,
        env={**stored.environment, "MAKEFLAGS": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (stored.folder / "asleep").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    made.kill()
    made.wait()
    latest = newest_results(stored.folder)
    while not (latest / "exit_code").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (latest / "exit_code").read_text() == "2\n"
    assert len(stored.begun) == 1


@pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_second_pass_begins_after_a_signal_that_the_first_one_outlived(monkeypatch, capfd, tmp_path, what):
    class Finished:
        """A session that has found a regression and ended when the signal comes."""

        def __init__(self, command, env, preexec_fn):
            begun.append(command)

        def wait(self):
            signal.raise_signal(what)
            return 1

        def send_signal(self, number):
            handed_on.append(number)

    begun, handed_on = [], []
    monkeypatch.setattr(passes.subprocess, "Popen", Finished)
    monkeypatch.setattr(passes, "suspects", lambda run, every: ["a regression"])
    kept = signal.getsignal(what)
    try:
        assert ended_with(command("bench"), ["--results-dir", str(tmp_path)]) == (
            2 if what is signal.SIGINT else 128 + what
        )
    finally:
        assert signal.getsignal(what) is kept
    assert len(begun) == 1
    assert handed_on == [what]


def test_ignored_hangup_is_ignored_by_both(monkeypatch):
    """As under nohup."""
    ignored = []

    class Session:
        def __init__(self, command, env, preexec_fn):
            ignored.append(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)

        def wait(self):
            return 0

    monkeypatch.setattr(passes.subprocess, "Popen", Session)
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert passes.run_benchmarks([]) == 0
    finally:
        signal.signal(signal.SIGHUP, kept)
    assert ignored == [True]


def ended_with(main, arguments):
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code


def test_ctrl_c_between_the_passes_is_no_traceback(capfd, monkeypatch, tmp_path):
    def interrupted_reading(path):
        raise KeyboardInterrupt

    def first_pass(arguments, folder_file):
        folder_file.write_text(f"{tmp_path}/a-run\n")
        return 1

    monkeypatch.setattr(passes, "run_benchmarks", first_pass)
    monkeypatch.setattr(passes, "read_run", interrupted_reading)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("SUMMARYBENCH_STARTED_BY", raising=False)
    assert command("bench")(["-k", "a or b"]) == 2
    again = f"{sys.executable} -m summarybench bench -k 'a or b' --confirm {tmp_path}/a-run"
    assert capfd.readouterr().err == f"interrupted before the second pass; measure it with: {again}\n"


# By hand ------------------------------------------------------------------------------------------------------------


def test_other_settings_are_refused_by_name(stored, one_error_line):
    stored.script(SLOW)
    stored.bench()
    first = folders(stored)[-1].name
    session = stored.bench("--confirm", "results/latest", "--documents", "9")
    assert session.exit_code == 4
    assert one_error_line(session) == (
        f"ERROR: {first} was measured with other settings: --documents 9 here, 8 there; make them equal or measure anew"
    )
    assert folders(stored)[-1].name == first


def test_another_environment_is_refused_by_name(stored, one_error_line):
    stored.script(SLOW)
    stored.bench()
    stored.script(
        {}, conftest="\n    from summarybench.machine import environment\n    environment.usable_cpus = lambda: 512\n"
    )
    session = stored.bench("--confirm", "results/latest")
    assert session.exit_code == 4
    assert f"{folders(stored)[-1].name} was measured with other environment: cpu_count 512 here, " in one_error_line(
        session
    )


def test_resuming_and_confirming_at_once_is_refused(stored, one_error_line):
    session = stored.bench("--confirm", "results/latest", "--resume", "results/latest")
    assert session.exit_code == 4
    assert one_error_line(session) == "ERROR: --resume and --confirm each go on from a run; give one of them"


@pytest.mark.parametrize(
    ("script", "conftest", "expected"),
    [
        ({}, "", 0),
        ({"fail": {"8-bit": "boom"}}, "", 1),
        ({}, FLOOR_OF_NINETY_PERCENT, 10),
        ({"unavailable": ["8-bit"]}, "", 11),
    ],
)
def test_run_without_suspects_is_carried_whole_and_its_exit_code_stands(stored, script, conftest, expected):
    stored.script(script, conftest=conftest)
    first = stored.bench()
    stored.script({"slower": dict.fromkeys(("default", "8-bit", "4-bit"), 2.0)})
    session = stored.bench("--confirm", "results/latest")
    assert (first.exit_code, session.exit_code, session.left_behind) == (expected, expected, str(expected))
    assert all("carried_from" in each for each in session.run["outcomes"])
    assert [each["stats"] for each in session.run["benchmarks"]] == [each["stats"] for each in first.run["benchmarks"]]
    assert "measured now: nothing (everything was finished already)" in session.output


# Holm ---------------------------------------------------------------------------------------------------------------

FIVE = ("-m", "t4", "-k", "8-bit or 4-bit or (llama2 and fp16)", "--document-source", "embedded")
BETWEEN_LEVELS = ({"fp16": 1.2355}, {"fp16": 1.2355})
"""At a noise of 6%, p of the first pass is 0.006, and of both together 0.002: above 1% ÷ 15, below 1% ÷ 3. Speed, first token
and decoding of five experiments are fifteen comparisons."""


@pytest.fixture
def five(project: Project) -> Project:
    """A project with a baseline of five experiments of a T4."""
    project.script({}, conftest=A_T4)
    session = project.bench_once(*FIVE, "--benchmark-save=main")
    assert (session.exit_code, len(session.run["benchmarks"])) == (0, 5), session.output
    project.measured_noise()
    return project


SUSPECT = "llama2-7b-chat-fp16"


def test_suspect_that_five_comparisons_may_show_by_chance_does_not_fail_and_says_so(five):
    five.script(*({"slower": slower} for slower in BETWEEN_LEVELS), conftest=A_T4)
    session = five.make_bench(*FIVE)
    info = session.by_experiment[SUSPECT]
    assert (session.exit_code, session.left_behind, session.outcomes[SUSPECT]) == (0, "0", "passed")
    assert (info["verdict"], info["first_pass"]["verdict"]) == ("REGRESSED", "REGRESSED")
    assert 0.01 / 15 < info["change"]["p_value"] < 0.01 / 3
    told = "not failed: p 0.002, and of 15 comparisons only below 0.00067 keeps the session's false alarms at 1% (Holm)"
    assert len(lines_with(session, told)) == 3  # speed, first token and decoding
    assert "false alarms: at most 1% of sessions (Holm, 15 comparisons)" in session.output.splitlines()


@pytest.mark.parametrize(("controls", "expected"), [(1.0, 1), (1.2, 11)])
def test_held_suspect_fails_once_holm_rejects_the_others(five, controls, expected):
    others = {"8-bit": 2.0 * controls, "4-bit": 2.0 * controls} if expected == 1 else {"8-bit": 1.35, "4-bit": 1.35}
    five.script(*({"slower": {**others, **slower}, "controls": controls} for slower in BETWEEN_LEVELS), conftest=A_T4)
    session = five.make_bench(*FIVE)
    (outcome,) = (each for each in session.run["outcomes"] if each["experiment"] == SUSPECT)
    assert (outcome["outcome"], outcome["machine_only"]) == ("failed", expected == 11)
    assert (session.exit_code, session.left_behind) == (expected, str(expected))
    assert f"{SUSPECT}: failed: REGRESSED: confirmed once all comparisons of the session were in (Holm)" in (
        session.output
    )
    assert "4 failed, " in session.output


@pytest.mark.parametrize(("controls", "expected"), [(1.0, 1), (1.2, 10)])
def test_held_suspect_that_lost_quality_too_fails_for_what_counts_more(five, controls, expected):
    others = {"8-bit": 1.35, "4-bit": 1.35}
    five.script(
        *({"slower": {**others, **slower}, "controls": controls, "worthless": ["fp16"]} for slower in BETWEEN_LEVELS),
        conftest=A_T4,
    )
    session = five.make_bench(*FIVE)
    (outcome,) = (each for each in session.run["outcomes"] if each["experiment"] == SUSPECT)
    assert outcome["outcome"] == "failed"
    assert "quality INFERIOR" in outcome["detail"]
    assert outcome["quality_only"] == (expected == 10)
