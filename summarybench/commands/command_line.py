"""`summarybench COMMAND`: one parser for all commands, and one place from their errors to exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import summarybench
from summarybench.commands.command import Command, Parser
from summarybench.commands.registry import COMMANDS, DISTILLATION, Group, Registered, ToPytest, find_command
from summarybench.core.exit_codes import run_to_exit_code
from summarybench.core.invocation import this_invocation

PROGRAM = "summarybench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; without arguments, print what there is."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return run_to_exit_code(lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(help_text(), end="")
        return 0
    if words[0] == "--version":
        print(f"{PROGRAM} {summarybench.__version__}")
        return 0
    name, *rest = words
    registered = find_command(name)
    command = registered.load()
    return command.run(_options(registered, command, rest))


def _options(registered: Registered, command: Command, words: list[str]) -> argparse.Namespace:
    """The command's own arguments, and in `for_pytest` those that pytest is to have."""
    if registered.to_pytest is ToPytest.EVERYTHING:
        return argparse.Namespace(for_pytest=words)
    parser = parser_of(registered, command)
    if registered.to_pytest is ToPytest.NOTHING:
        return parser.parse_args(words)
    options, others = parser.parse_known_args(words)
    options.for_pytest = others
    return options


def parser_of(registered: Registered, command: Command) -> Parser:
    parser = Parser(
        prog=f"{PROGRAM} {registered.name}",
        description=f"{registered.help[0].upper()}{registered.help[1:]}.",
        help_command=this_invocation().command(registered.name, "--help"),
    )
    command.add_arguments(parser)
    return parser


def help_text() -> str:
    return "\n".join(_help_lines()) + "\n"


def _help_lines() -> Iterator[str]:
    yield f"usage: {PROGRAM} COMMAND ..."
    yield f"       {PROGRAM} COMMAND --help"
    yield f"       {PROGRAM} --version"
    for group in Group:
        yield ""
        yield group.value
        rows = [(command.name, command.help) for command in COMMANDS if command.group is group]
        if group is Group.DISTILLATION:
            rows = [(this_invocation().program(name), what) for name, what in DISTILLATION]
        width = max(len(name) for name, _ in rows)
        yield from (f"  {name:<{width}}  {what}" for name, what in rows)
