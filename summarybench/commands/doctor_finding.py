"""Findings of `summarybench doctor`, also for checks that raise or take too long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from summarybench.core.outcomes import first_line


class State(StrEnum):
    OK = "ok"
    FAIL = "FAIL"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check: the value seen, and a remedy if it failed."""

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
    """The check's finding; if the check raises, a failed finding with the error."""
    try:
        return check()
    except Exception as error:
        seen = f"could not be checked: {type(error).__name__}: {first_line(error)}"
        return fail(name, seen, "run 'make setup'; if that does not help, report it as a bug of 'summarybench doctor'")
