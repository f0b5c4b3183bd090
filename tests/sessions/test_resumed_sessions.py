"""Whole sessions that were cut short and are resumed: what is carried, what is measured again, what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from summarybench.documents.document import DocumentSource
from summarybench.session.config import resolve
from tests.conftest import FAKE_MODELS, ROOT, Project, Session, newest_results
from tests.kill_at_random import DEVICE, UNRESOLVED, settings_in
from tests.sessions.test_sessions import EMBEDDED, SLOWER_MODELS, failing, finished_documents, interrupted

SMALL = ("--documents", "2")


def failing_by_loader(**errors: str) -> str:
    """Fake models that fail in their first timed round: 'eight_bit', say, is the 8-bit loader's error."""
    names = {"default": "default", "eight_bit": "8-bit", "four_bit": "4-bit"}
    cases = "".join(f"{names[loader]!r}: {{2: {error}}}, " for loader, error in errors.items())
    return (
        FAKE_MODELS
        + f"""
    from summarybench.core.outcomes import DeviceInvalidError, InputError

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: FakeModel(experiment, TIME, fail={{{cases}}}.get(experiment.loader))
"""
    )


@pytest.fixture
def killed(project: Project) -> Project:
    """A project with a session that was killed in the third document of its second experiment."""
    assert interrupted(project, signal.SIGKILL)[0] == -signal.SIGKILL
    project.use(FAKE_MODELS)
    return project


def name_of_latest(project: Project) -> str:
    return newest_results(project.folder).name


def journal_of_latest(project: Project) -> list[dict[str, object]]:
    text = (newest_results(project.folder) / "journal.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def documents_table(project: Project) -> list[dict[str, object]]:
    from pyarrow import parquet

    return parquet.read_table(newest_results(project.folder) / "documents.parquet").to_pylist()


def carried(session: Session) -> list[str]:
    return [each["experiment"] for each in session.run["outcomes"] if "carried_from" in each]


def test_resuming_a_killed_run_measures_only_what_was_not_finished(killed):
    earlier = name_of_latest(killed)
    session = killed.bench("--resume", "results/latest", "--benchmark-save=main")
    assert session.exit_code == 0
    assert session.outcomes == dict.fromkeys(EMBEDDED, "passed")
    assert carried(session) == [EMBEDDED[0]]
    assert [info.get("carried_from") for info in session.infos.values()] == [earlier, None, None]
    assert session.run["resumed_from"]["run"] == earlier
    assert re.search(r"2 passed, \d+ deselected, 1 carried", session.output)
    assert f"resumed from {earlier} (commit unversioned): carried {EMBEDDED[0]}; measured now: " in session.output
    assert [path.name for path in session.stored] == ["0001_main.json"]


def test_documents_of_the_interrupted_attempt_stay_in_the_journal_apart_from_the_new_ones(killed):
    killed.bench("--resume", "results/latest")
    assert finished_documents(killed) == [experiment for experiment in EMBEDDED for _ in range(8)]
    superseded = [each for each in journal_of_latest(killed) if each["kind"] == "superseded_document"]
    assert [each["experiment"] for each in superseded] == [EMBEDDED[1]] * 2


def test_carried_tests_are_not_run_again(project):
    before = project.bench_once(*SMALL)
    run, table_of_documents = before.run, documents_table(project)
    project.use(SLOWER_MODELS)
    session = project.bench(*SMALL, "--resume", "results/latest")
    assert session.exit_code == 0
    assert [each["stats"] for each in session.run["benchmarks"]] == [each["stats"] for each in run["benchmarks"]]
    assert documents_table(project) == table_of_documents
    assert "3 carried" in session.output
    assert "measured now: nothing (everything was finished already)" in session.output


def test_a_carried_failure_fails_the_session_again(project):
    project.use(failing(2, 'ValueError("boom")'))
    assert project.bench_once(*SMALL).exit_code == 1
    project.use(FAKE_MODELS)
    session = project.bench(*SMALL, "--resume", "results/latest", "--benchmark-save=main")
    assert session.exit_code == 1
    assert session.outcomes[EMBEDDED[0]] == "failed"
    assert "carried from an earlier run: ValueError: boom" in session.output
    assert "1 failed" in session.output
    assert "2 carried" in session.output
    assert session.stored == []


def test_invalid_and_what_could_not_be_written_are_measured_again(project):
    project.use(failing_by_loader(default="DeviceInvalidError('throttled')", eight_bit="InputError('disk full')"))
    assert project.bench(*SMALL).exit_code == 1
    project.use(FAKE_MODELS)
    session = project.bench(*SMALL, "--resume", "results/latest")
    assert session.exit_code == 0
    assert carried(session) == [EMBEDDED[2]]


def test_what_a_lost_gpu_left_out_is_measured_again(project):
    project.use(failing_by_loader(eight_bit="RuntimeError('CUDA error: unspecified launch failure')"))
    assert project.bench(*SMALL).outcomes == dict(zip(EMBEDDED, ("passed", "invalid", "skipped"), strict=True))
    project.use(FAKE_MODELS)
    session = project.bench(*SMALL, "--resume", "results/latest")
    assert session.outcomes == dict.fromkeys(EMBEDDED, "passed")
    assert carried(session) == [EMBEDDED[0]]


def test_an_interrupted_run_is_resumed_and_resumed_again(project):
    interrupted(project, signal.SIGINT)
    first = name_of_latest(project)
    project.use(failing_by_loader(four_bit="KeyboardInterrupt()"))
    assert project.bench("--resume", "results/latest").exit_code == 2
    second = name_of_latest(project)
    project.use(FAKE_MODELS)
    third = project.bench("--resume", f"results/{second}/run.json")
    assert third.exit_code == 0
    assert [each.get("carried_from") for each in third.run["outcomes"]] == [first, second, None]


def test_a_cut_off_last_line_is_dropped_counted_and_said(killed):
    path = newest_results(killed.folder) / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    session = killed.bench("--resume", "results/latest")
    assert session.exit_code == 0
    assert session.run["dropped_lines"] == 1
    assert "journal: dropped 1 line that a crash had cut off" in session.output


def test_only_what_is_selected_is_carried(project):
    project.bench_once(*SMALL)
    session = project.bench(*SMALL, "--resume", "results/latest", "-k", "smollm2 and 4-bit")
    assert session.outcomes == {EMBEDDED[2]: "passed"}
    assert carried(session) == [EMBEDDED[2]]


def test_experiments_that_were_not_asked_for_before_are_measured(project):
    project.bench_once(*SMALL, "-k", "smollm2 and 4-bit")
    session = project.bench(*SMALL, "--resume", "results/latest")
    assert session.outcomes == dict.fromkeys(EMBEDDED, "passed")
    assert carried(session) == [EMBEDDED[2]]


def test_finished_tests_come_first_so_that_no_module_or_model_waits_for_one_of_them(project):
    """Pytest tears a module down for the test that comes next, and one that is carried is never set up."""
    missing = """
    import gc
    import weakref
    from pathlib import Path
    from fixtures import model_release
    from summarybench.core.outcomes import UnavailableError

    LOADED = weakref.WeakSet()

    class Missing(FakeModel):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            LOADED.add(self)

        def prepare(self, prompts):
            if len(prompts) == 1 and Path("missing").exists():
                raise UnavailableError("the hub was not there")
            return super().prepare(prompts)

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: Missing(experiment, TIME)

    def score(session):
        gc.collect()
        print("loaded while summaries are scored:", len(LOADED))

    model_release.score_summaries = score
"""
    project.use(FAKE_MODELS + missing)
    two_modules = (
        "-m",
        "cpu and (batching or embedded)",
        "-k",
        "default and (batch1 or batch2 or test_summarize)",
        "-s",
    )
    (project.folder / "missing").touch()
    assert set(project.bench(*two_modules, *SMALL).outcomes.values()) == {"unavailable", "passed"}
    (project.folder / "missing").unlink()
    session = project.bench(*two_modules, *SMALL, "--resume", "results/latest")
    assert session.exit_code == 0, session.output
    assert set(session.outcomes.values()) == {"passed"}
    assert len(carried(session)) == 1
    assert "loaded while summaries are scored: 0" in session.output


def test_other_settings_are_refused_by_name_and_leave_no_folder(project, one_error_line):
    project.bench_once(*SMALL, "-k", "smollm2 and 4-bit")
    earlier = name_of_latest(project)
    session = project.bench("--documents", "3", "--seed", "1", "--resume", "results/latest")
    assert session.exit_code == 4
    assert one_error_line(session) == (
        f"ERROR: {earlier} was measured with other settings: --documents 3 here, 2 there; --seed 1 here, 0 there; "
        "make them equal or measure anew"
    )
    assert [path.name for path in (project.folder / "results").glob("2*")] == [earlier]


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"documents": 9}, "documents"),
        ({"seed": 1}, "seed"),
        ({"max_new_tokens": 32}, "max_new_tokens"),
        ({"max_prompt_tokens": 512}, "max_prompt_tokens"),
        ({"document_source": DocumentSource.EMBEDDED}, "document_source"),
        ({"documents_file": Path(__file__)}, "documents_file_sha256"),
        ({"synthetic_weights": True}, "weights"),
        ({"gpu_family": "t4"}, "gpu_family"),
        ({"memory_limit_gib": 4.0}, "memory_limit_gib"),
        ({"predict_memory": False}, "predict_memory"),
    ],
)
def test_every_setting_that_shapes_the_work_is_recorded(tmp_path, changed, key):
    settings = settings_in(tmp_path, resume=None, save_as=None)
    before = resolve(settings, UNRESOLVED, DEVICE).conditions()
    options = {name: value for name, value in changed.items() if hasattr(UNRESOLVED, name)}
    others = {name: value for name, value in changed.items() if name not in options}
    now = resolve(replace(settings, **others), replace(UNRESOLVED, **options), DEVICE).conditions()
    assert {name for name, value in before.items() if value != now[name]} == {key}
    assert json.loads(json.dumps(now)) == now


def test_defaults_and_the_same_values_given_are_one_workload(tmp_path):
    given = settings_in(tmp_path, resume=None, save_as=None)
    default = replace(given, tolerance=0.1, require_baseline=True)
    options = replace(UNRESOLVED, documents=None, max_new_tokens=48)
    assert resolve(default, options, DEVICE).conditions() == resolve(given, UNRESOLVED, DEVICE).conditions()


def test_files_and_folders_count_by_their_content(tmp_path, tiny_llama):
    settings = settings_in(tmp_path, resume=None, save_as=None)
    copy = shutil.copytree(tiny_llama, tmp_path / "copy")
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("the same")
    first, second = (
        resolve(
            replace(settings, documents_file=file, model_paths={"smollm2-135m-instruct": folder}), UNRESOLVED, DEVICE
        ).conditions()
        for file, folder in ((tmp_path / "a.jsonl", tiny_llama), (tmp_path / "b.jsonl", copy))
    )
    assert first == second
    assert str(tmp_path) not in json.dumps(first)


def test_a_baseline_is_not_a_run_to_resume(project, one_error_line):
    stored = project.bench_once(*SMALL, "--benchmark-save=main").stored[0]
    assert "0001_main.json is not a run; give a results folder" in one_error_line(
        project.bench(*SMALL, "--resume", str(stored))
    )


def test_the_second_of_two_sessions_at_once_is_warned_and_has_its_own_folder(project, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    project.use(
        FAKE_MODELS
        + """
    import time
    from pathlib import Path

    @pytest.fixture(scope="session")
    def load_model():
        Path("measuring").touch()
        while not Path("go on").exists():
            time.sleep(0.05)
        return lambda experiment: FakeModel(experiment, TIME)
    """
    )
    first = project.start(*SMALL, env={**project.environment, **cache}, stdout=subprocess.PIPE)
    while first.poll() is None and not (project.folder / "measuring").exists():
        time.sleep(0.05)
    name = name_of_latest(project)
    project.use(FAKE_MODELS)
    second = project.bench(*SMALL, **cache)
    (project.folder / "go on").touch()
    output, _ = first.communicate(timeout=60)
    warning = f"warning: another session (process {first.forked_id}, {project.folder}/results/{name}) is measuring on this CPU: "
    assert [line.startswith(warning) for line in second.output.splitlines()].count(True) == 1
    assert "warning: another" not in output
    assert (first.returncode, second.exit_code) == (0, 0)
    assert len(list((project.folder / "results").glob("2*"))) == 2


def test_a_session_whose_cache_cannot_be_written_runs(project):
    (project.folder / "file").touch()
    assert project.bench(*SMALL, "-k", "smollm2 and 4-bit", XDG_CACHE_HOME=str(project.folder / "file")).exit_code == 0


@pytest.mark.slow
def test_nothing_that_was_reported_is_lost_by_random_kills():
    kills, whole_sessions = os.environ.get("SUMMARYBENCH_TEST_KILLS", "24"), "4"
    command = [sys.executable, "-m", "tests.kill_at_random", "--kills", kills, "--whole-sessions", whole_sessions]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
