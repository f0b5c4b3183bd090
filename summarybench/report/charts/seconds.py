"""Seconds per document: a document is a dot, the middle half a box, the median a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from summarybench.core.numbers import counted, trimmed
from summarybench.report.charts.svg import INK, WIDE, Chart, axes_in, chart, label_margin, name_lines, series_color
from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Percentiles
from summarybench.report.figures.speed import SECONDS
from summarybench.report.view import RunView

MOST_DOTS, MOST_DOTS_IN_ALL = 200, 4_000
"""Of an experiment, and of the chart. More would cover each other, and make the page large; box and median are those of all
documents."""
LOGARITHMIC_FROM = 12
"""Ratio of the longest to the shortest time from which the axis is logarithmic."""


def seconds_chart(view: RunView) -> Chart:
    shown = view.experiments

    def draw(figure: Any, width: float) -> dict[str, str]:
        axes = axes_in(figure, width, left=label_margin(shown, width), bottom=44)
        for place, each in enumerate(reversed(shown)):
            _draw_documents(axes, place, each, min(MOST_DOTS, MOST_DOTS_IN_ALL // len(shown)))
        _scale(axes, [seconds for each in shown for seconds in each.document_seconds.values()])
        name_lines(axes, shown)
        axes.set_xlabel("seconds per document" if width == WIDE else "seconds")
        return {f"seconds-{each.number}": _tip(each) for each in shown}

    words = f"{SECONDS.name}: " + "; ".join(map(_tip, shown))
    return chart("seconds", words, draw, lambda _: 62 + 46 * len(shown))


def _draw_documents(axes: Any, place: int, experiment: ExperimentView, most_dots: int) -> None:
    seconds = dots_of(list(experiment.document_seconds.values()), most_dots)
    # The dots of equal times would cover each other, so they are spread over the height of the box in a fixed pattern.
    spread = [place + 0.26 * ((7 * number % 11) / 5 - 1) for number in range(len(seconds))]
    axes.scatter(
        seconds,
        spread,
        s=16,
        color=series_color(experiment.number),
        alpha=0.65,
        linewidth=0,
        gid=f"seconds-{experiment.number}",
        zorder=2,
    )
    axes.boxplot(
        [list(experiment.document_seconds.values())],
        positions=[place],
        orientation="horizontal",
        widths=0.62,
        showfliers=False,
        manage_ticks=False,
        boxprops={"color": INK, "linewidth": 1},
        medianprops={"color": INK, "linewidth": 2.4},
        whiskerprops={"color": INK, "linewidth": 1},
        capprops={"color": INK, "linewidth": 1},
    )


def dots_of(seconds: Sequence[float], most: int = MOST_DOTS) -> Sequence[float]:
    """The times that are drawn: all, or `most` from the shortest to the longest with as many others between any two."""
    if len(seconds) <= most:
        return seconds
    ordered = sorted(seconds)
    return [ordered[number * (len(ordered) - 1) // max(most - 1, 1)] for number in range(most)]


def _scale(axes: Any, seconds: list[float]) -> None:
    if not 0 < min(seconds) < max(seconds) / LOGARITHMIC_FROM:
        axes.set_xlim(left=0)
        return
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: trimmed(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _tip(experiment: ExperimentView) -> str:
    seconds = list(experiment.document_seconds.values())
    number = SECONDS.format.number
    value = SECONDS.value(experiment)
    median = value.median if isinstance(value, Percentiles) else None
    middle = f"median {number(median)}, " if median is not None else ""
    count = counted(seconds, "document")
    return f"{experiment.label}: {middle}from {number(min(seconds))} to {number(max(seconds))} {SECONDS.unit}, {count}"
