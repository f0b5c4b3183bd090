"""A figure of a report: what it is called, what it means, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from summarybench.core.numbers import MISSING, formatted

if TYPE_CHECKING:
    from summarybench.report.experiment import ExperimentView


class Better(StrEnum):
    """Which way a figure improves."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = ""


class Estimate(NamedTuple):
    """A number and its interval. Both bounds are None if there is no interval."""

    number: float
    low: float | None = None
    high: float | None = None


class Percentiles(NamedTuple):
    """The median and the 95th percentile. None where there are too few values for it."""

    median: float | None
    p95: float | None


class Extremes(NamedTuple):
    """The smallest and the largest of several values."""

    low: float
    high: float


class Part(NamedTuple):
    """A number of things and the number of all of them."""

    part: int
    whole: int


Value = float | str | Estimate | Percentiles | Extremes | Part | None
"""What a figure may be; None where it was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How values of a figure are written.

    `spec` is Python's format specification for the number, such as `.1f`. The number is divided by `divisor` first.
    `has_brackets` writes an interval as [low, high], otherwise as low–high.
    """

    spec: str
    divisor: float = 1
    missing: str = MISSING
    has_brackets: bool = True
    suffix: str = ""

    def text(self, value: Value, *, grouped: bool = False) -> str:
        """The value with everything that belongs to it. `grouped` separates thousands by commas."""
        interval = self.interval(value)
        number = self.number(value, grouped=grouped)
        if not interval:
            return number
        return f"{number} {interval if self.has_brackets else interval[1:-1].replace(', ', '–')}"

    def number(self, value: Value, *, grouped: bool = False) -> str:
        """The value without its interval."""
        match value:
            case None:
                return self.missing
            case str():
                return value
            case Estimate(number, _, _):
                return self._one(number, grouped=grouped)
            case Percentiles(median, p95):
                return f"{self._one(median, grouped=grouped)} / {self._one(p95, grouped=grouped)}"
            case Extremes(low, high):
                return f"{self._one(low, grouped=grouped)}–{self._one(high, grouped=grouped)}"
            case Part(part, whole):
                return f"{part} of {whole}"
            case _:
                return self._one(value, grouped=grouped)

    def interval(self, value: Value) -> str:
        """[low, high]; empty for a value without an interval."""
        if not isinstance(value, Estimate) or value.low is None or value.high is None:
            return ""
        return f"[{self._one(value.low)}, {self._one(value.high)}]"

    def _one(self, number: float | None, *, grouped: bool = False) -> str:
        scaled = number if number is None or self.divisor == 1 else number / self.divisor
        return f"{formatted(scaled, self.spec, grouped=grouped)}{self.suffix if number is not None else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A word of the reports and its definition, in whole sentences. `key` names it in links of the HTML page."""

    key: str
    name: str
    definition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure(Term):
    """One figure of an experiment, declared once for all reports.

    `name` is its full name and `heading` the heading of its column. `short` is the heading where there is little room, in
    the terminal; a line break in it is kept. `unit` is the unit of the number, empty for a plain number or a word.
    `value` takes the figure from an experiment; it raises KeyError, TypeError or ValueError if the run is damaged.
    `is_verdict` marks a word of a fixed set, which reports show in a colour of its own.
    """

    heading: str
    short: str = ""
    unit: str = ""
    format: Format
    better: Better = Better.NEITHER
    value: Callable[[ExperimentView], Value]
    is_verdict: bool = False

    @property
    def is_word(self) -> bool:
        """Whether its values are words, which are aligned left."""
        return not self.format.spec

    @property
    def short_line(self) -> str:
        """The short heading without its line breaks, and without the hyphen of a divided word."""
        return re.sub(r"-\n|\n(?=[/-])", "", self.short or self.heading).replace("\n", " ")

    def text(self, experiment: ExperimentView, *, grouped: bool = False) -> str:
        """The figure of one experiment as it is written."""
        return self.format.text(self.value(experiment), grouped=grouped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A figure in a table. `heading` and `short` replace the figure's own where the table gives them another context."""

    figure: Figure
    heading: str = ""
    short: str = ""
    has_interval: bool = True
    is_strong: bool = False

    @property
    def long_heading(self) -> str:
        return self.heading or self.figure.heading

    @property
    def short_heading(self) -> str:
        """For the terminal; it may have line breaks."""
        return self.short or self.figure.short or self.long_heading

    def cell(self, value: Value) -> Cell:
        return Cell(column=self, value=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The value of one figure in one row of a table."""

    column: Column
    value: Value

    @property
    def text(self) -> str:
        """For text: number and interval."""
        form = self.column.figure.format
        return form.text(self.value) if self.column.has_interval else form.number(self.value)

    @property
    def number(self) -> str:
        """For the HTML page: the number with thousands separated, without its interval."""
        return self.column.figure.format.number(self.value, grouped=True)

    @property
    def interval(self) -> str:
        """For the HTML page: [low, high], or empty."""
        return self.column.figure.format.interval(self.value) if self.column.has_interval else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Terms that belong together, with a title for the reference."""

    title: str
    terms: tuple[Term, ...]
