"""Writing files atomically."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from summarybench.core.outcomes import InputError

READABLE_BY_ALL = 0o644
"""The mode of files that git keeps, whatever the umask of who writes them."""


def write_atomically(path: Path, text: str | Iterable[str], *, mode: int | None = None) -> None:
    """Write `path` completely or not at all, with this mode or the umask's. Raises OSError.

    It writes a temporary file, calls fsync, and renames the file. A long text may come in parts, which are never all in memory.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_through(temporary, (text,) if isinstance(text, str) else text, mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_where_asked(path: Path, text: str | Iterable[str]) -> None:
    """Write a file that the user asked for, and its folder. A long text may come in parts.

    Raises InputError if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def write_exclusively(path: Path, text: str, *, mode: int | None = None) -> None:
    """Like `write_atomically`, but raises FileExistsError instead of replacing a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_through(temporary, (text,), mode)
        _link(temporary, path, text, mode)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path, text: str, mode: int | None) -> None:
    """Give the written file its name. Raises FileExistsError instead of replacing a file.

    A file system without hard links, such as exFAT, gets a second file that is created exclusively.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        with path.open("x", encoding="utf-8") as file:
            try:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                path.unlink(missing_ok=True)
                raise


def _write_through(path: Path, parts: Iterable[str], mode: int | None) -> None:
    path.unlink(
        missing_ok=True
    )  # a killed process with the same id may have left one, hard-linked to the file that it stored
    with path.open("w", encoding="utf-8") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
