"""The reference pages that come from the code: commands, options, figures, and the columns of documents.parquet."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from summarybench.commands.command_line import PROGRAM, parser_of
from summarybench.commands.docs_metrics import metrics_page
from summarybench.commands.registry import COMMANDS, Registered, ToPytest
from summarybench.core.invocation import MAKE_TARGETS
from summarybench.report.markdown import escaped, markdown_row
from summarybench.runs.documents_table import COLUMNS, SCHEMA_VERSION
from summarybench.session.options import all_options


def reference_tables() -> dict[str, str]:
    return {
        "documents": _columns(),
        "metrics": metrics_page(),
        "everyday-options": _options(is_everyday=True),
        "expert-options": _options(is_everyday=False),
        "commands": "\n".join(_commands()) + "\n",
    }


def _columns() -> str:
    rows = [[f"`{column.name}`", column.type, column.meaning] for column in COLUMNS]
    lines = [markdown_row(["column", "type", "meaning"]), markdown_row(["---"] * 3), *map(markdown_row, rows)]
    return f"Schema version {SCHEMA_VERSION}.\n\n" + "\n".join(lines) + "\n"


def _options(*, is_everyday: bool) -> str:
    headings = ["option", "meaning", "default", "example"]
    rows = [
        [
            _code(f"{option.name} {option.placeholder}".strip()),
            escaped(option.meaning),
            escaped(option.stated_default),
            _code(option.example),
        ]
        for option in all_options()
        if option.is_everyday is is_everyday
    ]
    return "\n".join([markdown_row(headings), markdown_row(["---"] * 4), *map(markdown_row, rows)]) + "\n"


def _code(text: str) -> str:
    """As code, in a cell of a table."""
    in_cell = text.replace("|", "\\|")
    return text if text == "–" else f"`{in_cell}`"


def _commands() -> Iterator[str]:
    for registered in COMMANDS:
        yield from _command(registered)


def _command(registered: Registered) -> Iterator[str]:
    """A heading, what the command does, how it is typed, and a table of its arguments."""
    parser = parser_of(registered, registered.load())
    actions = [action for action in parser._actions if action.dest != "help"]
    yield f"### {PROGRAM} {registered.name}"
    yield ""
    yield escaped(parser.description or "")
    yield ""
    yield "```console"
    yield f"$ {' '.join([PROGRAM, registered.name, *_usage(actions, registered.to_pytest)])}"
    if target := MAKE_TARGETS.get(registered.name):
        variables = [f"{name}=…" for name in target.variables]
        yield f"$ {' '.join(['make', target.name, *variables])}"
    yield "```"
    yield ""
    if actions:
        yield markdown_row(["argument", "meaning"])
        yield markdown_row(["---"] * 2)
        yield from (markdown_row([_code(_spelling(each)), escaped(_meaning(each))]) for each in actions)
        yield ""


def _usage(actions: list[argparse.Action], to_pytest: ToPytest) -> Iterator[str]:
    if any(action.option_strings for action in actions):
        yield "[options]"
    for action in actions:
        if not action.option_strings:
            name = str(action.metavar)
            yield {"?": f"[{name}]", "+": f"{name} [{name} ...]"}.get(str(action.nargs), name)
    if to_pytest is not ToPytest.NOTHING:
        yield "[arguments for pytest]"


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar)
    value = "|".join(map(str, action.choices)) if action.choices else action.metavar
    several = f" [{value} ...]" if action.nargs == "+" else ""
    return f"{', '.join(action.option_strings)} {value or ''}{several}".rstrip()


def _meaning(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%")
