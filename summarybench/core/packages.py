"""Packages that every session needs. Only the standard library is imported here, so that any Python can run the check."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

LEAST_PYTHON = (3, 11)
NEEDED = {
    "accelerate": "accelerate",
    "jinja2": "Jinja2",
    "msgspec": "msgspec",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "pynvml": "nvidia-ml-py",
    "pytest_benchmark": "pytest-benchmark",
    "regex": "regex",
    "rich": "rich",
    "scipy": "scipy",
    "torch": "torch",
    "transformers": "transformers",
}
"""The packages without which no session runs, by the name that is imported."""
PROJECT_PYTHON = ".venv/bin/python"
"""The Python of a checkout that `make setup` installs the packages for."""
IS_CHECKOUT = (Path(__file__).parents[2] / "Makefile").is_file()


def why_not_this_python(
    arguments: Sequence[str],
    *,
    find: Callable[[str], object] = find_spec,
    version: tuple[int, ...] = sys.version_info[:3],
) -> str:
    """Why this Python cannot run the suite, and how pytest is started with these arguments; empty if it can."""
    this = f"{sys.executable} (Python {'.'.join(map(str, version))})"
    remedy = f"run 'make setup' once, then {PROJECT_PYTHON} -m pytest {shlex.join(arguments)}".rstrip()
    if not IS_CHECKOUT:
        remedy = "install the suite with its dependencies in an environment, and start pytest there"
    if version < LEAST_PYTHON:
        return f"{this} is too old, and the suite needs Python {'.'.join(map(str, LEAST_PYTHON))} or newer: {remedy}"
    missing = [package for module, package in NEEDED.items() if find(module) is None]
    if not missing:
        return ""
    noun = "the package" if len(missing) == 1 else "the packages"
    return f"{this} lacks {noun} {', '.join(missing)}: {remedy}"
