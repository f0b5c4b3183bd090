"""The sha256 of files.

Digests of large files are kept between sessions, so that 14 GB of weights are read once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from summarybench.core.cache import cache_folder
from summarybench.core.files import write_atomically

LEAST_REMEMBERED_BYTES = 16 * 1024**2
"""Smaller files are read every time, which takes milliseconds."""

SETTLING_SECONDS = 2.0
"""A file written this recently could be written again within one tick of its time stamps, and look unchanged."""

HASHED_AT_ONCE = 4

State = dict[str, str | int]
"""Identifies the content of a file without reading it."""

_known: dict[str, tuple[State, str]] = {}  # by resolved path; used if the cache folder cannot be written


def file_digests(paths: Iterable[Path]) -> list[str]:
    """The sha256 of each file's content, following symbolic links.

    Raises OSError if a file cannot be read.
    """
    with ThreadPoolExecutor(HASHED_AT_ONCE) as pool:  # hashing releases the interpreter lock
        return list(pool.map(file_digest, paths))


def file_digest(path: Path) -> str:
    """The sha256 of a file's content. Raises OSError if it cannot be read."""
    path = path.resolve()
    before = _state(path)
    if remembered := _remembered(path, before):
        return remembered
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _state(path) == before and _is_worth_remembering(before):
        _remember(path, before, digest)
    return digest


def _state(path: Path) -> State:
    """Identify a file's content, with its change time.

    `cp -p` and `rsync -t` set the modification time, but not the change time.
    """
    found = path.stat()
    return {
        "path": str(path),
        "size_bytes": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "inode": found.st_ino,
    }


def _is_worth_remembering(state: State) -> bool:
    newest_ns = max(int(state["mtime_ns"]), int(state["ctime_ns"]))
    is_settled = time.time_ns() - newest_ns > SETTLING_SECONDS * 1e9
    return is_settled and int(state["size_bytes"]) >= LEAST_REMEMBERED_BYTES


def _remembered(path: Path, state: State) -> str | None:
    known = _known.get(str(path)) or _read(path)
    if known is None or known[0] != state:
        return None
    return known[1]


def _read(path: Path) -> tuple[State, str] | None:
    """The record of an earlier session; None if there is none or it cannot be read."""
    try:
        record = json.loads(_record_path(path).read_text(encoding="utf-8"))
        return record["state"], str(record["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(path: Path, state: State, digest: str) -> None:
    _known[str(path)] = (state, digest)
    record = _record_path(path)
    with suppress(OSError):  # without a record, the next session reads the file again
        record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(record, json.dumps({"state": state, "sha256": digest}))


def _record_path(path: Path) -> Path:
    return cache_folder() / "digests" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
