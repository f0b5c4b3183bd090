"""The ratio of each experiment to its latest baseline and to the anchor, with intervals."""

from __future__ import annotations

from typing import Any

from summarybench.report.charts.svg import (
    GRID,
    INK,
    MUTED,
    SURFACE,
    WIDE,
    Chart,
    axes_in,
    chart,
    label_margin,
    name_lines,
    series_color,
)
from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.comparison import RATIO
from summarybench.report.figures.values import estimate_of
from summarybench.report.view import RunView
from summarybench.runs.comparison_records import ChangeRecord


def change_chart(view: RunView) -> Chart | None:
    """None if no experiment was compared."""
    shown = [each for each in view.experiments if each.change]
    if not shown:
        return None

    def draw(figure: Any, width: float) -> dict[str, str]:
        axes = axes_in(figure, width, left=label_margin(shown, width), bottom=44)
        axes.axvspan(0.95, 1.05, color=GRID, alpha=0.6, linewidth=0, zorder=0)
        axes.axvline(1, color=MUTED, linewidth=1.2, zorder=1)
        for place, each in enumerate(reversed(shown)):
            _draw_ratios(axes, place, each)
        name_lines(axes, shown)
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, 0.94), max(high, 1.06))
        axes.locator_params(axis="x", nbins=8 if width == WIDE else 4)
        axes.set_xlabel("generated tokens/s, now ÷ then" if width == WIDE else "now ÷ then")
        return {f"change-{each.number}": _tip(each, each.change) for each in shown} | {
            f"anchor-{each.number}": _tip(each, each.anchor) for each in shown
        }

    words = "Change of generated tokens per second: " + "; ".join(_tip(each, each.change) for each in shown)
    return chart("change", words, draw, lambda _: 62 + 44 * len(shown))


def _draw_ratios(axes: Any, place: int, experiment: ExperimentView) -> None:
    """A filled circle for the latest baseline and, below it, an empty diamond for the anchor."""
    color = series_color(experiment.number)
    upwards = 0.13 if experiment.anchor else 0
    for key, found, shift, is_filled in (
        ("change", experiment.change, 0.0, True),
        ("anchor", experiment.anchor, -0.26, False),
    ):
        if found:
            y = place + shift + upwards
            axes.plot([found["low"], found["high"]], [y, y], color=color, linewidth=2.4, zorder=2)
            axes.scatter(
                found["ratio"],
                y,
                s=70 if is_filled else 46,
                marker="o" if is_filled else "D",
                facecolor=color if is_filled else SURFACE,
                edgecolor=INK,
                linewidth=1,
                gid=f"{key}-{experiment.number}",
                zorder=3,
            )


def _tip(experiment: ExperimentView, found: ChangeRecord | None) -> str:
    return f"{experiment.label}: {RATIO.format.text(estimate_of(found))}" if found else experiment.label
