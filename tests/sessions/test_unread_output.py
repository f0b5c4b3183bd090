"""A session whose output nobody reads any more, as in `pytest benchmarks | head`, ends without a traceback."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import FAKE_MODELS, newest_results
from tests.forked import forked_python
from tests.sessions.test_sessions import EMBEDDED

WAITING = """
    from pathlib import Path
    from time import sleep

    def wait_for_reader():
        while not Path("has-left").exists():
            sleep(0.01)
"""
WHILE_THE_SECOND_IS_LOADED = (
    FAKE_MODELS.replace(
        "lambda experiment: FakeModel",
        "lambda experiment: (experiment.loader == 'default' or wait_for_reader()) and None or FakeModel",
    )
    + WAITING
)
WHILE_RESULTS_ARE_WRITTEN = (
    FAKE_MODELS
    + WAITING
    + """
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish():
        print("all are measured", flush=True)
        wait_for_reader()
"""
)


def left_after(project, words, *, with_errors=False):
    """The session's exit code and standard error; its reader leaves after the line with these words."""
    process = subprocess.Popen(
        [forked_python(), *project.command("--documents", "8", "--benchmark-save=main")[1:]],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if with_errors else subprocess.PIPE,
        text=True,
    )
    try:
        assert any(words in line for line in process.stdout)
        process.stdout.close()
        (project.folder / "has-left").touch()
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, errors or ""


@pytest.mark.parametrize("with_errors", [False, True], ids=["output", "output-and-errors"])
def test_reader_who_leaves_early_interrupts_the_session(project, with_errors):
    project.use(WHILE_THE_SECOND_IS_LOADED)
    code, errors = left_after(project, f"{EMBEDDED[0]}: passed", with_errors=with_errors)
    assert (code, errors) == (2, "" if with_errors else "Exit: nobody reads the output any more\n")
    folder = newest_results(project.folder)
    assert (folder / "exit_code").read_text() == "2\n"
    assert "Traceback" not in (folder / "report.md").read_text()
    session = project.bench("--documents", "8", "--resume", str(folder))
    assert (session.exit_code, set(session.outcomes.values())) == (0, {"passed"}), session.output


def test_reader_who_leaves_at_the_end_changes_no_exit_code(project):
    project.use(WHILE_RESULTS_ARE_WRITTEN)
    assert left_after(project, "all are measured") == (0, "")
    assert (newest_results(project.folder) / "exit_code").read_text() == "0\n"
    assert len(list((project.folder / "baselines").glob("*/*.json"))) == 1
