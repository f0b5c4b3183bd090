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

EXPERIMENT = "smollm2-135m-instruct-4-bit"


def test_quiet_session_is_one_line_a_verdict(project):
    quiet = project.bench("-q", "-k", "4-bit or 8-bit").output.splitlines()
    told = [line for line in quiet if line.startswith("smollm2") or ": " in line]
    assert [line.partition(";")[0] for line in told[:2]] == [
        f"smollm2-135m-instruct-{loader}: NO BASELINE: no baseline for 'smollm2-135m-instruct-{loader}' on '"
        + told[0].split(" on '")[1].partition("'")[0]
        + "'"
        for loader in ("8-bit", "4-bit")
    ]
    assert [line.partition(": ")[0] for line in told[2:]] == ["run"]


def test_session_ends_with_what_to_do_next_and_a_page_that_is_there(project):
    session = project.bench("-k", "4-bit")
    (folder,) = [path for path in (session.folder / "results").iterdir() if not path.is_symlink()]
    adopt = f"make adopt RUN=results/{folder.name} NAME=main"
    lines = session.output.splitlines()
    assert f"next: let this run be the baseline of {EXPERIMENT}: {adopt}" in lines
    assert f"report: results/{folder.name}/report.md" in lines
    page = (folder / "report.md").read_text()
    assert page.startswith("## Clean: nothing regressed (exit code 0)\n")
    links = re.findall(r"\]\((.+?)\)", page)
    assert links == ["documents.parquet", "run.json"]
    assert all((folder / name).is_file() for name in links)


@pytest.mark.parametrize(("columns", "name"), [(100, EXPERIMENT), (80, "embedded 4-bit")])
def test_on_a_terminal_tables_fit_it(project, columns, name):
    """In a pseudo terminal, colour and all."""
    leader, follower = pty.openpty()
    environment = {**project.environment, "COLUMNS": str(columns), "TERM": "xterm"}
    command = project.command("-k", "4-bit")
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


def _read(leader):
    try:
        return os.read(leader, 65_536)
    except OSError:  # Linux says so when the other side is closed
        return b""


# pytest-benchmark's own ----------------------------------------------------------------------------------------------


def test_histogram_is_drawn(project):
    project.bench("-k", "4-bit or 8-bit", "--benchmark-histogram=drawn/of")
    (path,) = (project.folder / "drawn").glob("*.svg")
    assert EXPERIMENT in "".join(ElementTree.parse(path).getroot().itertext())  # noqa: S314


def test_stored_runs_are_compared_written_as_csv_and_drawn(project):
    for name in ("first", "second"):
        session = project.bench("-k", "4-bit", f"--benchmark-save={name}")
    folder = session.stored[0].parent
    command = [sys.executable, "-m", "pytest_benchmark", "--storage", str(folder), "compare", "0001", "0002"]
    asked = [*command, "--csv=compared.csv", "--histogram=compared"]
    done = subprocess.run(
        asked, cwd=project.folder, capture_output=True, text=True, check=True, env=project.environment
    )
    rows = [line for line in (done.stdout + done.stderr).splitlines() if f"test_summarize[{EXPERIMENT}]" in line]
    assert len(rows) == 2
    assert all("(1.0)" in row for row in rows)
    assert (project.folder / "compared.csv").read_text().count(EXPERIMENT) >= 2
    assert list(project.folder.glob("compared*.svg"))


def test_json_is_one_that_pytest_benchmark_compares(project):
    session = project.bench("-k", "4-bit", "--benchmark-json=out/run.json")
    copied = session.folder / "out" / "run.json"
    assert json.loads(copied.read_text()) == session.run
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(copied)]
    done = subprocess.run(
        command, cwd=project.folder, capture_output=True, text=True, check=True, env=project.environment
    )
    assert f"test_summarize[{EXPERIMENT}]" in done.stdout + done.stderr
