"""`make setup` installs the command `summarybench`, which runs the checkout's own code."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.forked import ROOT
from tests.project.test_wheel import copy_of_the_checkout

RUN_SCRIPT = """
import runpy
import site
import sys

packages, script = sys.argv[1:3]
sys.argv = [script]
site.addsitedir(packages)  # reads the .pth file of the editable install
try:
    runpy.run_path(script, run_name="__main__")
finally:
    import summarybench
    print(summarybench.__file__)
"""


def environment():
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MAKEFLAGS")}


def install_command():
    """The line of the Makefile that installs the checkout into .venv, for this Python."""
    plan = subprocess.run(
        ["make", "--dry-run", "--always-make", "setup", f"PY={sys.executable}"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [line for line in plan.stdout.splitlines() if "--editable" in line]
    return shlex.split(line)


def test_setup_installs_the_command_for_the_code_of_the_checkout(tmp_path):
    checkout = copy_of_the_checkout(tmp_path / "checkout")
    command = [*install_command(), "--ignore-installed", "--prefix", str(tmp_path / "venv")]
    installed = subprocess.run(
        command, cwd=checkout, env={**environment(), "PIP_NO_INDEX": "1"}, capture_output=True, text=True, check=False
    )
    assert installed.returncode == 0, installed.stderr
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    script = tmp_path / "venv" / "bin" / "summarybench"
    # -S: this Python may have an editable install of its own, which would be found first.
    listed = subprocess.run(
        [sys.executable, "-S", "-c", RUN_SCRIPT, str(packages), str(script)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert listed.returncode == 0, listed.stderr
    *lines, source = listed.stdout.splitlines()
    assert any(line.split()[:1] == ["compare"] for line in lines), listed.stdout
    assert Path(source).is_relative_to(checkout)
