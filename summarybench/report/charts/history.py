"""Generated tokens per second over the stored runs, one panel for each series of nights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from summarybench.analysis.history import Series, Trend
from summarybench.core.outcomes import Verdict
from summarybench.report.charts.svg import BAD, GOOD, INK, MUTED, SURFACE, WIDE, Chart, chart, series_color
from summarybench.report.figures.speed import GENERATED
from summarybench.report.history import SHORT_COMMIT, History
from summarybench.report.view import RunView

VERDICT_MARKERS = {
    Verdict.REGRESSED.value: ("v", BAD, BAD),
    Verdict.IMPROVED.value: ("^", GOOD, GOOD),
    Verdict.UNCHANGED.value: ("o", INK, INK),
    Verdict.INVALID.value: ("X", BAD, BAD),
}
OTHER_VERDICT_MARKER = ("o", SURFACE, INK)
"""Shape, fill and edge of a point."""
TREND_COLORS = {Trend.SLOWED: BAD, Trend.FASTER: GOOD}
BAND_DEVIATIONS = 2
"""The reference band holds 95% of unchanged nights."""
FEW_POINTS = 15
"""Panels with more points are twice as wide and have smaller markers."""
PANEL_HEIGHT, PANEL_MARGIN = 172, 28


def history_chart(view: RunView) -> Chart | None:
    """None if no experiment was measured twice with the same workload on the same host."""
    histories = [each for each in view.histories if len(each.measurements) > 1]
    if not histories:
        return None
    is_long = any(len(each.measurements) > FEW_POINTS for each in histories)

    def columns_at(width: float) -> int:
        return min(len(histories), 1 if is_long else 2) if width == WIDE else 1

    def height_at(width: float) -> float:
        return PANEL_HEIGHT * -(-len(histories) // columns_at(width)) + PANEL_MARGIN

    def draw(figure: Any, width: float) -> dict[str, str]:
        columns = columns_at(width)
        lines = -(-len(histories) // columns)
        panels = figure.subplots(lines, columns, squeeze=False)
        height = height_at(width)
        figure.subplots_adjust(
            left=48 / width, right=1 - 10 / width, top=1 - 50 / height, bottom=26 / height, hspace=0.85, wspace=0.22
        )
        tips: dict[str, str] = {}
        for panel, history in zip(panels.flat, histories, strict=False):
            tips |= _draw_panel(panel, history)
        for panel in list(panels.flat)[len(histories) :]:
            panel.set_visible(False)
        return tips

    words = "History of generated tokens per second: " + "; ".join(map(_words, histories))
    return chart("history", words, draw, height_at)


def _words(history: History) -> str:
    speeds = ", ".join(GENERATED.format.number(one.speed) for one in history.measurements)
    return f"{history.label} {speeds}{f' ({history.finding})' if history.finding else ''}"


def _draw_panel(axes: Any, history: History) -> dict[str, str]:
    points = history.measurements
    axes.plot(range(len(points)), [each.speed for each in points], color=series_color(history.number), linewidth=1.4)
    tips = dict(_draw_points(axes, history))
    shown_speeds = [each.speed for each in points]
    if history.series and history.series.reference:
        tips |= _draw_test(axes, history, history.series)
        shown_speeds += _band(history.series)
    middle = (max(shown_speeds) + min(shown_speeds)) / 2
    reach = max((max(shown_speeds) - min(shown_speeds)) * 0.65, middle * 0.02)
    axes.set_ylim(middle - reach, middle + reach)
    axes.set_xlim(-0.5, len(points) - 0.5)
    days = {each.date[:10] for each in points}
    axes.set_xticks(
        [0, len(points) - 1], [each.date[5:10] if len(days) > 1 else each.date[11:] for each in (points[0], points[-1])]
    )
    for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=False):
        label.set_horizontalalignment(side)
    axes.set_title(history.label, fontsize=11.5, loc="left", color=INK, pad=23)
    axes.text(0, 1.06, _subtitle(history), transform=axes.transAxes, fontsize=10, color=_color_of(history), va="bottom")
    axes.locator_params(axis="y", nbins=4)
    axes.grid(visible=False, axis="x")
    return tips


def _draw_points(axes: Any, history: History) -> Iterator[tuple[str, str]]:
    """The runs, each with the marker of its verdict; a ring around those of this report."""
    size = 52 if len(history.measurements) <= FEW_POINTS else 20
    for place, each in enumerate(history.measurements):
        marker, face, edge = VERDICT_MARKERS.get(each.verdict, OTHER_VERDICT_MARKER)
        group = f"history-{history.number}-{place}"
        if each.is_shown:
            axes.scatter(place, each.speed, s=4 * size, marker="o", facecolor="none", edgecolor=INK, linewidth=1.4)
        axes.scatter(place, each.speed, s=size, marker=marker, facecolor=face, edgecolor=edge, zorder=3, gid=group)
        speed = GENERATED.format.number(each.speed)
        notes = f"{', anchor' if each.is_anchor else ''}{', this run' if each.is_shown else ''}"
        yield group, f"{each.date} {each.label}: {speed} {GENERATED.unit}, {each.verdict}{notes}"


def _band(series: Series) -> list[float]:
    """The speeds between which 95% of unchanged nights lie, lowest first."""
    reference = series.reference
    if reference is None:
        return []
    reach = BAND_DEVIATIONS * reference.standard_deviation
    return [math.exp(reference.mean - reach), math.exp(reference.mean + reach)]


def _draw_test(axes: Any, history: History, series: Series) -> dict[str, str]:
    """The reference with its band, the first changed night, and the night of the alarm."""
    reference = series.reference
    first = history.places_of(0)
    if reference is None or not first:
        return {}
    low, high = _band(series)
    start, end = first[0] - 0.5, len(history.measurements) - 0.5
    of_reference = history.places_of(series.reference_nights - 1)[-1] + 0.5
    band = f"history-{history.number}-band"
    axes.fill_between([start, end], low, high, color=MUTED, alpha=0.16, linewidth=0, zorder=0, gid=band)
    axes.plot([start, end], [reference.tokens_per_second] * 2, color=MUTED, linewidth=1, linestyle="--", zorder=1)
    axes.plot([start, of_reference], [reference.tokens_per_second] * 2, color=MUTED, linewidth=3, zorder=1)
    speed = GENERATED.format.number
    tips = {
        band: f"reference {speed(reference.tokens_per_second)} {GENERATED.unit} "
        f"({series.reference_nights} nights); 95% of unchanged nights lie in {speed(low)}–{speed(high)}"
    }
    if series.first_changed is None or series.alarm_night is None:
        return tips
    color = TREND_COLORS[series.trend]
    changed, alarm = history.places_of(series.first_changed)[0], history.places_of(series.alarm_night)[-1]
    axes.axvline(changed - 0.5, color=color, linewidth=1.4, linestyle=":", gid=f"history-{history.number}-since")
    axes.scatter(
        alarm,
        history.measurements[alarm].speed,
        s=150,
        marker="D",
        facecolor="none",
        edgecolor=color,
        linewidth=1.8,
        zorder=4,
        gid=f"history-{history.number}-alarm",
    )
    return tips | {
        f"history-{history.number}-since": history.finding,
        f"history-{history.number}-alarm": f"{series.nights[series.alarm_night].date}: the test found the change",
    }


def _subtitle(history: History) -> str:
    series = history.series
    if series is None or series.trend is Trend.COLLECTING:
        return ""
    record = series.as_record()
    ratio = f"{history.finding.partition(' since')[0]}"
    if record["commits"] is None or record["since"] is None:
        return ratio
    before, after = (commit[:SHORT_COMMIT] for commit in record["commits"])
    return f"{ratio} since {record['since'][5:]} ({before} → {after})"


def _color_of(history: History) -> str:
    return MUTED if history.series is None else TREND_COLORS.get(history.series.trend, MUTED)
