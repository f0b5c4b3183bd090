"""Commands that are printed can be typed as they are printed, in a shell where the process was started."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from summarybench.core import invocation
from summarybench.core.invocation import MAKE_TARGETS, STARTED_BY, Invocation, StartedBy, this_invocation
from tests.forked import ROOT

WORDS = ("results/a run", "it's", 'a "b"', "$HOME", "a\\b", "`id`", "a;b", "c,d", "a#b", "ä", "-k", "x or y")
"""What a shell or make would take apart or replace."""

RECORDER = """#!{python}
import json, sys
print(json.dumps(sys.argv[1:]))
"""


@pytest.fixture
def recorder(tmp_path):
    """A program that prints its arguments as JSON."""
    path = tmp_path / "a recorder"
    path.write_text(RECORDER.format(python=sys.executable))
    path.chmod(0o700)
    return path


def in_a_shell(line, **environment):
    done = subprocess.run(
        ["bash", "-c", line], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def invoked(started_by, python="python", scripts=frozenset()):
    return Invocation(started_by=started_by, python=str(python), scripts=scripts)


def test_command_of_a_program_that_the_shell_finds_has_its_name():
    typed = invoked(StartedBy.COMMAND_LINE, scripts=frozenset({"summarybench"}))
    assert typed.command("adopt", "results/latest", "main") == "summarybench adopt results/latest main"


def test_command_of_any_other_python_reaches_it_with_its_arguments_whole(recorder):
    line = invoked(StartedBy.COMMAND_LINE, recorder).command("adopt", *WORDS)
    assert in_a_shell(line) == ["-m", "summarybench", "adopt", *WORDS]


def test_benchmarks_of_pytest_are_pytest_again(recorder):
    line = invoked(StartedBy.PYTEST, recorder).benchmarks("benchmarks", *WORDS)
    assert in_a_shell(line) == ["-m", "pytest", "benchmarks", *WORDS]


@pytest.mark.parametrize("name", MAKE_TARGETS)
def test_command_through_make_reaches_the_same_command_with_its_arguments_whole(name, recorder):
    count = len(MAKE_TARGETS[name].variables)
    words = (*WORDS[:count], "--option", *WORDS)
    line = invoked(StartedBy.MAKE).command(name, *words).replace("make ", f"make -C {ROOT} -s ", 1)
    made = in_a_shell(f"{line} INSTALLED=pytest.ini --assume-old=pytest.ini PY='\"{recorder}\"'", MAKEFLAGS="")
    extra = ["--runs", "5"] if name == "noise" else []  # the Makefile's own default
    assert made == ["-m", "summarybench", name, *extra, *words]


@pytest.mark.parametrize(
    ("name", "words", "line"),
    [
        ("bench", ("-k", "4-bit"), "make bench ARGS='-k 4-bit'"),
        ("adopt", ("results/latest", "main"), "make adopt RUN=results/latest NAME=main"),
        ("adopt", ("--help",), "make adopt ARGS=--help"),
        ("compare", ("results/latest",), "make compare RUN=results/latest"),
        ("docs", (), "make readme"),
    ],
)
def test_make_targets_have_their_variables(name, words, line):
    assert invoked(StartedBy.MAKE).command(name, *words) == line


@pytest.mark.parametrize(
    ("said", "expected"),
    [("make", "make"), ("summarybench", "summarybench"), ("", "pytest"), ("another", "pytest"), (None, "pytest")],
)
def test_environment_says_what_started_this_process(monkeypatch, said, expected):
    monkeypatch.delenv(STARTED_BY, raising=False)
    if said is not None:
        monkeypatch.setenv(STARTED_BY, said)
    assert this_invocation(StartedBy.PYTEST).started_by == expected


@pytest.fixture
def environment_of(tmp_path, monkeypatch):
    """Let this process be a Python in tmp_path/venv/bin, beside which these scripts lie; PATH has that folder or not."""

    def made(*scripts, on_path):
        folder = tmp_path / "venv" / "bin"
        folder.mkdir(parents=True)
        for name in ("python", *scripts):
            (folder / name).touch(0o700)
        monkeypatch.setattr(invocation.sys, "executable", str(folder / "python"))
        monkeypatch.setenv("PATH", str(folder) if on_path else "/usr/bin")
        monkeypatch.chdir(tmp_path)
        return this_invocation()

    return made


def test_programs_of_an_active_environment_are_typed_by_name(environment_of):
    found = environment_of("summarybench", "pytest", on_path=True)
    assert found.program("summarybench", "--version") == "summarybench --version"
    assert found.program("pytest") == "pytest"
    assert found.program("distillation") == "python -m distillation"


def test_programs_of_an_environment_that_is_not_active_are_its_python_s_modules(environment_of):
    found = environment_of("summarybench", on_path=False)
    assert found.program("summarybench", "--version") == "venv/bin/python -m summarybench --version"


def test_program_of_another_environment_is_not_taken_for_this_one_s(environment_of, tmp_path, monkeypatch):
    environment_of(on_path=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summarybench").touch(0o700)
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    assert this_invocation().program("summarybench") == "venv/bin/python -m summarybench"
