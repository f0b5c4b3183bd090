"""A command as `summarybench` runs it, within this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from summarybench.commands.command_line import main


def command(name: str) -> Callable[[Iterable[object]], int]:
    """The command of this name: its arguments in, its exit code out."""
    return lambda arguments: main([name, *map(str, arguments)])
