"""One session at a time on one device: a second one is not stopped, but told what that does to its figures."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from summarybench.core.cache import cache_folder
from summarybench.machine.device import Device


class DeviceLock:
    """A file in the user's cache folder, locked while its session lives: the lock goes with the process, whatever ends it.

    `holder` names the session that had the device before this one, and is empty where there is none, or where that
    cannot be known because the cache folder cannot be written.
    """

    def __init__(self, device: Device, results_folder: Path) -> None:
        self.holder = ""
        self._device = device
        self._descriptor: int | None = None
        try:
            self._take(cache_folder() / "locks" / f"{device.uuid or device.slug}.lock", results_folder)
        except OSError:  # measuring does not depend on it
            self.close()

    @property
    def warning(self) -> str:
        """One line for the user; empty where this session is alone."""
        return self._device.sharing_warning(self.holder) if self.holder else ""

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self, path: Path, results_folder: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.holder = _described(os.pread(self._descriptor, 4096, 0))
            return
        os.ftruncate(self._descriptor, 0)
        holder = {"pid": os.getpid(), "results": str(results_folder.absolute())}
        os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)


def _described(content: bytes) -> str:
    try:
        holder = json.loads(content)
        return f"another session (process {holder['pid']}, {holder['results']})"
    except (ValueError, TypeError, KeyError):  # it has the lock and has not yet written who it is
        return "another session"
