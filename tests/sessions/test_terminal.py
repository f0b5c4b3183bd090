"""What a whole session prints and leaves for others: quiet, on a terminal, and for pytest-benchmark's own tools."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from summarybench.session.launch import markers_for
from tests.conftest import FAKE_MODELS, ROOT, make_project
from tests.fakes import FakeGpu
from tests.forked import forked_python

EXPERIMENT = "smollm2-135m-instruct-4-bit"


def test_quiet_session_is_one_line_a_verdict(project):
    quiet = project.bench("-q", "-k", "4-bit or 8-bit").output.splitlines()
    told = [line for line in quiet if line.startswith("smollm2-135m-instruct-")]
    assert [line.partition(": no baseline for ")[0] for line in told] == [
        "smollm2-135m-instruct-8-bit: NO BASELINE",
        "smollm2-135m-instruct-4-bit: NO BASELINE",
    ]
    assert not any(line.startswith(("Speed", "next: ", "report: ")) or "gen." in line for line in quiet)


def test_session_ends_with_what_to_do_next_and_a_page_that_is_there(project):
    session = project.bench("-k", "4-bit")
    (folder,) = [path for path in (session.folder / "results").iterdir() if not path.is_symlink()]
    adopt = f"{forked_python()} -m summarybench adopt results/{folder.name} main"
    lines = session.output.splitlines()
    assert f"next: to make this run the baseline of {EXPERIMENT}: {adopt}" in lines
    assert f"report: results/{folder.name}/report.md" in lines
    page = (folder / "report.md").read_text()
    assert page.startswith("## Clean: nothing to compare with yet (exit code 0)\n")
    links = re.findall(r"\]\((.+?)\)", page)
    assert links == ["documents.parquet", "run.json"]
    assert all((folder / name).is_file() for name in links)


@pytest.mark.parametrize(("columns", "name"), [(100, EXPERIMENT), (80, "4-bit")])
def test_on_a_terminal_tables_fit_it(project, columns, name):
    """In a pseudo terminal, colour and all."""
    leader, follower = pty.openpty()
    environment = {**project.environment, "COLUMNS": str(columns), "TERM": "xterm"}
    command = [forked_python(), *project.command("-k", "4-bit")[1:]]
    with subprocess.Popen(
        command, cwd=project.folder, env=environment, stdin=follower, stdout=follower, stderr=follower
    ) as process:
        os.close(follower)
        output = b""
        while chunk := _read(leader):
            output += chunk
        assert process.wait(timeout=60) == 0
    os.close(leader)
    text = output.decode().replace("\r\n", "\n")
    assert "\x1b[" in text
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    tables = plain[plain.index("\nSpeed") : plain.index("\nno baseline for")]
    assert max(len(line) for line in tables.splitlines()) <= columns
    assert any(line.startswith(f"{name} ") for line in tables.splitlines())


def test_causes_of_failures_stand_whole_in_the_short_summary_and_nowhere_twice(project):
    project.bench_once("-k", "4-bit", "--benchmark-save=main")
    for _ in range(2):
        project.bench("-k", "4-bit", "--benchmark-save=main")
    project.use(FAKE_MODELS.replace("experiment, TIME)", "experiment, TIME, seconds_per_token=0.03)"))
    output = project.bench("-k", "4-bit", COLUMNS="80").output
    assert "= FAILURES" not in output
    (cause,) = [line for line in output.splitlines() if line.startswith("FAILED ")]
    assert f"[{EXPERIMENT}] - REGRESSED: " in cause
    assert not cause.endswith("...")
    assert output.count(f"{EXPERIMENT}: REGRESSED") == 1


def test_traceback_of_a_mistake_in_the_suite_is_shown(project):
    project.use(FAKE_MODELS.replace("FakeModel(experiment, TIME)", "1 / 0"))
    output = project.bench("-k", "4-bit").output
    assert "= FAILURES" in output or "= ERRORS" in output
    assert "ZeroDivisionError" in output


def test_run_that_becomes_a_baseline_does_not_ask_for_one(project):
    session = project.bench("-k", "4-bit", "--benchmark-save=main")
    assert "baseline saved: " in session.output
    assert "save one with" not in session.output


def test_keyword_selects_for_this_device_only(project):
    assert " skipped" not in project.bench("-k", "4-bit").output.splitlines()[-1]
    elsewhere = project.bench("-k", "llama2 and 4-bit")
    assert " skipped" in elsewhere.output.splitlines()[-1]
    assert elsewhere.exit_code == 12


def test_tests_for_another_device_say_what_to_type_instead(project):
    session = project.bench("-m", "t4 and llama2", "-k", "4-bit")
    (line,) = [each for each in session.output.splitlines() if each.startswith("nothing was measured: ")]
    assert "are for other devices than cpu" in line
    assert line.endswith(" benchmarks")
    assert markers_for(FakeGpu(family="h100"), "t4 and llama2") == "h100 and llama2"


def test_tests_that_are_skipped_for_another_reason_than_the_device_say_it(project):
    session = project.bench("-m", "distributed and embedded")
    (line,) = [each for each in session.output.splitlines() if each.startswith("nothing was measured: ")]
    assert line.startswith("nothing was measured: one process cannot be spread over several GPUs or CPUs; start two: ")
    assert session.exit_code == 12


def test_markdown_has_the_page_s_headline_and_keeps_causes_with_their_owner(project):
    project.bench_once("-k", "4-bit", "--benchmark-save=main")
    for _ in range(2):
        project.bench("-k", "4-bit", "--benchmark-save=main")
    project.use(FAKE_MODELS.replace("experiment, TIME)", "experiment, TIME, seconds_per_token=0.03)"))
    project.bench("-k", "4-bit")
    lines = (project.folder / "results" / "latest" / "report.md").read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith("**1 of 1 experiment regressed: ")
    verdict = next(number for number, line in enumerate(lines) if line.startswith(f"- {EXPERIMENT}: REGRESSED: "))
    assert lines[verdict + 1].startswith("  - ")


def _read(leader):
    try:
        return os.read(leader, 65_536)
    except OSError:  # Linux says so when the other side is closed
        return b""


# pytest-benchmark's own ----------------------------------------------------------------------------------------------


def test_histogram_is_drawn(project):
    project.bench("-k", "4-bit or 8-bit", "--benchmark-histogram=drawn/of")
    (path,) = (project.folder / "drawn").glob("*.svg")
    assert EXPERIMENT in "".join(ElementTree.parse(path).getroot().itertext())


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """A project in which two runs were stored, and the second copied to out/run.json."""
    made = make_project(tmp_path_factory.mktemp("two") / "project")
    made.bench("-k", "4-bit", "--benchmark-save=first")
    # Of two equal runs the second would not be stored.
    return made, made.bench("-k", "4-bit or 8-bit", "--benchmark-save=second", "--benchmark-json=out/run.json")


def compare(project, *arguments):
    """What pytest-benchmark's own command prints."""
    command = [sys.executable, "-m", "pytest_benchmark", *arguments]
    environment = project.environment
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=True, env=environment)
    return (done.stdout + done.stderr).splitlines()


def test_stored_runs_are_compared_written_as_csv_and_drawn(two_runs):
    project, session = two_runs
    storage = ("--storage", str(session.stored[0].parent))
    lines = compare(project, *storage, "compare", "0001", "0002", "--csv=compared.csv", "--histogram=compared")
    rows = [line for line in lines if f"test_summarize[{EXPERIMENT}]" in line]
    assert len(rows) == 2
    assert all("(1.0)" in row for row in rows)
    assert (project.folder / "compared.csv").read_text().count(EXPERIMENT) >= 2
    assert list(project.folder.glob("compared*.svg"))


def test_json_is_one_that_pytest_benchmark_compares(two_runs):
    project, session = two_runs
    copied = session.folder / "out" / "run.json"
    assert json.loads(copied.read_text()) == session.run
    assert any(f"test_summarize[{EXPERIMENT}]" in line for line in compare(project, "compare", str(copied)))


def test_lines_that_the_guide_shows_draw_the_documents_table(two_runs):
    """In a process of its own, as a reader would run them."""
    pytest.importorskip("matplotlib")
    project, _ = two_runs
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guide" / "reports.md").read_text(), flags=re.DOTALL)
    environment = project.environment | {"MPLBACKEND": "svg"}
    subprocess.run([sys.executable, "-c", lines], cwd=project.folder, check=True, env=environment, capture_output=True)
    assert EXPERIMENT in (project.folder / "seconds.svg").read_text()
