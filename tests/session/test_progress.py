"""What a session says of its experiments while it runs, where no terminal draws it."""

from __future__ import annotations

import pytest

from summarybench.core.outcomes import Outcome
from summarybench.session.progress import Progress
from tests.conftest import FAKE_MODELS

EXPERIMENT = "smollm2-135m-instruct-4-bit"


def told_of(session, experiment=EXPERIMENT):
    """The lines on an experiment before the report."""
    before = session.output.partition("summarization benchmarks")[0]
    return [line.removeprefix(f"{experiment}: ") for line in before.splitlines() if line.startswith(f"{experiment}: ")]


def test_each_experiment_says_that_it_starts_how_long_it_takes_and_how_it_ended(project):
    session = project.bench("-k", "4-bit or 8-bit")
    for experiment in (EXPERIMENT, "smollm2-135m-instruct-8-bit"):
        started, warmed_up, ended = told_of(session, experiment)
        assert started == "started"
        # 48 tokens of 0.01 s each, and up to a tenth more, which is in no round's favour
        assert warmed_up.startswith("warmed up in 0.5 s; 8 timed rounds follow, about 4.")
        assert ended.startswith("passed after ")
        assert ", ROUGE-1 0." in ended
        speed = session.infos[experiment.removeprefix("smollm2-135m-instruct-")]["generated_tokens_per_second"]
        assert f" {speed:.1f} tok/s" in ended
    lines = session.output.splitlines()
    assert lines.index("smollm2-135m-instruct-8-bit: started") < lines.index(f"{EXPERIMENT}: started")


def test_verbose_session_says_it_too(project):
    assert len(told_of(project.bench("-v", "-k", "4-bit"))) == 3


def test_quiet_session_says_none_of_it(project):
    output = project.bench("-q", "-k", "4-bit").output
    assert ": started" not in output
    assert "warmed up" not in output
    assert "passed after" not in output


def test_experiment_that_could_not_be_measured_ends_with_its_outcome(project):
    project.use(
        FAKE_MODELS.replace(
            "FakeModel(experiment, TIME)",
            "FakeModel(experiment, TIME, fail={1: RuntimeError('DefaultCPUAllocator: not enough memory')})",
        )
    )
    started, ended = told_of(project.bench("-k", "4-bit"))
    assert (started, ended.partition(" after ")[0]) == ("started", "failed")


def test_batches_are_told_apart_by_their_size_and_counted_as_rounds(project):
    session = project.bench("-m", "batching", "-k", "4-bit-batch4 or 4-bit-batch8")
    (_, four, _), (_, eight, _) = (told_of(session, f"{EXPERIMENT}-batch{rows}") for rows in (4, 8))
    assert "; 2 timed rounds follow, about " in four
    assert "; 1 timed round follows, about " in eight


def test_experiment_that_is_carried_from_an_earlier_run_is_not_said_to_start(project):
    project.bench("-k", "4-bit")
    assert told_of(project.bench("-k", "4-bit", "--resume=results/latest")) == []


def test_what_libraries_print_while_a_model_loads_stays_captured(project):
    project.use(
        FAKE_MODELS.replace(
            "return lambda experiment: FakeModel(experiment, TIME)",
            "return lambda experiment: print('0% of 272 tensors') or FakeModel(experiment, TIME)",
        )
    )
    session = project.bench("-k", "4-bit")
    assert "272 tensors" not in session.output
    assert len(told_of(session)) == 3


class FakeTerminal:
    """Notes the lines that stay; what is drawn over again is not among them."""

    verbosity = 0

    def __init__(self, *, isatty: bool) -> None:
        self.isatty = isatty
        self.lines: list[str] = []

    def ensure_newline(self) -> None: ...

    def flush(self) -> None: ...

    def write_line(self, line: str, **markup: bool) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(("isatty", "lines"), [(True, 0), (False, 3)], ids=["terminal", "no-terminal"])
def test_lines_are_for_where_no_terminal_draws_the_live_one(isatty, lines):
    terminal = FakeTerminal(isatty=isatty)
    progress = Progress(terminal, None)
    progress.started(EXPERIMENT)
    progress.warmed_up(EXPERIMENT, 2.0, rounds=8, expected_seconds=None)
    progress.ended(EXPERIMENT, Outcome.OUT_OF_MEMORY, {})
    assert len(terminal.lines) == lines
    if lines:
        assert terminal.lines[1] == f"{EXPERIMENT}: warmed up in 2.0 s; 8 timed rounds follow"
        assert terminal.lines[2].startswith(f"{EXPERIMENT}: out of memory after ")


def test_end_is_said_once_and_only_of_what_has_started():
    terminal = FakeTerminal(isatty=False)
    progress = Progress(terminal, None)
    progress.ended(EXPERIMENT, Outcome.SKIPPED, {})
    progress.started(EXPERIMENT)
    progress.ended(EXPERIMENT, Outcome.FAILED, {})
    progress.ended(EXPERIMENT, Outcome.FAILED, {})
    assert [line.partition(" after ")[0] for line in terminal.lines] == [
        f"{EXPERIMENT}: started",
        f"{EXPERIMENT}: failed",
    ]
