"""The report at the end of a session. It reads only the run file, so a stored run looks the same as a live one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from summarybench.core.outcomes import QualityVerdict, Verdict
from summarybench.machine.device import DeviceRecord
from summarybench.report.console import (
    WIDTH_WITHOUT_TERMINAL,
    Grid,
    console_on,
    tables_that_fit,
    without_trailing_blanks,
)
from summarybench.report.experiment import Source
from summarybench.report.figures.figure import Cell
from summarybench.report.layout import Table
from summarybench.report.notes import Note, quiet_notes
from summarybench.report.view import RunView, view_of
from summarybench.runs.baselines import StoredRun
from summarybench.runs.run_file import Run

__all__ = ["WIDTH_WITHOUT_TERMINAL", "final_report", "quiet_report"]

VERDICT_STYLES = {
    Verdict.REGRESSED.value: "bold red",
    Verdict.INVALID.value: "bold red",
    Verdict.IMPROVED.value: "bold green",
    Verdict.UNCHANGED.value: "green",
    Verdict.INCONCLUSIVE.value: "yellow",
    Verdict.UNCALIBRATED.value: "yellow",
    Verdict.INCOMPARABLE.value: "yellow",
    Verdict.NO_BASELINE.value: "",
    QualityVerdict.NON_INFERIOR.value: "green",
    QualityVerdict.INFERIOR.value: "bold red",
}


def final_report(run: Run, device: DeviceRecord, *, width: int, color: bool, is_saved: bool = False) -> str:
    """Tables of speed, quality and the device, then one line for each verdict with what to do next.

    `is_saved` says that the run has just become a baseline, so that no line asks for one.
    """
    source = replace(source_of_session(run, device), is_saved=is_saved)
    return terminal_text(view_of([source]), width=width, color=color)


def source_of_session(run: Run, device: DeviceRecord) -> Source:
    """The run of this session, before it is on the disk."""
    return Source(stored=StoredRun(path=Path("run.json"), run=run), device=device)


def terminal_text(view: RunView, *, width: int, color: bool) -> str:
    """The view as text of this many columns, at least 80."""
    screen = io.StringIO()
    console = console_on(screen, width=width, color=color)
    for each in tables_that_fit(console, [_grid(shown) for shown in view.tables]):
        console.print(each)
        console.print()
    for note in view.notes:
        console.print(_styled(note), soft_wrap=True)
    return without_trailing_blanks(screen.getvalue())


def quiet_report(run: Run) -> Iterator[str]:
    """One line for each verdict, and one for each experiment without a verdict."""
    return quiet_notes(run)


def _grid(shown: Table) -> Grid:
    return Grid(
        title=shown.title,
        headings=[column.short_heading for column in shown.columns],
        rows=[(row.experiment.info, [_rich_cell(cell) for cell in row.cells]) for row in shown.rows],
    )


def _rich_cell(cell: Cell) -> Any:
    return _styled(Note(verdict=cell.text)) if cell.column.figure.is_verdict else cell.text


def _styled(note: Note) -> Any:
    from rich.text import Text

    return Text.assemble(note.before, (note.verdict, VERDICT_STYLES.get(note.verdict, "")), note.after)
