"""How this process was started, for the commands that it prints."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

STARTED_BY = "SUMMARYBENCH_STARTED_BY"
"""The environment variable that holds a `StartedBy`. The Makefile and `summarybench bench` set it for their processes."""


class StartedBy(StrEnum):
    MAKE = "make"
    COMMAND_LINE = "summarybench"
    PYTEST = "pytest"


@dataclass(frozen=True, slots=True)
class MakeTarget:
    """A target of the Makefile.

    Positional arguments are passed in `variables`, options in ARGS.
    """

    name: str
    variables: tuple[str, ...] = ()

    def line(self, words: tuple[str, ...]) -> str:
        first_option = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
        named = min(first_option, len(self.variables))
        values = dict(zip(self.variables, words[:named], strict=False))
        if words[named:]:
            values["ARGS"] = shlex.join(words[named:])
        return " ".join(["make", self.name, *(f"{name}={_quoted_for_make(value)}" for name, value in values.items())])


def _quoted_for_make(value: str) -> str:
    return shlex.quote(value.replace("$", "$$"))


MAKE_TARGETS: Mapping[str, MakeTarget] = {
    "bench": MakeTarget("bench"),
    "compare": MakeTarget("compare", ("RUN", "AGAINST")),
    "report": MakeTarget("report", ("RUN",)),
    "summary": MakeTarget("summary", ("RUN",)),
    "doctor": MakeTarget("doctor"),
    "models": MakeTarget("models"),
    "adopt": MakeTarget("adopt", ("RUN", "NAME")),
    "noise": MakeTarget("noise"),
    "history": MakeTarget("history"),
    "docs": MakeTarget("readme"),
    "detection": MakeTarget("detection"),
    "metrics-check": MakeTarget("metrics-check", ("RUN",)),
    "spot-check": MakeTarget("spot-check"),
}
"""The make target of each command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """How to type commands here.

    `scripts` are the programs of this environment that the shell finds by name.
    """

    started_by: StartedBy
    python: str
    scripts: frozenset[str]

    def command(self, name: str, *arguments: object) -> str:
        """A command of this program, quoted for the shell.

        It is a make target if make started this process.
        """
        words = tuple(map(str, arguments))
        if self.started_by is StartedBy.MAKE and name in MAKE_TARGETS:
            return MAKE_TARGETS[name].line(words)
        return self.program("summarybench", name, *words)

    def benchmarks(self, *arguments: object) -> str:
        """The command that runs the benchmarks with these arguments.

        It is pytest if pytest started this process.
        """
        if self.started_by is StartedBy.PYTEST:
            return self.program("pytest", *arguments)
        return self.command("bench", *arguments)

    def program(self, name: str, *arguments: object) -> str:
        """A program of this environment, by its name or as a module.

        The name is used if the shell finds the program.
        """
        words = [name] if name in self.scripts else [self.python, "-m", name]
        return shlex.join([*words, *map(str, arguments)])


def this_invocation(otherwise: StartedBy = StartedBy.COMMAND_LINE) -> Invocation:
    """The invocation of this process, from its environment and PATH.

    `otherwise` applies if nothing says what started it.
    """
    said = os.environ.get(STARTED_BY, "")
    return Invocation(
        started_by=StartedBy(said) if said in set(StartedBy) else otherwise,
        python=_python(),
        scripts=frozenset(name for name in ("summarybench", "pytest") if _is_of_this_environment(shutil.which(name))),
    )


def _is_of_this_environment(script: str | None) -> bool:
    return script is not None and Path(script).resolve().parent == Path(sys.executable).parent.resolve()


def _python() -> str:
    if shutil.which("python") == sys.executable:
        return "python"
    here, executable = Path.cwd(), Path(sys.executable)
    return str(executable.relative_to(here)) if executable.is_relative_to(here) else sys.executable
