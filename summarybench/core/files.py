"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from summarybench.core.outcomes import InputError


def write_atomically(path: Path, text: str) -> None:
    """Write `path` whole or not at all: temporary name, fsync, rename. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_through(temporary, text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_where_asked(path: Path, text: str) -> None:
    """`write_atomically` for a path that somebody chose, its folder made. Raises InputError where the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def write_exclusively(path: Path, text: str) -> None:
    """Like `write_atomically`, but never over an existing file: raises FileExistsError then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_through(temporary, text)
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_through(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # a killed process of the same id may have left one, linked to the file it stored
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
