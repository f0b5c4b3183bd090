"""What a check of `summarybench doctor` finds, and how a check that raises or takes too long becomes a finding too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from summarybench.core.outcomes import first_line

T = TypeVar("T")


class State(StrEnum):
    OK = "ok"
    FAIL = "FAIL"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found: `seen` is the value, `remedy` what to do about it, empty unless it failed."""

    name: str
    state: State
    seen: str
    remedy: str = ""


def ok(name: str, seen: str) -> Finding:
    return Finding(name=name, state=State.OK, seen=seen)


def fail(name: str, seen: str, remedy: str) -> Finding:
    return Finding(name=name, state=State.FAIL, seen=seen, remedy=remedy)


def skip(name: str, seen: str) -> Finding:
    return Finding(name=name, state=State.SKIP, seen=seen)


def attempt(name: str, check: Callable[[], Finding]) -> Finding:
    """The check's finding; a failed one that names the fault where the check itself raises."""
    try:
        return check()
    except Exception as error:
        seen = f"could not be checked: {type(error).__name__}: {first_line(error)}"
        return fail(name, seen, "run 'make setup'; if it stays, it is a fault of summarybench/commands/doctor.py")


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises; TimeoutError if it takes longer, and it is left to itself."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
