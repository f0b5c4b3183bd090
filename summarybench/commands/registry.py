"""The commands of `summarybench`. A module is imported when its command is asked for, and no earlier."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import cast

from summarybench.commands.command import Command
from summarybench.core.outcomes import InputError


class Group(StrEnum):
    """What a command is for; the order is that of the help."""

    USE = "use"
    BASELINES = "baselines"
    MAINTAINING = "maintaining"
    DISTILLATION = "distillation"


class ToPytest(StrEnum):
    """Which of a command's arguments it hands on to pytest."""

    NOTHING = "nothing"
    WHAT_IT_DOES_NOT_KNOW = "what it does not know"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Registered:
    """One command: the module in summarybench/commands that implements it, and its line in the help."""

    name: str
    module: str
    help: str
    group: Group
    to_pytest: ToPytest = ToPytest.NOTHING

    def load(self) -> Command:
        return cast(Command, import_module(f"summarybench.commands.{self.module}"))


COMMANDS = (
    Registered(
        "bench",
        "bench",
        "run the benchmarks for this machine, and measure again what regressed; all arguments go to pytest",
        Group.USE,
        ToPytest.EVERYTHING,
    ),
    Registered("compare", "compare", "compare a run with another, or with the newest comparable baseline", Group.USE),
    Registered("report", "report", "write one run, or several side by side, as an HTML page", Group.USE),
    Registered("summary", "summary", "print a run as markdown", Group.USE),
    Registered("doctor", "doctor", "check whether this machine can run the benchmarks, and say what to fix", Group.USE),
    Registered("models", "models", "list the models, and the memory that their loaders need on this device", Group.USE),
    Registered("adopt", "adopt", "store a finished, clean run as a baseline", Group.BASELINES),
    Registered(
        "noise",
        "noise",
        "measure how much runs differ, in fresh processes; other arguments go to pytest",
        Group.BASELINES,
        ToPytest.WHAT_IT_DOES_NOT_KNOW,
    ),
    Registered(
        "history",
        "history",
        "test the stored nights of each experiment for a slowdown, and say since when; 1 where one has slowed",
        Group.BASELINES,
    ),
    Registered("docs", "docs", "rewrite the generated tables of README.md and docs/", Group.MAINTAINING),
    Registered(
        "detection", "detection", "simulate which slowdowns the verdicts detect, and try some", Group.MAINTAINING
    ),
    Registered(
        "metrics-check",
        "metrics_check",
        "spoil a run's summaries on purpose, and see what each metric says of them",
        Group.MAINTAINING,
    ),
    Registered(
        "spot-check", "spot_check", "slow the embedded model down and see what the verdict says", Group.MAINTAINING
    ),
)

DISTILLATION = (
    ("distillation", "train a smaller model on a teacher's summaries"),
    ("distillation.judge", "compare a run's students with their teachers"),
)
"""Programs of the distillation package, which imports this library and is not imported by it."""


def find_command(name: str) -> Registered:
    """Raises InputError for a name that is none."""
    found = {command.name: command for command in COMMANDS}
    if name in found:
        return found[name]
    close = difflib.get_close_matches(name, found, n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(found)}"
    raise InputError(f"summarybench: there is no command '{name}'; {hint}")
