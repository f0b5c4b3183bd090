"""Figures that a kind of benchmark declares itself: reports show what its run file states."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Extremes, Figure, Format, Group, Value
from summarybench.runs.kind_facts import KindFacts, KindFigure

BETTER = {True: Better.HIGHER, False: Better.LOWER, None: Better.NEITHER}


def figures_of_kind(kind: KindFacts) -> Sequence[Figure]:
    """The figures that a kind declares."""
    return [declared_figure(kind, each) for each in kind.figures]


def group_of_kind(kind: KindFacts) -> Group:
    """The figures that a kind declares, with its title."""
    return Group(title=kind.heading, terms=tuple(figures_of_kind(kind)))


def declared_figure(kind: KindFacts, declared: KindFigure) -> Figure:
    """One of the figures that a kind declares."""
    is_unit_in_heading = declared.heading.endswith(f" {declared.unit}")
    return Figure(
        key=f"{kind.name}-{declared.key}".replace(".", "-").replace("_", "-"),
        name=declared.name or declared.heading,
        heading=declared.heading,
        short=declared.short,
        unit=declared.unit,
        format=Format(
            spec=declared.format,
            divisor=declared.divisor,
            suffix=f" {declared.unit}" if declared.unit and not is_unit_in_heading else "",
        ),
        better=BETTER[declared.higher_is_better],
        value=lambda experiment: _value(declared, experiment),
        definition=declared.meaning,
    )


def _value(declared: KindFigure, experiment: ExperimentView) -> Value:
    """Of several values, the smallest and the largest."""
    found: Value | list[float] = declared.value_in(experiment.info)
    if isinstance(found, list):
        return Extremes(min(found), max(found)) if found else None
    return found
