"""Kills sessions at random points and checks what is left of them: `python -m tests.kill_at_random --kills 60 --seed 0`.

Most are forked processes that use the suite directly with fake models, a few are whole pytest sessions. A process is
killed at a random moment, at a random call into the file system, or at a random byte of a file that it writes (the
kernel's SIGXFSZ: half a line stays behind). After each kill everything is read back and resumed, the resumed session
being killed as well now and then.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import EXPERIMENTS, Experiment
from summarybench.commands.command_line import main as command_line
from summarybench.core.outcomes import Outcome, TestOutcome
from summarybench.documents.sources import embedded_documents
from summarybench.engines.weights import Weights
from summarybench.kinds.registry import KINDS
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.device import GIB
from summarybench.runs.baselines import StoredRun, read_baselines
from summarybench.runs.journal import JournalContents, read_journal
from summarybench.runs.run_file import entries_of, read_run
from summarybench.session.closing import Closing
from summarybench.session.config import resolve
from summarybench.session.opening import Selection, open_session
from summarybench.session.progress import Progress, Tally
from summarybench.session.session import TestResources
from summarybench.session.settings import Settings, UnresolvedOptions
from tests.conftest import FAKE_MODELS, Project, make_project, newest_results
from tests.fakes import FakeModel, FakeTime, NoProbes
from tests.forked import ForkedProcess
from tests.run_files import MACHINE

DOCUMENTS = 8
DEVICE = CpuDevice(kind="cpu", name="a CPU", slug="a-cpu", family="cpu", memory_bytes=8 * GIB, compute_dtype="float32")
SELECTED: dict[str, Experiment] = {
    f"benchmarks/test_summarize.py::test_summarize[{each.name}]": each for each in EXPERIMENTS if "cpu" in each.families
}
EXPECTED_IDS = [document.id for document in embedded_documents().sample(DOCUMENTS, seed=0)]
FILE_CALLS = ("open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.symlink", "os.truncate")

Say = Callable[[str], None]
"""Reports that something is finished: from then on it must never be lost."""


# A session without pytest ---------------------------------------------------------------------------------------------


class Telling(Progress):
    """A progress display without a terminal that reports each document, as the live line does."""

    def __init__(self, say: Say) -> None:
        super().__init__(terminal=None, capture=None)
        self._report = say

    def document(self, experiment: str, done: Tally, total: int) -> None:
        del total
        if done.last is not None:
            self._report(f"document {experiment} {done.last.document_id}")


class Unscored(FakeModel):
    """Random weights have no quality, and scoring would take most of a session's time: kills belong where files are."""

    def __init__(self, experiment: Experiment, fake_time: FakeTime) -> None:
        super().__init__(experiment, fake_time)
        self.weights = Weights(kind="synthetic", revision="fake", location="nowhere")


class Rounds:
    """pytest-benchmark's `pedantic`, without pytest."""

    def pedantic(self, target: Callable[..., Any], *, setup: Callable[[], Any], rounds: int) -> None:
        for _ in range(rounds):
            arguments, named = setup()
            target(*arguments, **named)


UNRESOLVED = UnresolvedOptions(
    documents=DOCUMENTS,
    max_new_tokens=None,
    max_prompt_tokens=2048,
    kind_options={option.key: option.default for kind in KINDS.values() for option in kind.options},
)


def settings_in(
    folder: Path, *, resume: Path | None = None, confirm: Path | None = None, save_as: str | None = None
) -> Settings:
    return Settings(
        seed=0,
        documents_file=None,
        document_source=None,
        model_paths={},
        gpu_family=None,
        memory_limit_gib=None,
        predict_memory=True,
        synthetic_weights=False,
        tolerance=0.05,
        baseline_runs=3,
        passes=2 if confirm else 1,
        require_baseline=False,
        results_dir=folder / "results",
        baselines_dir=folder / "baselines",
        compare_with=None,
        save_as=save_as,
        json_path=None,
        resume=resume,
        confirm=confirm,
        students={},
        own_models={},
        chosen_models=frozenset(),
        student_margin=0.1,
    )


def run_session(
    folder: Path, say: Say, *, resume: Path | None = None, confirm: Path | None = None, save_as: str | None = None
) -> None:
    """What the plugin does with a session of the embedded experiments."""
    session = open_session(
        resolve(settings_in(folder, resume=resume, confirm=confirm, save_as=save_as), UNRESOLVED, DEVICE),
        Selection(runnable=SELECTED),
        machine_info=MACHINE,
        commit_info={"id": "a commit"},
        progress=Telling(say),
    )
    # Each session takes its own time, or its measurements would be taken for those of an earlier one.
    kind, clock_time = KINDS["summarize"], FakeTime(pace=1 + time.monotonic_ns() % 1_000 / 100_000)
    for nodeid, experiment in SELECTED.items():
        if nodeid not in session.outcomes.resumed:
            resources = TestResources(
                benchmark=Rounds(),
                clock=clock_time.clock,
                probes=NoProbes(),
                load_model=lambda each: Unscored(each, clock_time),
                found=Unscored(experiment, clock_time),
            )
            session.compare(kind.measure(session.toolbox(kind, nodeid, experiment, resources)), kind)
            session.outcomes.note(TestOutcome(nodeid=nodeid, experiment=experiment.name, outcome=Outcome.PASSED))
            say(f"outcome {experiment.name}")
    closing = Closing(session)
    for line in (*closing.write_results(was_cut_short=False), *closing.write_pages()):
        if line.startswith("baseline saved: "):
            say(f"stored {Path(line).name}")
    session.close()


# Killing it -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """A process's end, and what it had reported by then."""

    was_killed: bool
    told: list[str]


def in_a_process(work: Callable[[Say], None], kill_after_seconds: float | None = None) -> Ended:
    """Fork, let the child work, and kill it at the given moment, if any."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            work(lambda line: os.write(writer, f"{line}\n".encode()) and None)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    if kill_after_seconds is not None:
        time.sleep(kill_after_seconds)
        os.kill(child, signal.SIGKILL)
    with open(reader, encoding="utf-8") as pipe:  # noqa: PTH123  (a descriptor, not a path)
        told = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"a session failed where it should have been killed or have ended well: {told[-1:]}")
    return Ended(was_killed=os.WIFSIGNALED(status), told=told)


def kill_at_call(number: int) -> None:
    calls = iter(range(1, number))

    def hook(event: str, _: Any) -> None:
        if event in FILE_CALLS and next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def kill_at_byte(file_name: str, size_bytes: int) -> None:
    """Let no file whose name contains `file_name` grow beyond this size."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python would turn into an OSError
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes if file_name in str(arguments[0]) else hard, hard))

    sys.addaudithook(hook)


@dataclass(frozen=True)
class Extent:
    """How far a whole session goes: the ranges in which points are drawn."""

    seconds: float
    file_calls: int
    file_bytes: dict[str, int]


def measure_extent(folder: Path) -> Extent:
    """By a session that nobody kills."""
    folder.mkdir()
    started = time.monotonic()

    def work(say: Say) -> None:
        calls: list[str] = []
        sys.addaudithook(lambda event, _: calls.append(event) if event in FILE_CALLS else None)
        run_session(folder, say, save_as="main")
        say(f"calls {len(calls)}")

    ended = in_a_process(work)
    return Extent(
        seconds=time.monotonic() - started,
        file_calls=int(ended.told[-1].split()[1]),
        file_bytes={
            name: next(path.stat().st_size for path in folder.rglob(f"*{name}"))
            for name in ("journal.jsonl", "run.json", "main.json")
        },
    )


# Checking what is left ------------------------------------------------------------------------------------------------


class LostError(AssertionError):
    """Something that was reported as finished is not there, or something is half there."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise LostError(what)


def ids_by_experiment(journal: JournalContents) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for record in journal.documents:
        found.setdefault(record["experiment"], []).append(record["document_id"])
    return found


def check_what_is_left(folder: Path, told: list[str], tally: Counter[str]) -> None:
    """After a kill: what was reported is readable, and nothing is half written."""
    latest = newest_results(folder)
    words = [line.split() for line in told]
    documents = {(word[1], word[2]) for word in words if word[0] == "document"}
    outcomes = {word[1] for word in words if word[0] == "outcome"}
    if latest.exists():
        journal = read_journal(latest / "journal.jsonl")
        check(journal.dropped_lines - journal.session.get("dropped_lines", 0) <= 1, "more than one line is unreadable")
        kept = {(name, each) for name, ids in ids_by_experiment(journal).items() for each in ids}
        check(documents <= kept, f"{len(documents - kept)} reported documents are not in the journal")
        tally["cut-off lines"] += journal.dropped_lines - journal.session.get("dropped_lines", 0)
    else:
        check(not documents, "documents were reported and there is no journal")
    run_file = latest / "run.json"
    noted = read_run(run_file)["outcomes"] if run_file.exists() else []
    finished = {each["experiment"] for each in noted if each["is_final"]}
    check(outcomes <= finished, f"{outcomes - finished} were reported as finished and are not in run.json")
    check_baselines(folder, {word[1] for word in words if word[0] == "stored"})
    tally["documents reported"] += len(documents)
    tally["run.json whole"] += run_file.exists()
    tally["temporaries left"] += sum(1 for path in folder.rglob(".*.json.*") if path.is_file())


def stored_runs(folder: Path) -> tuple[StoredRun, ...]:
    """Everything in the folders of baselines; raises InputError for what is no whole run."""
    folders = [each for each in (folder / "baselines").glob("*") if each.is_dir()]
    return tuple(stored for each in folders for stored in read_baselines(each).runs)


def check_baselines(folder: Path, told: set[str]) -> None:
    stored = stored_runs(folder)
    for each in stored:
        check_complete(each.run)
    missing = told - {each.path.name for each in stored}
    check(not missing, f"{missing} was reported as stored and is not there")


def check_complete(run: dict[str, Any]) -> None:
    found = {entry.experiment: list(entry.timings) for entry in entries_of(run)}
    expected = {experiment.name: EXPECTED_IDS for experiment in SELECTED.values()}
    check(
        found == expected,
        f"a complete run holds {found.keys()} with {[len(each) for each in found.values()]} documents",
    )


def check_resumed(folder: Path, told_before: list[str]) -> None:
    """After a resumed session came to its end: exactly the documents expected, and what was finished not measured again."""
    latest = newest_results(folder)
    run = read_run(latest / "run.json")
    check_complete(run)
    journal = read_journal(latest / "journal.jsonl")
    check(
        ids_by_experiment(journal) == {each.name: EXPECTED_IDS for each in SELECTED.values()},
        "the resumed journal does not hold each document once",
    )
    reported = {line.split()[1] for line in told_before if line.startswith("outcome")}
    carried = {each["experiment"] for each in run["outcomes"] if "carried_from" in each}
    check(reported <= carried, f"{reported - carried} was finished and measured again")
    kept = {(each["experiment"], each["document_id"]) for each in (*journal.documents, *journal.superseded_documents)}
    told = {tuple(line.split()[1:]) for line in told_before if line.startswith("document")}
    check(told <= kept, "documents of the interrupted attempt are gone from the resumed journal")
    check_baselines(folder, set())


# Rounds of kills ------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One way of killing, and what was seen after it."""

    kills: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)


def resumable(folder: Path) -> Path | None:
    latest = newest_results(folder)
    return latest if latest.exists() else None


def kill_and_resume(folder: Path, kind: str, draw: random.Random, extent: Extent, row: Row) -> None:
    """One session killed at a random point (some also when they are resumed), then resumed to its end."""
    folder.mkdir()
    save_as = draw.choice(["main", None])
    told: list[str] = []
    for _ in range(draw.choice([1, 1, 2])):
        resume = resumable(folder)
        moment = draw.uniform(0, extent.seconds) if kind == "moment" else None
        arm: Callable[[], None] = {
            "moment": lambda: None,
            "call": partial(kill_at_call, draw.randint(1, extent.file_calls)),
            "byte": partial(
                kill_at_byte, name := draw.choice(list(extent.file_bytes)), draw.randint(1, extent.file_bytes[name])
            ),
        }[kind]

        def work(say: Say, resume: Path | None = resume, arm: Callable[[], None] = arm) -> None:
            arm()
            run_session(folder, say, resume=resume, save_as=save_as)

        ended = in_a_process(work, moment)
        row.kills += ended.was_killed
        told += ended.told
        check_what_is_left(folder, ended.told, row.seen)
    before = resumable(folder)
    in_a_process(lambda say: run_session(folder, say, resume=before, save_as="last"))
    check_resumed(folder, told)
    check(
        bool(stored_runs(folder)), "the resumed run was not stored"
    )  # as "last", unless the killed session had done it
    check(not list((folder / "baselines").rglob(".*")), "a temporary stays beside the baselines")


def confirm(folder: Path) -> None:
    run_session(folder, lambda _: None, confirm=folder / "results" / "latest", save_as="confirmed")


def report(folder: Path) -> None:
    command_line(["report", str(folder / "results" / "latest"), "--baselines", str(folder / "baselines")])


def adopt(folder: Path) -> None:
    command_line(["adopt", str(folder / "results" / "latest"), "again", "--baselines", str(folder / "baselines")])


COMMANDS = (confirm, report, adopt)
"""What else writes files: a second pass, a page and a stored run, all of a finished run."""


def finished_project(folder: Path) -> Path:
    """A project with a stored run, and a later one that was compared with it and is not stored."""
    folder.mkdir()
    run_session(folder, lambda _: None, save_as="main")
    run_session(folder, lambda _: None)
    (folder / "results" / "latest" / "exit_code").write_text("0\n")
    return folder


def calls_of(command: Callable[[Path], None], folder: Path) -> int:
    """How often a command calls into the file system."""

    def work(say: Say) -> None:
        calls: list[str] = []
        sys.addaudithook(lambda event, _: calls.append(event) if event in FILE_CALLS else None)
        command(folder)
        say(f"calls {len(calls)}")

    return int(in_a_process(work).told[-1].split()[1])


def kill_command(folder: Path, command: Callable[[Path], None], finished: Path, draw: random.Random, row: Row) -> None:
    """One command killed at a random call into the file system, and then run to its end."""
    shutil.copytree(finished, folder / "counted", symlinks=True)
    shutil.copytree(finished, folder / "killed", symlinks=True)
    number, folder = draw.randint(1, calls_of(command, folder / "counted")), folder / "killed"
    run_before = (folder / "results" / "latest" / "run.json").read_bytes()

    def work(_: Say) -> None:
        kill_at_call(number)
        command(folder)

    row.kills += in_a_process(work).was_killed
    check_baselines(folder, {"0001_main.json"})
    finished_run = sorted((folder / "results").glob("2*"))[1]
    check(
        (finished_run / "run.json").read_bytes() == run_before, f"{command.__name__} has changed the run that it read"
    )
    page = finished_run / "report.html"
    check(not page.exists() or page.read_text(encoding="utf-8").rstrip().endswith("</html>"), "half a page was left")
    row.seen["run.json whole"] += all((each / "run.json").exists() for each in (folder / "results").glob("2*"))
    in_a_process(lambda _: command(folder))
    check_baselines(folder, {"0001_main.json"})
    check(command is not adopt or len(stored_runs(folder)) == 2, "the run was not adopted once")
    row.seen["temporaries left"] += sum(1 for path in folder.rglob(".*.json.*") if path.is_file())


SLOW_AND_TELLING = """
    import os, time
    from summarybench.session.progress import Progress

    show = Progress.document

    def tell(self, experiment, done, total):
        show(self, experiment, done, total)
        with open("told", "a") as file:
            file.write(f"document {experiment} {done.last.document_id}\\n")
        time.sleep(0.03)

    Progress.document = tell
"""


def kill_whole_session(folder: Path, draw: random.Random, row: Row) -> None:
    """The same with pytest around it, killed by its process id."""
    project = make_project(folder)
    project.use(FAKE_MODELS + SLOW_AND_TELLING)
    options = ["--documents", str(DOCUMENTS), "-q"]
    saving = draw.choice([["--benchmark-save=main"], []])
    process = start(project, [*options, *saving])
    marker = folder / "told"
    enough = draw.randint(0, DOCUMENTS * len(SELECTED))
    while process.poll() is None and len(lines_of(marker)) < enough:
        time.sleep(0.01)
    time.sleep(draw.uniform(0, 0.3))
    process.kill()
    process.communicate()
    row.kills += process.returncode == -signal.SIGKILL
    told = lines_of(marker)
    check_what_is_left(folder, told, row.seen)
    latest = resumable(folder)
    resumed = start(project, [*options, *([] if latest is None else ["--resume", str(latest)])])
    output, _ = resumed.communicate(timeout=120)
    check(resumed.returncode == 0, f"the resumed session ended with {resumed.returncode}: {output}")
    check_resumed(folder, told)


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def start(project: Project, arguments: list[str]) -> ForkedProcess:
    environment = {**project.environment, "XDG_CACHE_HOME": str(project.folder / "cache")}
    return project.start(*arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def kill_many(folder: Path, *, kills: int, whole_sessions: int, seed: int) -> dict[str, Row]:
    """At least `kills` kills in all, of which `whole_sessions` are of pytest sessions; one row a way of killing."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    draw = random.Random(seed)
    (folder / "first").mkdir()
    run_session(folder / "first", lambda _: None, save_as="main")  # imports what children then need not
    extent = measure_extent(folder / "extent")
    finished = finished_project(folder / "finished")
    commands = {command.__name__: command for command in COMMANDS}
    kinds = ("moment", "call", "byte", *commands)
    rows = {kind: Row() for kind in (*kinds, "session")}
    attempt = 0
    while sum(row.kills for row in rows.values()) < kills:
        attempt += 1
        kind = "session" if rows["session"].kills < whole_sessions else kinds[attempt % len(kinds)]
        place = folder / f"{attempt:04}"
        try:
            if kind == "session":
                kill_whole_session(place, draw, rows[kind])
            elif kind in commands:
                kill_command(place, commands[kind], finished, draw, rows[kind])
            else:
                kill_and_resume(place, kind, draw, extent, rows[kind])
        except Exception as error:
            rows[kind].lost.append(f"{place.name}: {type(error).__name__}: {error}")
            if sum(len(row.lost) for row in rows.values()) > 9:
                break
    return rows


def table(rows: dict[str, Row]) -> str:
    columns = ("documents reported", "cut-off lines", "run.json whole", "temporaries left")
    lines = [f"{'killed at a':12}" + "".join(f"{name:>20}" for name in ("kills", *columns, "lost or half-made"))]
    for kind, row in rows.items():
        figures = (row.kills, *(row.seen[name] for name in columns), len(row.lost))
        lines.append(f"{kind:12}" + "".join(f"{figure:>20}" for figure in figures))
    return "\n".join([*lines, *(f"LOST {fault}" for row in rows.values() for fault in row.lost)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--whole-sessions", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = kill_many(Path(folder), kills=options.kills, whole_sessions=options.whole_sessions, seed=options.seed)
    sys.stdout.write(f"{table(rows)}\n")
    return 1 if any(row.lost for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
