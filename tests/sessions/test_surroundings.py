"""Sessions where the surroundings are unusual: file systems, home folders, variables and other plugins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from summarybench.core.files import write_exclusively
from summarybench.runs.baselines import find_stored, read_baselines
from tests.conftest import FAKE_MODELS

FOUR_BIT = ("-k", "4-bit")
TWO_RUNS = ("4-bit", "4-bit or 8-bit")
"""Of two runs with equal fake measurements, the second is not stored."""

NO_LINKS = """
    import os

    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    os.link = refuse
"""
"""As on exFAT and some network file systems."""

RERUNS = """
    def pytest_addoption(parser):
        parser.addoption("--reruns", type=int)
"""
"""What the suite sees of pytest-rerunfailures."""


def test_baselines_are_saved_where_there_are_no_hard_links(project):
    project.use(FAKE_MODELS + NO_LINKS)
    for selected in TWO_RUNS:
        assert project.bench("-k", selected, "--benchmark-save=main").exit_code == 0
    session = project.bench(*FOUR_BIT)
    assert [path.name for path in session.stored] == ["0001_main.json", "0002_main.json"]
    assert session.infos["4-bit"]["change"]["documents"] == 8


def test_a_file_is_not_replaced_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    write_exclusively(tmp_path / "a", "first")
    with pytest.raises(FileExistsError):
        write_exclusively(tmp_path / "a", "second")
    assert (tmp_path / "a").read_text() == "first"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize("option", ["--results-dir=~/res", "--benchmark-storage=file://~/store"])
def test_a_tilde_in_an_option_is_the_home_folder(project, tmp_path, option):
    home = tmp_path / "home"
    session = project.bench(*FOUR_BIT, option, "--benchmark-save=main", HOME=str(home))
    assert session.exit_code == 0
    assert not (project.folder / "~").exists()
    assert any(home.glob("res/*/run.json" if "res" in option else "store/*/0001_main.json"))


def test_a_launcher_s_empty_variable_is_no_launcher(project):
    assert project.bench(*FOUR_BIT, WORLD_SIZE="", RANK="").exit_code == 0


def test_a_launcher_s_variable_that_is_no_number_is_one_line(project, one_error_line):
    line = one_error_line(project.bench(*FOUR_BIT, WORLD_SIZE="two"))
    assert "WORLD_SIZE=two" in line


def test_repeated_attempts_are_refused_as_parallel_ones_are(project, one_error_line):
    (project.folder / "reruns.py").write_text(RERUNS.replace("\n    ", "\n"))
    session = project.bench(*FOUR_BIT, "-p", "reruns", "--reruns", "2", PYTHONPATH=f"{project.folder}:{Path.cwd()}")
    assert "--reruns would hide regressions" in one_error_line(session)
    assert session.exit_code == 4
    assert not (project.folder / "results").exists()


def test_without_a_home_folder_the_cache_is_a_temporary_folder(tmp_path):
    code = (
        "import os; os.environ.pop('HOME', None); os.environ.pop('XDG_CACHE_HOME', None); os.getuid = lambda: 54321\n"
        "from summarybench.core.cache import cache_folder; print(cache_folder())"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == tmp_path / "llm-summarization-benchmarks-54321"


def test_summaries_are_scored_without_a_home_folder(tmp_path):
    """nltk, whose stemmer German has, asks for a home folder."""
    code = (
        "import os; os.environ.pop('HOME', None); os.getuid = lambda: 54321\n"
        "from summarybench.core.home import provide_home; provide_home()\n"
        "from summarybench.analysis.rouge import rouge_f1; from summarybench.documents.languages import LANGUAGES\n"
        "print(rouge_f1('a b', 'a b', language=LANGUAGES['de'])['rouge1'], os.environ['HOME'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    score, home = done.stdout.split()
    assert score == "1.0"
    assert Path(home).parent == tmp_path
    assert not (tmp_path / "~").exists()


def test_two_runs_of_one_number_are_ordered_by_date_and_named(project):
    """Two branches stored a run each, and were merged."""
    first, second = (project.bench("-k", selected, "--benchmark-save=x").stored[-1] for selected in TWO_RUNS)
    first.rename(first.with_name("0001_b.json"))  # the older one comes last by name
    second.rename(first.with_name("0001_a.json"))
    baselines = read_baselines(first.parent)
    assert [stored.path.name for stored in baselines.runs] == ["0001_b.json", "0001_a.json"]
    assert find_stored(baselines.runs, "a").path.name == "0001_a.json"
    session = project.bench(*FOUR_BIT, "--benchmark-compare=0001")
    assert "0001 is the number of 2 stored runs: 0001_b.json, 0001_a.json; name one of these files" in session.output
    assert session.exit_code == 4
