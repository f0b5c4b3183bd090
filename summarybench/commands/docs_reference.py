"""The reference pages that are made from the code: commands, options, figures, run.json and documents.parquet."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from inspect import cleandoc

from summarybench.commands.command_line import PROGRAM, parser_of
from summarybench.commands.docs_metrics import metrics_page
from summarybench.commands.registry import COMMANDS, Registered, ToPytest
from summarybench.core.invocation import MAKE_TARGETS
from summarybench.report.markdown import escaped, markdown_row
from summarybench.runs.declared_keys import DeclaredKey, declared_keys, records_in, type_words
from summarybench.runs.device_files import HistoryFile, SpreadFile
from summarybench.runs.documents_table import COLUMNS, SCHEMA_VERSION
from summarybench.runs.schema import DocumentRecord, ExperimentRecord, Run, SessionRecord
from summarybench.session.options import all_options


def reference_tables() -> dict[str, str]:
    return {
        "documents": _columns(),
        "metrics": metrics_page(),
        "run-file": "\n".join(_records(Run)),
        "journal": "\n".join(_records(*JOURNAL, left_out=_records_of(Run))),
        "device-files": "\n".join(_records(SpreadFile, HistoryFile)),
        "everyday-options": _options(is_everyday=True),
        "expert-options": _options(is_everyday=False),
        "commands": "\n".join(_commands()) + "\n",
    }


def _columns() -> str:
    rows = [[f"`{column.name}`", column.type, column.meaning] for column in COLUMNS]
    lines = [markdown_row(["column", "type", "meaning"]), markdown_row(["---"] * 3), *map(markdown_row, rows)]
    return f"Schema version {SCHEMA_VERSION}.\n\n" + "\n".join(lines) + "\n"


JOURNAL = (SessionRecord, DocumentRecord, ExperimentRecord)
"""The records that only a journal has."""


def _records_of(*roots: type) -> list[type]:
    """The records and those inside them, each once, in the order of the page."""
    found: list[type] = []
    for root in roots:
        if root not in found:
            found.append(root)
            inner = [each for declared in declared_keys(root) for each in records_in(declared.type)]
            found += [each for each in _records_of(*inner) if each not in found]
    return found


def _records(*roots: type, left_out: Sequence[type] = ()) -> Iterator[str]:
    """A section for each record: its meaning, and a table of its keys."""
    for record in _records_of(*roots):
        if record in left_out:
            continue
        yield f"### {record.__name__}"
        yield ""
        yield cleandoc(record.__doc__ or "")
        yield ""
        yield markdown_row(["key", "type", "unit", "meaning"])
        yield markdown_row(["---"] * 4)
        yield from (markdown_row(_key_cells(each)) for each in declared_keys(record))
        yield ""


def _key_cells(declared: DeclaredKey) -> list[str]:
    meaning = declared.key.meaning.replace("|", "\\|")
    if declared.key.choices:
        meaning += f": {', '.join(f'`{each}`' for each in declared.key.choices)}"
    optional = "" if declared.is_required else " (optional)"
    return [f"`{declared.name}`", f"{type_words(declared.type)}{optional}", declared.key.unit or "–", meaning]


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
