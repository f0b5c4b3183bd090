"""Ctrl-C, SIGTERM and SIGHUP in a session: they end it, and never the writing of what it leaves behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
QUICK_SUCCESSION_SECONDS = 1.0
"""Signals that follow each other faster are one wish: a launcher repeats the terminal's Ctrl-C, and people press it twice."""
PATIENCE_SECONDS = 10.0
"""Writing the results takes a few seconds. If it hangs, Ctrl-C ends it after this time."""


class SessionTerminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: pytest and libraries treat it as Ctrl-C."""


class Interrupts:
    """Turns signals into KeyboardInterrupt until the session closes; from then on they are only noted in `received`.

    A process that ignores a signal, as nohup has it, goes on ignoring it.
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
        """Handle the signals; only Python's main thread can."""
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
        """The session is closing: raise no more."""
        if self._closing_since is None:
            self._closing_since = self._now()

    def _handle(self, number: int, _: object) -> None:
        now = self._now()
        self.received = self.received or signal.Signals(number)
        if self._closing_since is not None:
            if number == signal.SIGINT and now - self._closing_since > PATIENCE_SECONDS:
                self._end_at_once(number)
            return
        if self._raised_at is not None and now - self._raised_at < QUICK_SUCCESSION_SECONDS:
            return
        self._raised_at = now
        raise KeyboardInterrupt if number == signal.SIGINT else SessionTerminated(signal.Signals(number).name)


def _die_of(number: int) -> None:
    """What the signal does to a process that does not handle it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
