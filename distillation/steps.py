"""Steps that are skipped if their output exists and their inputs are unchanged."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from summarybench.core.files import write_atomically
from summarybench.core.outcomes import InputError, first_line

STEPS_FILE = "steps.json"
SCHEMA = 1

Inputs = Mapping[str, Any]
Make = Callable[[Path], Mapping[str, Any]]
"""Makes a step's output at the given path, and returns facts about it: plain JSON types."""


def fingerprint(inputs: Inputs) -> str:
    """A short hash of a step's inputs, which are plain JSON types."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


class Steps:
    """The finished steps of one output folder, kept in its steps.json.

    The file is created in a new or empty folder.

    Raises InputError if the folder holds anything else, or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / STEPS_FILE
        self._finished: dict[str, dict[str, Any]] = _read(self._path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():
                self._write()
        except OSError as error:
            raise InputError(f"--out {folder}: cannot be written ({error.strerror}); name a writable folder") from error

    def run(self, name: str, inputs: Inputs, output: Path, make: Make) -> bool:
        """Make `output` unless it exists, and return whether it was made now.

        It exists if this step has made it from the same inputs before.

        The facts that `make` returns are kept: see `facts`.
        """
        if self.is_done(name, inputs, output):
            return False
        mark, before = fingerprint(inputs), self._finished.get(name, {})
        spent = before.get("seconds", 0.0) if before.get("inputs") == mark else 0.0
        if before.get("inputs") != mark:
            _remove(output)
        start = time.monotonic()
        self._finished[name] = {"inputs": mark, "seconds": spent}
        self._write()
        try:
            facts = make(output)
        finally:
            self._finished[name]["seconds"] = spent + time.monotonic() - start
            self._write()
        self._finished[name]["facts"] = dict(facts)
        self._write()
        return True

    def is_done(self, name: str, inputs: Inputs, output: Path) -> bool:
        """Whether the step has made `output` from these inputs before."""
        before = self._finished.get(name, {})
        return before.get("inputs") == fingerprint(inputs) and "facts" in before and output.exists()

    def facts(self, name: str) -> Mapping[str, Any]:
        """What a finished step recorded about its output."""
        return dict(self._finished[name]["facts"])

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each step took, over all attempts, without those that were killed."""
        return {name: float(step["seconds"]) for name, step in self._finished.items()}

    def _write(self) -> None:
        write_atomically(self._path, json.dumps({"schema": SCHEMA, "steps": self._finished}, indent=1) + "\n")


def check_out_folder(folder: Path) -> None:
    """Raises InputError if `folder` exists and holds anything but an earlier run."""
    _read(folder / STEPS_FILE)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    folder = path.parent
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"--out {folder}: exists and was not made by this command; name a new folder, or one that this command made"
            )
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            raise ValueError(f"it has schema {found['schema']}, and this version reads schema {SCHEMA}")
        return {str(name): dict(step) for name, step in found["steps"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); name another folder with --out") from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
