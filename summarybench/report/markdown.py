"""A run as markdown: `report.md` in its folder, and the summary that CI shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from summarybench.core.inert_text import inert
from summarybench.core.outcomes import InputError
from summarybench.report.environment import versions_of
from summarybench.report.experiment import Source
from summarybench.report.headline import exit_headline
from summarybench.report.history import ROW_HEADINGS, history_rows
from summarybench.report.layout import Table
from summarybench.report.tables import SUMMARY, summary_tables
from summarybench.report.view import RunView, view_of
from summarybench.runs.baselines import StoredRun
from summarybench.runs.run_folder import Results

PAGE = "report.md"
FILES = ("report.html", "documents.parquet", "run.json")
"""Other files of a run's folder, which the page links to."""

ENVIRONMENT = ("driver", "cuda", "torch", "transformers", "bitsandbytes", "accelerate", "python")

ZERO_WIDTH_SPACE = "&#8203;"
SPECIAL = re.compile(r"([\\`*{}\[\]<>#|~$&]|(?<![^\W_])_|_(?![^\W_]))")
"""What markdown would read as markup. An underscore within a word is no markup, and is common in addresses."""


def write_page(results: Results) -> None:
    """Write report.md of a finished run, beside its run file. Raises InputError if it cannot be written."""
    there = [name for name in FILES if (results.folder / name).is_file()]
    links = ", ".join(f"[{name}]({name})" for name in there)
    found = StoredRun(path=results.folder / "run.json", run=results.run)
    results.write(results.folder / PAGE, summary_text(found, f"details: {links}", is_saved=results.is_saved))


def summary_text(found: StoredRun, details: str, *, gpu_hour_price: float | None = None, is_saved: bool = False) -> str:
    """Headline, outcomes, tables, notes, and where all this was measured.

    `details` is markdown with a link to more, shown below the outcomes. `gpu_hour_price` replaces the run's.
    `is_saved` says that the run is stored as a baseline. Raises InputError if the run is damaged.
    """
    source = Source(stored=found, gpu_hour_price=gpu_hour_price, is_saved=is_saved)
    try:
        return _text(found, view_of([source]), details)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{found.path} is not a whole run of this suite ({type(error).__name__}: {error})") from error


def _text(found: StoredRun, view: RunView, details: str) -> str:
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in view.outcomes.items())
    paragraphs = [
        f"## {escaped(exit_headline(found))}",
        f"**{escaped(view.headline.sentence)}**",
        escaped(outcomes or "no test finished"),
    ]
    if details:
        paragraphs.append(details)
    if view.experiments:
        paragraphs.append(_table(SUMMARY.table(view.experiments)))
    for table in summary_tables(view.experiments):
        paragraphs += [f"**{escaped(table.title)}**", _table(table)]
    if rows := history_rows(view.experiments):
        paragraphs += ["**History**", markdown_table(ROW_HEADINGS, rows, ("experiment", "history", "nights", "since"))]
    if view.notes:
        paragraphs.append("\n".join(map(_list_item, map(str, view.notes))))
    paragraphs.append(f"{escaped(_environment(found))}  \n{escaped(_origin(found))}")
    return "\n\n".join(paragraphs) + "\n"


def _table(table: Table) -> str:
    rows = [[row.experiment.name, *(cell.text for cell in row.cells)] for row in table.rows]
    return markdown_table(["experiment", *(column.long_heading for column in table.columns)], rows)


def _list_item(note: str) -> str:
    """A note as an item of a list. An indented note belongs to the one above, and is an item below it."""
    return f"{'  ' if note.startswith(' ') else ''}- {escaped(note.strip())}"


def _environment(found: StoredRun) -> str:
    return ", ".join([str(found.environment["device"]), *versions_of(found.environment, ENVIRONMENT)])


def _origin(found: StoredRun) -> str:
    commit = found.run.get("commit_info") or {}
    dirty = ", with uncommitted changes" if commit.get("dirty") else ""
    branch = f" ({commit['branch']})" if commit.get("branch") else ""
    return f"commit {found.commit}{branch}{dirty}; run {found.label}"


# Markdown ------------------------------------------------------------------------------------------------------------


def markdown_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[str] = ("experiment",)
) -> str:
    """A table without a newline at its end. Columns whose heading is in `texts` are aligned left, others right."""
    sides = ["---" if heading in texts else "---:" for heading in headings]
    lines = [headings, sides, *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(map(markdown_row, lines))


def markdown_row(cells: Sequence[str]) -> str:
    """One line of a table. Its cells must be markdown already."""
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """One line of markdown that shows the text unchanged, and notifies nobody whom it mentions."""
    return SPECIAL.sub(r"\\\1", inert(" ".join(text.split()))).replace("@", f"@{ZERO_WIDTH_SPACE}")
