"""Damaged and hostile files through every command that reads them: one line and a documented exit code, and nothing else.

Each kind of file is damaged MUTATIONS times, seeded by the kind. For each, one of its commands runs. The variable
SUMMARYBENCH_TEST_MUTATIONS sets another number; the first ones stay the same.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from summarybench.analysis.history import read_series
from summarybench.analysis.noise import add_replicates
from summarybench.commands.command_line import main
from summarybench.commands.docs import tables_of
from summarybench.core.exit_codes import run_to_exit_code
from summarybench.core.outcomes import ExitCode
from summarybench.documents.sources import EMBEDDED_ARTICLES, documents_of_file
from summarybench.runs.run_file import read_run
from tests.fakes import leave_out_pages
from tests.kill_at_random import run_session
from tests.mutations import damaged_bytes, damaged_checked_line, damaged_json, damaged_line

MUTATIONS = int(os.environ.get("SUMMARYBENCH_TEST_MUTATIONS", "250"))
EXIT_CODES = set(ExitCode)
STORED = Path("baselines/a-cpu")
HISTORY = STORED / "history.json"

Damage = Callable[[bytes, random.Random], bytes]
Attempt = Callable[[Path], int]


def command(*words: str) -> Attempt:
    return lambda _: main(list(words))


def resumed(folder: Path) -> int:
    def run() -> int:
        leave_out_pages()  # other kinds of files fuzz them
        run_session(folder, lambda _: None, resume=Path("results/fuzzed"), save_as="again")
        return ExitCode.CLEAN

    return run_to_exit_code(run)


def documents(name: str) -> Attempt:
    def run() -> int:
        documents_of_file(Path(name)).sample(1, seed=0)
        return ExitCode.CLEAN

    return lambda _: run_to_exit_code(run)


def tables(_: Path) -> int:
    def run() -> int:
        tables_of(Path("baselines"))
        return ExitCode.CLEAN

    return run_to_exit_code(run)


READ_RUN = (
    command("compare", "results/fuzzed"),
    command("compare", "results/other", "results/fuzzed"),
    command("report", "results/fuzzed"),
    command("report", "results/other", "results/fuzzed", "--output", "results/page.html"),
    command("summary", "results/fuzzed"),
    command("adopt", "results/fuzzed", "again"),
    command("noise", "--from", "results/fuzzed", "results/other"),
)
READ_STORED = (
    command("compare", "results/other"),
    command("compare", "0001"),
    command("report", "results/other"),
    command("adopt", "results/other", "again"),
    command("history"),
    tables,
)
MEASURE_NOISE = command("noise", "--from", "results/fuzzed", "results/other")
READ_SPREAD = (command("compare", "results/other"), MEASURE_NOISE)
REWRITING = (MEASURE_NOISE,)
"""What is meant to change the file that it reads."""
READ_HISTORY = (command("history"), command("adopt", "results/other", "again"))


@dataclass(frozen=True)
class Kind:
    """A kind of file: where it is, how it is damaged, and what reads it."""

    name: str
    file: Path
    damages: Sequence[Damage]
    attempts: Sequence[Attempt]


JSON, LINES = (damaged_json, damaged_json, damaged_json, damaged_bytes), (damaged_line, damaged_line, damaged_bytes)
KINDS = (
    Kind("run", Path("results/fuzzed/run.json"), JSON, READ_RUN),
    Kind("journal", Path("results/fuzzed/journal.jsonl"), (*LINES, *[damaged_checked_line] * 3), (resumed,)),
    Kind("stored-run", STORED / "0001_main.json", JSON, READ_STORED),
    Kind("spread", STORED / "spread.json", JSON, READ_SPREAD),
    Kind("history", HISTORY, JSON, READ_HISTORY),
    Kind("documents", Path("documents.jsonl"), LINES, (documents("documents.jsonl"),)),
    Kind("documents-parquet", Path("documents.parquet"), (damaged_bytes,), (documents("documents.parquet"),)),
    Kind("documents-table", Path("results/fuzzed/documents.parquet"), (damaged_bytes,), (READ_RUN[2],)),
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return template_in(tmp_path_factory.mktemp("fuzzing"))


def template_in(parent):
    """A project with two measured runs, the first of them stored, their noise, an accepted reference, and documents."""
    folder = parent / "template"
    folder.mkdir()
    with contextlib.chdir(folder):
        run_session(folder, lambda _: None, save_as="main")
        first = (folder / "results" / "latest").resolve()
        run_session(folder, lambda _: None)
        other = (folder / "results" / "latest").resolve()
        (folder / "results" / "latest").unlink()
        first.rename(folder / "results" / "fuzzed")
        other.rename(folder / "results" / "other")
        for name in ("fuzzed", "other"):
            (folder / "results" / name / "exit_code").write_text("0\n")
        run = json.loads((folder / "results" / "other" / "run.json").read_text())
        for benchmark in run["benchmarks"]:
            benchmark["stats"]["data"] = [each * 1.01 for each in benchmark["stats"]["data"]]
        (folder / "results" / "other" / "run.json").write_text(json.dumps(run))
        add_replicates(
            folder / STORED, [read_run(folder / "results" / name / "run.json") for name in ("fuzzed", "other")]
        )
        (key,) = {each.key for each in read_series(folder / STORED)[:1]}
        accepted = {"schema": 1, "accepted": [{"series": asdict(key), "since": "2026-01-01"}]}
        (folder / HISTORY).write_text(json.dumps(accepted))
        articles = EMBEDDED_ARTICLES.read_text(encoding="utf-8").splitlines()[:3]
        (folder / "documents.jsonl").write_text("\n".join(articles) + "\n", encoding="utf-8")
        parquet.write_table(
            pyarrow.Table.from_pylist([json.loads(each) for each in articles]), folder / "documents.parquet"
        )
    return folder


@pytest.fixture(scope="module", autouse=True)
def small_heap():
    """Leave what the tests before have made out of collections: a session collects between its rounds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_file_is_refused_in_one_line_or_read(kind, template, tmp_path):
    generator, codes = random.Random(kind.name), Counter()
    content = (template / kind.file).read_bytes()
    for number in range(MUTATIONS):
        damaged = generator.choice(kind.damages)(content, generator)
        codes[attempt(kind, damaged, generator, template, tmp_path, f"{kind.name} {number}")] += 1
    assert set(codes) <= EXIT_CODES


def attempt(kind, damaged, generator, template, tmp_path, what):
    """The exit code of one of the kind's commands, in a project of its own."""
    folder, chosen = tmp_path / "project", generator.choice(kind.attempts)
    shutil.copytree(template, folder)
    (folder / kind.file).write_bytes(damaged)
    shown, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
            code = chosen(folder)
    except Exception as error:
        (tmp_path / "damaged").write_bytes(damaged)
        raise AssertionError(f"{what}: {type(error).__name__}: {error}, for {tmp_path / 'damaged'}") from error
    is_rewritten = code == ExitCode.CLEAN and chosen in REWRITING
    assert is_rewritten or (folder / kind.file).read_bytes() == damaged, what
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"], what
    assert {path.name for path in folder.iterdir()} <= {
        "results",
        "baselines",
        "documents.jsonl",
        "documents.parquet",
    }, what
    assert {path.name for path in (folder / "baselines").iterdir()} <= {"a-cpu"}, what
    lines = errors.getvalue().splitlines()
    assert "Traceback (most recent call last):" not in lines, "\n".join([what, *lines])
    assert [line[:7] for line in lines] == (["ERROR: "] if code == ExitCode.WRONG_INPUT else []), (what, lines)
    assert all(each.isprintable() for each in (*lines, *shown.getvalue().splitlines())), (what, lines)
    shutil.rmtree(folder)
    return code
