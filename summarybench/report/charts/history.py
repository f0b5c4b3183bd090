"""Generated tokens per second over the stored runs, one panel for each experiment."""

from __future__ import annotations

from typing import Any

from summarybench.core.outcomes import Verdict
from summarybench.report.charts.svg import BAD, GOOD, INK, SURFACE, WIDE, Chart, chart, series_color
from summarybench.report.figures.speed import GENERATED
from summarybench.report.history import History
from summarybench.report.view import RunView

VERDICT_MARKERS = {
    Verdict.REGRESSED.value: ("v", BAD, BAD),
    Verdict.IMPROVED.value: ("^", GOOD, GOOD),
    Verdict.UNCHANGED.value: ("o", INK, INK),
    Verdict.INVALID.value: ("X", BAD, BAD),
}
OTHER_VERDICT_MARKER = ("o", SURFACE, INK)
"""Shape, fill and edge of a point."""


def history_chart(view: RunView) -> Chart | None:
    """None if no experiment was measured twice with the same workload."""
    histories = [each for each in view.histories if len(each.measurements) > 1]
    if not histories:
        return None

    def columns_at(width: float) -> int:
        return min(len(histories), 3) if width == WIDE else 1

    def height_at(width: float) -> float:
        return 132 * -(-len(histories) // columns_at(width)) + 24

    def draw(figure: Any, width: float) -> dict[str, str]:
        columns = columns_at(width)
        lines = -(-len(histories) // columns)
        panels = figure.subplots(lines, columns, squeeze=False)
        height = height_at(width)
        figure.subplots_adjust(
            left=44 / width, right=1 - 10 / width, top=1 - 24 / height, bottom=26 / height, hspace=0.62, wspace=0.3
        )
        tips: dict[str, str] = {}
        for panel, history in zip(panels.flat, histories, strict=False):
            tips |= _draw_panel(panel, history)
        for panel in list(panels.flat)[len(histories) :]:
            panel.set_visible(False)
        return tips

    number = GENERATED.format.number
    words = "History of generated tokens per second: " + "; ".join(
        f"{each.label} {', '.join(number(one.speed) for one in each.measurements)}" for each in histories
    )
    return chart("history", words, draw, height_at)


def _draw_panel(axes: Any, history: History) -> dict[str, str]:
    points = history.measurements
    speeds = [each.speed for each in points]
    axes.plot(range(len(points)), speeds, color=series_color(history.number), linewidth=1.8, zorder=2)
    tips = {}
    for place, each in enumerate(points):
        marker, face, edge = VERDICT_MARKERS.get(each.verdict, OTHER_VERDICT_MARKER)
        group = f"history-{history.number}-{place}"
        axes.scatter(place, each.speed, s=52, marker=marker, facecolor=face, edgecolor=edge, zorder=3, gid=group)
        speed = GENERATED.format.number(each.speed)
        anchor = ", anchor" if each.is_anchor else ""
        tips[group] = f"{each.date} {each.label}: {speed} {GENERATED.unit}, {each.verdict}{anchor}"
    middle = (max(speeds) + min(speeds)) / 2
    reach = max((max(speeds) - min(speeds)) * 0.75, middle * 0.08)
    axes.set_ylim(middle - reach, middle + reach)
    axes.set_xlim(-0.4, len(points) - 0.6)
    days = {each.date[:10] for each in points}
    axes.set_xticks(
        [0, len(points) - 1], [each.date[5:10] if len(days) > 1 else each.date[11:] for each in (points[0], points[-1])]
    )
    axes.set_title(history.label, fontsize=11.5, loc="left", color=INK)
    axes.locator_params(axis="y", nbins=4)
    axes.grid(visible=False, axis="x")
    return tips
