"""Figures that a kind of benchmark declares itself: reports show what its run file states."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.report.figures.figure import Figure, Format
from summarybench.runs.kind_facts import KindFacts, KindFigure


def figures_of_kind(kind: KindFacts) -> Sequence[Figure]:
    """The figures that a kind declares."""
    return [_declared(kind, each) for each in kind.figures]


def _declared(kind: KindFacts, declared: KindFigure) -> Figure:
    return Figure(
        key=f"{kind.name}-{declared.key}".replace(".", "-").replace("_", "-"),
        name=declared.heading,
        heading=declared.heading,
        unit=declared.unit,
        format=Format(spec=declared.format, suffix=f" {declared.unit}" if declared.unit else ""),
        value=lambda experiment: declared.value_in(experiment.info),
        definition=declared.meaning,
    )
