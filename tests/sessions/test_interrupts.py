"""Signals end a session; nothing that was finished is lost, and no report or exit code calls a run whole that was cut short."""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from summarybench.core.interrupts import (
    LONGEST_CLOSING_SECONDS,
    QUICK_SUCCESSION_SECONDS,
    SIGNALS,
    Interrupts,
    SessionTerminated,
)
from summarybench.core.outcomes import NOT_RUN
from summarybench.session.progress import Progress
from tests.conftest import FAKE_MODELS, Project, Session, make_project, newest_results
from tests.kill_at_random import SLOW_AND_TELLING, lines_of
from tests.sessions.test_sessions import EMBEDDED, SLEEPING_SECOND_MODEL, failing, finished_documents, heed_interrupts

INTERRUPTED = failing(3, "KeyboardInterrupt()").replace("== 'default'", "== '8-bit'")
"""The second of three experiments is interrupted in its second document."""


# Handling signals ----------------------------------------------------------------------------------------------------


@pytest.fixture
def interrupts():
    """Handlers with a clock at `interrupts.seconds`, and what ended at once."""

    class OnAFakeClock(Interrupts):
        def __init__(self) -> None:
            self.seconds = 0.0
            self.ended: list[int] = []
            super().__init__(now=lambda: self.seconds, end_at_once=self.ended.append)

    kept = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    made = OnAFakeClock()
    made.install()
    yield made
    made.restore()
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SessionTerminated), (signal.SIGHUP, SessionTerminated)],
)
def test_first_signal_is_raised_and_noted(interrupts, number, raised):
    with pytest.raises(KeyboardInterrupt) as found:
        signal.raise_signal(number)
    assert found.type is raised
    assert interrupts.received is number


def test_second_signal_in_quick_succession_is_not_raised_and_a_later_one_is(interrupts):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    interrupts.seconds += QUICK_SUCCESSION_SECONDS  # a library may have swallowed the first one
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_no_signal_interrupts_the_closing(interrupts, number):
    interrupts.hold()
    signal.raise_signal(number)
    interrupts.seconds += QUICK_SUCCESSION_SECONDS
    signal.raise_signal(number)
    assert interrupts.received is number
    assert interrupts.ended == []


def test_ctrl_c_ends_a_closing_that_hangs(interrupts):
    interrupts.hold()
    interrupts.seconds += LONGEST_CLOSING_SECONDS
    signal.raise_signal(signal.SIGINT)
    assert interrupts.ended == []
    interrupts.seconds += 1
    interrupts.hold()  # a second stage of the closing starts no new patience
    signal.raise_signal(signal.SIGTERM)
    assert interrupts.ended == []
    signal.raise_signal(signal.SIGINT)
    assert interrupts.ended == [signal.SIGINT]


def test_ignored_signal_stays_ignored(interrupts):
    interrupts.restore()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    interrupts.install()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    interrupts.restore()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# Interrupts in chosen places -----------------------------------------------------------------------------------------


def check_cut_short(session: Session, *, finished: Sequence[str] = ()) -> None:
    """Every trace of the session says that it was cut short, and what it finished is there."""
    folder = newest_results(session.folder)
    assert session.exit_code != 0
    assert session.left_behind != "0"
    by_experiment = {each["experiment"]: each for each in session.run["outcomes"]}
    assert by_experiment.keys() == set(EMBEDDED)
    for name, each in by_experiment.items():
        expected = ("passed", "", True) if name in finished else ("failed", NOT_RUN, False)
        assert (each["outcome"], each["detail"], each["is_final"]) == expected
    assert NOT_RUN in session.output
    assert "to make this run the baseline" not in session.output
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "Clean" not in page
    assert NOT_RUN in page
    assert session.stored == []


SECOND_INTERRUPT = {
    "before-pytest-notes-the-first": """
    def pytest_keyboard_interrupt(excinfo):
        raise KeyboardInterrupt
""",
    "before-the-results-are-written": """
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish():
        raise KeyboardInterrupt
""",
    "in-a-wrapper-before-the-results-are-written": """
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish():
        raise KeyboardInterrupt
        yield
""",
    "after-the-results-are-written": """
    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish():
        yield
        raise KeyboardInterrupt
""",
    "when-a-session-fixture-is-torn-down": """
    @pytest.fixture(scope="session", autouse=True)
    def interrupted():
        yield
        raise KeyboardInterrupt
""",
    "in-the-terminal-summary": """
    def pytest_terminal_summary():
        raise KeyboardInterrupt
""",
}


@pytest.mark.parametrize("place", SECOND_INTERRUPT)
def test_second_interrupt_leaves_a_run_that_was_cut_short(project, place):
    project.use(INTERRUPTED + SECOND_INTERRUPT[place])
    session = project.bench("--benchmark-save=main")
    check_cut_short(session, finished=EMBEDDED[:1])
    assert finished_documents(project) == [EMBEDDED[0]] * 8 + [EMBEDDED[1]]


@pytest.mark.parametrize("place", ["write_documents", "journal.append", "write_run"])
def test_interrupt_while_results_are_written_leaves_no_clean_run(project, place):
    """One that no signal makes: signals wait until all is written."""
    raising = f"""
    from summarybench.session.closing import Closing

    def interrupted(*arguments):
        raise KeyboardInterrupt

    def armed(write):
        def wrapped(self, **named):
            self._results.{place} = interrupted
            return write(self, **named)

        return wrapped

    Closing.write_results, Closing.write_pages = armed(Closing.write_results), armed(Closing.write_pages)
"""
    project.use(INTERRUPTED + raising)
    session = project.bench()
    assert session.exit_code != 0
    assert session.left_behind == "2"
    assert [each["detail"] for each in session.run["outcomes"]] == ["", NOT_RUN, NOT_RUN]
    assert NOT_RUN in session.output


def test_death_while_pages_are_drawn_loses_neither_baseline_nor_exit_code_nor_summary(project):
    dying = """
    import os
    from summarybench.session.closing import Closing

    Closing.write_pages = lambda self: os._exit(9)
"""
    project.use(FAKE_MODELS + dying)
    session = project.bench("--benchmark-save=main", "-k", "smollm2")
    assert session.exit_code == 9
    assert [path.name for path in session.stored] == ["0001_main.json"]
    assert session.left_behind == "0"
    latest = project.folder / "results" / "latest"
    assert latest.resolve() == newest_results(project.folder)
    assert (latest / "report.md").read_text(encoding="utf-8").startswith("## Clean")


def test_session_that_measured_nothing_does_not_become_the_latest(project):
    project.bench("-k", "smollm2 and 4-bit")
    first = newest_results(project.folder)
    project.use(failing(1, 'ValueError("boom")'))
    assert project.bench("-k", "smollm2 and default").exit_code == 1
    assert newest_results(project.folder) != first
    assert (project.folder / "results" / "latest").resolve() == first


LAST_RECORD = """
    from summarybench.runs.journal import Journal

    APPEND = Journal.append

    def append(self, kind, fields):
        is_last = kind == "outcome" and fields["experiment"].endswith("4-bit")
        {before}
        APPEND(self, kind, fields)
        {after}

    Journal.append = append
"""
RAISE = "if is_last: raise KeyboardInterrupt"


def test_interrupt_before_the_last_outcome_is_noted_leaves_it_unfinished(project):
    project.use(FAKE_MODELS + LAST_RECORD.format(before=RAISE, after=""))
    session = project.bench("--benchmark-save=main")
    check_cut_short(session, finished=EMBEDDED[:2])


def test_interrupt_after_the_last_outcome_is_noted_leaves_a_whole_run_that_was_interrupted(project):
    project.use(FAKE_MODELS + LAST_RECORD.format(before="", after=RAISE))
    session = project.bench("--benchmark-save=main")
    assert (session.exit_code, session.left_behind) == (2, "2")
    assert session.outcomes == dict.fromkeys(EMBEDDED, "passed")
    assert session.stored == []
    assert "Clean" not in (newest_results(session.folder) / "report.md").read_text(encoding="utf-8")


def test_plugin_that_ends_the_session_with_code_0_does_not_make_it_clean(project):
    leaving = """
    def pytest_runtest_logfinish(nodeid):
        if "8-bit" in nodeid:
            pytest.exit("enough", returncode=0)
"""
    project.use(FAKE_MODELS + leaving)
    check_cut_short(project.bench(), finished=EMBEDDED[:2])


def test_fail_fast_leaves_a_failed_run_that_was_cut_short(project):
    project.use(failing(3, 'ValueError("boom")'))
    session = project.bench("-x")
    assert (session.exit_code, session.left_behind) == (1, "1")
    assert [each["detail"] for each in session.run["outcomes"]] == ["ValueError: boom", NOT_RUN, NOT_RUN]


def test_run_is_cut_short_from_its_first_moment_until_its_last_test_has_ended(project):
    watched = """
    import json, shutil
    from pathlib import Path

    def pytest_runtest_logstart(nodeid):
        (folder,) = Path("results").glob("2*")
        shutil.copy(folder / "run.json", nodeid.partition("[")[2].strip("]") + ".json")
        assert not (folder / "exit_code").exists()
"""
    project.use(FAKE_MODELS + watched)
    assert project.bench().exit_code == 0
    for count, name in enumerate(EMBEDDED):
        run = json.loads((project.folder / f"{name}.json").read_text(encoding="utf-8"))
        expected = ["passed"] * count + ["failed"] * (3 - count)
        assert [each["outcome"] for each in run["outcomes"]] == expected
        assert [each["detail"] for each in run["outcomes"]] == [""] * count + [NOT_RUN] * (3 - count)
        assert "selected" not in run


def test_page_of_a_run_that_was_interrupted_twice_says_so(project):
    project.use(INTERRUPTED.replace("    leave_out_pages()\n", "") + SECOND_INTERRUPT["before-pytest-notes-the-first"])
    session = project.bench()
    page = (newest_results(session.folder) / "report.html").read_text(encoding="utf-8")
    assert page.count(NOT_RUN) >= 1


# Signals to real processes -------------------------------------------------------------------------------------------

SLOW_CLOSING = """
    from summarybench.runs.run_folder import Results

    WRITE = Results.write_documents

    def write_documents(self, documents):
        Path("closing").touch()
        time.sleep(2)
        WRITE(self, documents)

    Results.write_documents = write_documents
"""


def wait_for(path: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, f"ended with {process.returncode} before it reached {path.name}"
        assert time.monotonic() < deadline, f"{path.name} was not reached"
        time.sleep(0.01)


def signalled(project: Project, models: str, send: Callable[[subprocess.Popen[str]], None], *options: str) -> Session:
    """A session with these models, to which `send` sends signals."""
    project.use(models)
    process = project.start(*options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=heed_interrupts)
    try:
        send(process)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return Session(exit_code=process.returncode, output=output, folder=project.folder)


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([signal.SIGTERM], id="term"),
        pytest.param([signal.SIGHUP], id="hup"),
        pytest.param([signal.SIGINT, signal.SIGINT], id="int-int"),
        pytest.param([signal.SIGTERM, signal.SIGTERM], id="term-term"),
        pytest.param([signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT], id="all"),
    ],
)
def test_signals_in_quick_succession_end_the_session_with_2_and_keep_what_was_finished(project, numbers):
    def send(process: subprocess.Popen[str]) -> None:
        wait_for(project.folder / "asleep", process)
        for number in numbers:
            process.send_signal(number)

    session = signalled(project, FAKE_MODELS + SLEEPING_SECOND_MODEL, send, "--benchmark-save=main")
    check_cut_short(session, finished=EMBEDDED[:1])
    assert (session.exit_code, session.left_behind) == (2, "2"), session.output
    assert "Traceback" not in session.output
    assert finished_documents(project) == [EMBEDDED[0]] * 8 + [EMBEDDED[1]] * 2


@pytest.mark.parametrize("second", SIGNALS)
def test_signal_while_an_interrupted_session_closes_does_not_stop_it(project, second):
    def send(process: subprocess.Popen[str]) -> None:
        wait_for(project.folder / "asleep", process)
        process.send_signal(signal.SIGINT)
        wait_for(project.folder / "closing", process)
        process.send_signal(second)
        process.send_signal(second)

    session = signalled(project, FAKE_MODELS + SLEEPING_SECOND_MODEL + SLOW_CLOSING, send)
    check_cut_short(session, finished=EMBEDDED[:1])
    assert (session.exit_code, session.left_behind) == (2, "2"), session.output
    assert (newest_results(project.folder) / "documents.parquet").exists()


def test_signal_while_a_whole_run_is_written_is_heeded_once_all_is_there(project):
    def send(process: subprocess.Popen[str]) -> None:
        wait_for(project.folder / "closing", process)
        process.send_signal(signal.SIGINT)

    session = signalled(project, FAKE_MODELS + "\n    import time\n    from pathlib import Path\n" + SLOW_CLOSING, send)
    assert (session.exit_code, session.left_behind) == (2, "2"), session.output
    assert session.outcomes == dict.fromkeys(EMBEDDED, "passed")
    assert "SIGINT came while the results were written; all are there" in session.output
    latest = newest_results(session.folder)
    assert (latest / "documents.parquet").exists()
    assert (latest / "report.md").read_text(encoding="utf-8").startswith("## Interrupted (exit code 2)")


def test_closed_terminal_ends_the_session_as_ctrl_c_does(project):
    project.use(FAKE_MODELS + SLEEPING_SECOND_MODEL)
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        project.command(),
        cwd=project.folder,
        env=project.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    reader = threading.Thread(target=read_until_closed, args=(ours, project.folder / "closed"))
    reader.start()
    try:
        wait_for(project.folder / "asleep", process)
        (project.folder / "closed").touch()
        reader.join()
        assert process.wait(120) != 0
    finally:
        process.kill()
    latest = newest_results(project.folder)
    assert (latest / "exit_code").read_text() == "2\n"
    run = json.loads((latest / "run.json").read_text())
    assert [each["detail"] for each in run["outcomes"]] == ["", NOT_RUN, NOT_RUN]
    assert (latest / "documents.parquet").exists()


def test_line_that_a_closed_terminal_cannot_show_fails_no_test():
    class Closed:
        isatty = True

        def ensure_newline(self) -> None:
            raise OSError(5, "Input/output error")

    plugins = {"terminalreporter": Closed()}
    progress = Progress(plugins["terminalreporter"], plugins.get("capturemanager"))
    with progress.stage("loading"):
        pass
    assert not progress.is_live


def read_until_closed(terminal: int, closed: Path) -> None:
    """Read what is shown, or the session would wait for it; then close the terminal."""
    while not closed.exists():
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 4096)
    os.close(terminal)


def test_killed_run_says_that_it_was_cut_short(project):
    def send(process: subprocess.Popen[str]) -> None:
        wait_for(project.folder / "asleep", process)
        process.kill()

    session = signalled(project, FAKE_MODELS + SLEEPING_SECOND_MODEL, send)
    assert [each["detail"] for each in session.run["outcomes"]] == ["", NOT_RUN, NOT_RUN]
    assert not (newest_results(session.folder) / "exit_code").exists()


# At random -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """When a session gets which signals: after so many documents and seconds, with a pause between them."""

    documents: int
    seconds: float
    numbers: tuple[signal.Signals, ...]
    pause_seconds: float

    @classmethod
    def drawn(cls, draw: random.Random) -> Plan:
        return cls(
            documents=draw.randint(0, 24),
            seconds=draw.uniform(0, 0.3),
            numbers=tuple(draw.choices(SIGNALS, k=draw.choice([1, 2, 2, 3]))),
            pause_seconds=draw.choice([0.0, 0.001, 0.02, 0.3, 1.5]),
        )

    def send(self, folder: Path, process: subprocess.Popen[str]) -> None:
        while process.poll() is None and len(lines_of(folder / "told")) < self.documents:
            time.sleep(0.005)
        if not self.documents:
            while process.poll() is None and not (newest_results(folder)).exists():
                time.sleep(0.005)
        time.sleep(self.seconds)
        for number in self.numbers:
            if process.poll() is None:
                process.send_signal(number)
            time.sleep(self.pause_seconds)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_signals_at_any_moment_leave_a_run_that_tells_the_truth(tmp_path, seed):
    plan = Plan.drawn(random.Random(seed))
    project = make_project(tmp_path / "project")
    session = signalled(
        project, FAKE_MODELS + SLOW_AND_TELLING, lambda process: plan.send(project.folder, process), "-q"
    )
    latest = newest_results(project.folder)
    told = [line.split()[1] for line in lines_of(project.folder / "told")]
    assert finished_documents(project)[: len(told)] == told
    not_final = [each["experiment"] for each in session.run["outcomes"] if not each["is_final"]]
    exit_code = (latest / "exit_code").read_text() if (latest / "exit_code").exists() else None
    if not_final:
        assert session.exit_code != 0, plan
        assert exit_code != "0\n", plan
        assert NOT_RUN in session.output or exit_code is None, plan
        if exit_code is not None:
            assert "Clean" not in (latest / "report.md").read_text(encoding="utf-8")
    if session.exit_code == 0:
        assert (exit_code, session.outcomes) == ("0\n", dict.fromkeys(EMBEDDED, "passed")), plan
