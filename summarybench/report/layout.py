"""Tables of figures: their columns, and their rows of experiments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Cell, Column, Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One experiment and its cells, one for each column of the table."""

    experiment: ExperimentView
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with one row for each experiment. The column with its name comes before `columns`."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]


def columns_of(*shown: Figure | Column) -> tuple[Column, ...]:
    return tuple(each if isinstance(each, Column) else Column(figure=each) for each in shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLayout:
    """The columns of a table. It shows the experiments that have the figure `key`, or all if there is no key.

    Columns without any value are left out: this device, these documents or this run do not have the figure.
    """

    title: str
    columns: tuple[Column, ...]
    key: Figure | None = None

    def table(self, experiments: Sequence[ExperimentView]) -> Table:
        """The table, without rows if no experiment belongs to it."""
        shown = [each for each in experiments if self.key is None or self.key.value(each) is not None]
        columns = tuple(each for each in self.columns if any(_has_value(each, experiment) for experiment in shown))
        return Table(title=self.title, columns=columns, rows=tuple(_row(columns, each) for each in shown))


def _has_value(column: Column, experiment: ExperimentView) -> bool:
    return column.figure.value(experiment) is not None


def _row(columns: Sequence[Column], experiment: ExperimentView) -> TableRow:
    cells = tuple(column.cell(column.figure.value(experiment)) for column in columns)
    return TableRow(experiment=experiment, cells=cells)
