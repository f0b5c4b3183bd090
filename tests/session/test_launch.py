"""How a session of the benchmarks is started in a checkout, and from any other folder."""

from __future__ import annotations

import sys
from configparser import ConfigParser

import pytest

from summarybench.core.invocation import StartedBy
from summarybench.session.launch import HOME, INSTALLED_INI, pytest_command, pytest_environment, typed_arguments
from tests.forked import ROOT

ARGUMENTS = ("-k", "4-bit or 8-bit", "benchmarks")


def test_checkout_runs_its_own_benchmarks(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert pytest_command(ARGUMENTS) == [sys.executable, "-m", "pytest", "benchmarks", *ARGUMENTS]


@pytest.mark.parametrize("name", ["benchmarks", "fixtures"])
def test_any_other_folder_gets_those_beside_the_library_whatever_folders_it_has(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    command = pytest_command(ARGUMENTS)
    assert command[:4] == [sys.executable, "-P", "-m", "pytest"]
    assert command[-4:] == [str(HOME / "benchmarks"), *ARGUMENTS]
    assert HOME == ROOT
    assert {"-c", str(INSTALLED_INI), f"--rootdir={HOME}", f"cache_dir={tmp_path}/.pytest_cache"} <= set(command)


@pytest.mark.parametrize("is_checkout", [True, False])
def test_arguments_that_were_typed_are_those_that_were_not_added(is_checkout, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT if is_checkout else tmp_path)
    of_pytest = pytest_command(ARGUMENTS)
    of_pytest = of_pytest[of_pytest.index("pytest") + 1 :]
    assert typed_arguments(of_pytest, StartedBy.COMMAND_LINE) == ARGUMENTS
    assert typed_arguments(of_pytest, StartedBy.MAKE) == ARGUMENTS
    assert typed_arguments(of_pytest, StartedBy.PYTEST) == tuple(of_pytest)


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "summarybench"), ({"SUMMARYBENCH_STARTED_BY": "make"}, "make")], ids=["hand", "make"]
)
def test_session_learns_what_was_typed(given, expected):
    assert pytest_environment({"A": "1", **given}) == {"A": "1", "SUMMARYBENCH_STARTED_BY": expected}


def test_installed_configuration_is_that_of_the_checkout():
    found = {}
    for path in (ROOT / "pytest.ini", INSTALLED_INI):
        ini = ConfigParser(interpolation=None)
        ini.read(path, encoding="utf-8")
        found[path] = {key: value.split("\n") for key, value in ini["pytest"].items() if key != "testpaths"}
    assert found[INSTALLED_INI] == found[ROOT / "pytest.ini"], "copy what has changed from pytest.ini"
