"""The clock of a session."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Seconds since an arbitrary moment.

    The clock waits until the device has finished all queued work.

    Tests replace `synchronize` and `read_seconds`.
    """

    def __init__(self, synchronize: Callable[[], None], read_seconds: Callable[[], float] = time.perf_counter) -> None:
        self._synchronize = synchronize
        self._read_seconds = read_seconds

    def __call__(self, wait: Callable[[], None] | None = None) -> float:
        """The seconds now. With `wait`, which waits for a part of the queued work, the rest is not waited for."""
        (self._synchronize if wait is None else wait)()
        return self._read_seconds()

    @property
    def of_host(self) -> Clock:
        """The same clock without waiting for the device: what runs in another process cannot be waited for."""
        return Clock(lambda: None, self._read_seconds)
