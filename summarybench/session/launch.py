"""How a process starts a session of the benchmarks: in a checkout, and where the package is installed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from summarybench.core.invocation import STARTED_BY, StartedBy

BENCHMARKS = "benchmarks"
HOME = Path(__file__).parents[2]
"""The folder that holds `summarybench`, `fixtures` and `benchmarks`: a checkout, or an environment's site-packages."""
INSTALLED_INI = HOME / "fixtures" / "installed.ini"
"""What pytest.ini says, for sessions that are not started in a checkout: their results lie in the current folder."""


def pytest_command(arguments: Sequence[str]) -> list[str]:
    """The command of a session with these arguments for pytest, from the current folder."""
    if is_checkout(Path.cwd()):
        return [sys.executable, "-m", "pytest", *_found_by(Path.cwd()), *arguments]
    # -P: a folder `fixtures` or `benchmarks` that happens to be in the current folder is not imported.
    return [sys.executable, "-P", "-m", "pytest", *_found_by(Path.cwd()), *arguments]


def pytest_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for that command: the session learns that it was not started by pytest."""
    return {STARTED_BY: StartedBy.COMMAND_LINE, **environment}


def typed_arguments(arguments: Sequence[str], started_by: StartedBy) -> tuple[str, ...]:
    """The arguments of this session as the user gave them: without those that `pytest_command` has put before them."""
    added = [] if started_by is StartedBy.PYTEST else _found_by(Path.cwd())
    return tuple(arguments[len(added) :] if list(arguments[: len(added)]) == added else arguments)


def is_checkout(folder: Path) -> bool:
    return (folder / "pytest.ini").is_file() and (folder / BENCHMARKS / "test_summarize.py").is_file()


def _found_by(here: Path) -> list[str]:
    """The arguments by which pytest finds the benchmarks and the plugin.

    A test's id begins with the path below --rootdir, and stored runs have such ids: it is the folder of `benchmarks`.
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
