"""The message for a Python that lacks the packages of the suite."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from summarybench.core.packages import NEEDED, why_not_this_python

ROOT = Path(__file__).parents[2]
OF_PYTEST = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments")


def test_this_python_has_all_packages():
    assert why_not_this_python([]) == ""


def test_missing_packages_are_named_as_pip_knows_them_and_the_command_is_quoted():
    said = why_not_this_python(
        ["benchmarks", "-m", "t4 and llama2"],
        find=lambda name: None if name in ("pynvml", "torch") else name,
        version=(3, 12, 4),
    )
    assert said == (
        f"{sys.executable} (Python 3.12.4) lacks the packages nvidia-ml-py, torch: run 'make setup' once, then "
        ".venv/bin/python -m pytest benchmarks -m 't4 and llama2'"
    )


def test_an_older_python_is_refused_before_its_packages_are():
    said = why_not_this_python([], find=lambda _: None, version=(3, 10, 13))
    assert said == (
        f"{sys.executable} (Python 3.10.13) is too old, and the suite needs Python 3.11 or newer: run 'make setup' once, then "
        ".venv/bin/python -m pytest"
    )


def test_pytest_of_another_python_ends_in_one_line(tmp_path):
    for name in OF_PYTEST:
        found = importlib.util.find_spec(name)
        assert found is not None
        origin = Path(str(found.origin))
        origin = origin.parent if origin.name == "__init__.py" else origin
        (tmp_path / origin.name).symlink_to(origin)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    found = subprocess.run(
        [sys.executable, "-S", "-m", "pytest", "benchmarks"],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = (found.stdout + found.stderr).strip().splitlines()
    assert found.returncode == pytest.ExitCode.USAGE_ERROR
    assert line.startswith(f"ERROR: {sys.executable} (Python ")
    missing = ", ".join(NEEDED.values())
    assert line.endswith(
        f" lacks the packages {missing}: run 'make setup' once, then .venv/bin/python -m pytest benchmarks"
    )
