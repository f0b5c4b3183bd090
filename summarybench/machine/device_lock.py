"""A lock per device.

A second session may run, but is warned that the figures of both suffer.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from summarybench.core.cache import cache_folder
from summarybench.machine.device import Device

MOST_BYTES = 65_536
"""Of the file that are read: more lines than sessions ever wait for one another."""


class DeviceLock:
    """A locked file in the user's cache folder.

    The lock ends with its process, however the process ends.

    `holder` describes the session that already uses the device. It is empty if there is none, and if the cache folder
    cannot be written.
    """

    def __init__(self, device: Device, results_folder: Path) -> None:
        self.holder = ""
        self._device = device
        self._descriptor: int | None = None
        try:
            self._take(cache_folder() / "locks" / f"{device.uuid or device.slug}.lock", results_folder)
        except OSError:  # the warning is lost, but measuring does not depend on the lock
            self.close()

    @property
    def warning(self) -> str:
        """One line for the user; empty if no other session uses the device."""
        return self._device.sharing_warning(self.holder) if self.holder else ""

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, path: Path, results_folder: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
        except BlockingIOError:
            self.holder = _described(os.pread(self._descriptor, MOST_BYTES, 0))
        # Every session keeps a shared lock, so that a third one is warned of the second when the first has ended.
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        mine = {"pid": os.getpid(), "results": str(results_folder.absolute())}
        os.write(self._descriptor, json.dumps(mine).encode() + b"\n")


def _described(content: bytes) -> str:
    """The session that wrote the last line, of those whose process is still there."""
    for line in reversed(content.splitlines()):
        try:
            holder = json.loads(line)
            os.kill(int(holder["pid"]), 0)
            return f"another session (process {holder['pid']}, {holder['results']})"
        except (ValueError, TypeError, KeyError, ProcessLookupError):  # not written whole, or ended
            continue
        except PermissionError:  # another user's
            return "another user's session"
    return "another session"
