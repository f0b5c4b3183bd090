"""Ctrl-C, SIGTERM and SIGHUP in a session.

They end a session, but do not interrupt the writing of its results.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
QUICK_SUCCESSION_SECONDS = 1.0
"""Faster repetitions count as one signal: a launcher repeats the terminal's Ctrl-C, and people press it twice."""
LONGEST_CLOSING_SECONDS = 10.0
"""Writing the results takes a few seconds. After this time, Ctrl-C ends the process even so."""


class SessionTerminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP. pytest and libraries treat it like Ctrl-C."""


class Interrupts:
    """Turns signals into KeyboardInterrupt until the session closes.

    After that it only records them in `received`.

    A signal that the process ignores, as under nohup, stays ignored.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, end_at_once: Callable[[int], None] | None = None
    ) -> None:
        self.received: signal.Signals | None = None
        self._now = now
        self._end_at_once = end_at_once or _die_of
        self._raised_at: float | None = None
        self._closing_since: float | None = None
        self._earlier_handlers: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Install the handlers, which is possible only in Python's main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._earlier_handlers[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        while self._earlier_handlers:
            number, handler = self._earlier_handlers.popitem()
            signal.signal(number, handler)

    def hold(self) -> None:
        """Stop raising, because the session is closing."""
        if self._closing_since is None:
            self._closing_since = self._now()

    def _handle(self, number: int, _: object) -> None:
        now = self._now()
        self.received = self.received or signal.Signals(number)
        if self._closing_since is not None:
            if number == signal.SIGINT and now - self._closing_since > LONGEST_CLOSING_SECONDS:
                self._end_at_once(number)
            return
        if self._raised_at is not None and now - self._raised_at < QUICK_SUCCESSION_SECONDS:
            return
        self._raised_at = now
        raise KeyboardInterrupt if number == signal.SIGINT else SessionTerminated(signal.Signals(number).name)


def _die_of(number: int) -> None:
    """End the process as the signal does by default."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
