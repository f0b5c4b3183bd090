"""What a command is: a module with its arguments and its run, and the parser that they share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn, Protocol

from summarybench.core.outcomes import InputError
from summarybench.core.paths import user_path


class Command(Protocol):
    """What each module of a command offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it and return the exit code. Raises SuiteError where that is impossible."""


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviated options, and raises InputError where argparse would end the process with 2.

    `help_command` is what to type for its help, where that is not the program with --help.
    """

    def __init__(self, *, help_command: str | None = None, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})
        self._help_command = help_command or f"{self.prog} --help"

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; `{self._help_command}` describes its arguments")


def add_baselines_argument(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument(
        "--baselines",
        type=user_path,
        default=Path("baselines"),
        metavar="FOLDER",
        help=f"{meaning}, in a folder for each device (default: baselines)",
    )
