"""How a session is started, in a checkout or with the installed package."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from summarybench.core.invocation import STARTED_BY, StartedBy, this_invocation
from summarybench.machine.device import Device
from summarybench.machine.families import FAMILIES

BENCHMARKS = "benchmarks"
HOME = Path(__file__).parents[2]
"""The folder that holds `summarybench`, `fixtures` and `benchmarks`: a checkout, or an environment's site-packages."""
INSTALLED_INI = HOME / "fixtures" / "installed.ini"
"""Replaces pytest.ini for sessions that do not start in a checkout. Their results go into the current folder."""


def pytest_command(arguments: Sequence[str]) -> list[str]:
    """The command that starts a session with these arguments for pytest.

    It is to be run in the current folder.
    """
    if is_checkout(Path.cwd()):
        return [sys.executable, "-m", "pytest", *_found_by(Path.cwd()), *arguments]
    # -P: Python must not import a folder `fixtures` or `benchmarks` that happens to be in the current folder.
    return [sys.executable, "-P", "-m", "pytest", *_found_by(Path.cwd()), *arguments]


def pytest_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for that command.

    It tells the session that the user did not type pytest.
    """
    return {STARTED_BY: StartedBy.COMMAND_LINE, **environment}


def typed_arguments(arguments: Sequence[str], started_by: StartedBy) -> tuple[str, ...]:
    """The arguments of this session as the user typed them.

    Those that `pytest_command` has added in front are removed.
    """
    added = [] if started_by is StartedBy.PYTEST else _found_by(Path.cwd())
    return tuple(arguments[len(added) :] if list(arguments[: len(added)]) == added else arguments)


def command_for(device: Device, markers: str, *options: str) -> str:
    """The command that measures on this device what the expression `markers` of -m selects for another."""
    own = markers_for(device, markers)
    return this_invocation(StartedBy.PYTEST).benchmarks(BENCHMARKS, *(("-m", own) if own else ()), *options)


def markers_for(device: Device, expression: str) -> str:
    """The expression of -m with this device's family in place of others. A CPU runs what it can without any."""
    if device.is_host:
        return ""
    return re.sub(r"[A-Za-z_]\w*", lambda word: device.family if word[0] in FAMILIES else word[0], expression)


def is_checkout(folder: Path) -> bool:
    return (folder / "pytest.ini").is_file() and (folder / BENCHMARKS / "test_summarize.py").is_file()


def _found_by(here: Path) -> list[str]:
    """The arguments that pytest needs to find the benchmarks and the plugin.

    A test's id begins with its path below --rootdir. Stored runs have ids that begin with `benchmarks`, so --rootdir is the
    folder that holds it.
    """
    if is_checkout(here):
        return [BENCHMARKS]
    return [
        *("-c", str(INSTALLED_INI)),
        f"--rootdir={HOME}",
        *("-p", "fixtures.plugin"),
        *("-o", f"cache_dir={here / '.pytest_cache'}"),
        str(HOME / BENCHMARKS),
    ]
