"""The report's charts as SVG by matplotlib: no script, sharp in print, and in the page's own colours.

A chart is drawn in stand-in colours, which then become the page's CSS variables, so that one drawing serves light and dark.
It is drawn twice, for a wide and for a narrow screen: text that shrinks with its picture cannot be read on a phone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from summarybench.core.outcomes import Verdict
from summarybench.report.page import History, Page, Row

SERIES = 8
INK, MUTED, GRID, SURFACE, GOOD, BAD, NOTE = (f"#0101{number:02x}" for number in range(1, 8))
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    SURFACE: "surface",
    GOOD: "good",
    BAD: "bad",
    NOTE: "note",
    **{f"#0202{number:02x}": f"series-{number + 1}" for number in range(SERIES)},
}
"""Stand-in colour → the page's CSS variable."""
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
VERDICT_MARKERS = {
    Verdict.REGRESSED.value: ("v", BAD, BAD),
    Verdict.IMPROVED.value: ("^", GOOD, GOOD),
    Verdict.UNCHANGED.value: ("o", INK, INK),
    Verdict.INVALID.value: ("X", BAD, BAD),
}
OTHER_VERDICT_MARKER = ("o", SURFACE, INK)
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
WIDE, NARROW = 680, 346
CHARACTER_WIDTH = 6.7
"""Of the charts' text, in the picture's units: a little more than the page's own font takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture in two widths, and the sentence that stands for it where it cannot be seen."""

    wide: Markup
    narrow: Markup


Draw = Callable[[Any, float], Mapping[str, str]]
"""Draws into a matplotlib figure of a width, and says the tooltip of each group id."""


def _chart(name: str, words: str, draw: Draw, height: Callable[[float], float]) -> Chart:
    return Chart(
        wide=_svg(f"{name}-wide", words, draw, WIDE, height(WIDE)),
        narrow=_svg(f"{name}-narrow", words, draw, NARROW, height(NARROW)),
    )


def _svg(name: str, words: str, draw: Draw, width: float, height: float) -> Markup:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        tips = draw(figure, width)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _for_page(written.getvalue(), name, words, tips)


def _for_page(svg: str, name: str, words: str, tips: Mapping[str, str]) -> Markup:
    """An SVG file as a part of a page: ids of its own, the page's colours, tooltips."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style type.*?</style>", "", body, flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]*)"', body)
    opening = f'<svg role="img" aria-label="{escape(words)}" viewBox="{view.group(1) if view else ""}" '
    opening += 'xmlns:xlink="http://www.w3.org/1999/xlink">'
    body = opening + body[body.index(">") + 1 :]
    for group, tip in tips.items():
        body = body.replace(f'<g id="{group}">', f'<g id="{group}"><title>{escape(tip)}</title>')
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = body.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    body = re.sub(r"#0[12]0[12][0-9a-f]{2}", lambda found: f"var(--{VARIABLES[found.group()]})", body)
    return Markup(body)  # noqa: S704  (matplotlib escapes text, and what is added here is escaped above)


def _color(number: int) -> str:
    return f"#0202{number % SERIES:02x}"


def _marker(number: int) -> str:
    return MARKERS[(number + number // SERIES) % len(MARKERS)]


def _axes(figure: Any, width: float, *, left: float, bottom: float, right: float = 12, top: float = 10) -> Any:
    """Axes with margins in the picture's own units."""
    height = figure.get_figheight() * 72
    return figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    )


def _label_margin(rows: Sequence[Row], width: float) -> float:
    return min(max((len(row.label) for row in rows), default=0) * CHARACTER_WIDTH + 14, width * 0.42)


def tradeoff_chart(page: Page) -> Chart:
    """Speed against ROUGE-1, a bubble's area being peak memory; against peak memory where nothing is scored."""
    scored = page.is_scored
    rows = [row for row in page.rows if row.rouge1 is not None] if scored else list(page.rows)
    lost = [each for each in page.not_measured if each.is_out_of_memory]

    def draw(figure: Any, width: float) -> dict[str, str]:
        axes = _axes(figure, width, left=56, bottom=52 + 19 * len(lost), top=14)
        largest = max(row.peak_gib for row in rows)
        heights = [float(row.rouge1 or 0) if scored else row.peak_gib for row in rows]
        _frontier_line(axes, page)
        for row, height in zip(rows, heights, strict=True):
            axes.scatter(
                row.speed,
                height,
                s=60 + 840 * row.peak_gib / largest if scored else 110,
                marker="o" if scored else _marker(row.number),
                facecolor=_color(row.number),
                edgecolor=INK,
                alpha=0.85,
                linewidth=1,
                gid=f"point-{row.number}",
                zorder=3,
            )
        axes.set_xlabel("generated tokens per second →")
        axes.set_ylabel("ROUGE-1 F1 →" if scored else "peak memory, GiB")
        axes.margins(x=0.16, y=0.22)
        axes.set_xlim(left=max(0, axes.get_xlim()[0]))
        if not scored:
            axes.set_ylim(bottom=0)
        radii = [((60 + 840 * row.peak_gib / largest) if scored else 110) ** 0.5 / 2 for row in rows]
        _place_labels(axes, [(row.label, row.speed, y) for row, y in zip(rows, heights, strict=True)], radii)
        for place, each in enumerate(lost):
            words = f"✕ {each.experiment}{f' · {each.tag}' if each.tag else ''}: out of memory, so it has no point"
            limit = int(width / CHARACTER_WIDTH)
            figure.text(
                8 / width,
                (8 + 19 * (len(lost) - 1 - place)) / (figure.get_figheight() * 72),
                words if len(words) <= limit else f"✕ {each.experiment}: out of memory",
                color=BAD,
                fontsize=10.5,
            )
        return {f"point-{row.number}": _point_tip(row) for row in rows}

    what = "ROUGE-1" if scored else "peak memory"
    words = f"Speed against {what}: " + "; ".join(_point_tip(row) for row in rows)
    return _chart("tradeoff", words, draw, lambda width: (400 if width == WIDE else 330) + 19 * len(lost))


def _point_tip(row: Row) -> str:
    score = f", ROUGE-1 {row.rouge1:.3f}" if row.rouge1 is not None else ""
    return f"{row.label}: {row.speed:.1f} generated tokens/s{score}, peak {row.peak_gib:.2f} GiB"


def _frontier_line(axes: Any, page: Page) -> None:
    frontier = page.frontier
    if len(frontier) > 1:
        heights = [float(row.rouge1 or 0) if page.is_scored else row.peak_gib for row in frontier]
        axes.plot([row.speed for row in frontier], heights, color=MUTED, linestyle=(0, (5, 3)), linewidth=1.4, zorder=2)


Box = tuple[float, float, float, float]


def _place_labels(axes: Any, points: Sequence[tuple[str, float, float]], radii: Sequence[float]) -> None:
    """Each label beside its point where it covers neither another label nor a point, as far as that can be had."""
    at = axes.transData.transform([(x, y) for _, x, y in points])
    frame = axes.get_window_extent()
    taken: list[Box] = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(at, radii, strict=True)]
    for (label, _, _), (x, y), radius in zip(points, at, radii, strict=True):
        width = len(label) * CHARACTER_WIDTH
        best: tuple[float, float, float, Box] | None = None
        for distance in range(0, 60, 6):
            near = radius + 4 + distance
            for dx, dy in (
                (near, -4), (-near - width, -4), (-width / 2, near), (-width / 2, -near - 9),
                (near * 0.8, near * 0.8), (near * 0.8, -near * 0.8 - 9),
                (-near * 0.8 - width, near * 0.8), (-near * 0.8 - width, -near * 0.8 - 9),
            ):  # fmt: skip
                box = (x + dx - 2, y + dy - 3, x + dx + width, y + dy + 11)
                is_outside = (
                    box[0] < frame.x0 or box[2] > frame.x1 + 10 or box[1] < frame.y0 + 2 or box[3] > frame.y1 + 8
                )
                cost = sum(_overlap(box, other) for other in taken) + distance * 0.5 + 1_000 * is_outside
                if best is None or cost < best[0]:
                    best = (cost, dx, dy, box)
        if best is None:
            continue
        cost, dx, dy, box = best
        taken.append(box)
        is_far = abs(dy) > radius + 22
        axes.annotate(
            label,
            tuple(axes.transData.inverted().transform((x, y))),
            xytext=(dx, dy),
            textcoords="offset points",
            color=INK,
            fontsize=11.5,
            zorder=5,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.8, "shrinkB": 3} if is_far else None,
        )


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return across * up if across > 0 and up > 0 else 0.0


def seconds_chart(page: Page) -> Chart:
    """Seconds per document: each document a dot, the middle half a box, the median a line."""
    rows = page.rows

    def draw(figure: Any, width: float) -> dict[str, str]:
        axes = _axes(figure, width, left=_label_margin(rows, width), bottom=44)
        for place, row in enumerate(reversed(rows)):
            seconds = list(row.document_seconds.values())
            spread = [place + 0.26 * ((7 * number % 11) / 5 - 1) for number in range(len(seconds))]
            axes.scatter(
                seconds,
                spread,
                s=16,
                color=_color(row.number),
                alpha=0.65,
                linewidth=0,
                gid=f"seconds-{row.number}",
                zorder=2,
            )
            axes.boxplot(
                [seconds],
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
        every = [each for row in rows for each in row.document_seconds.values()]
        if min(every) > 0 and max(every) > 12 * min(every):
            _log_axis(axes)
        else:
            axes.set_xlim(left=0)
        _name_rows(axes, rows)
        axes.set_xlabel("seconds per document" if width == WIDE else "seconds")
        return {f"seconds-{row.number}": _seconds_tip(row) for row in rows}

    words = "Seconds per document: " + "; ".join(_seconds_tip(row) for row in rows)
    return _chart("seconds", words, draw, lambda _: 62 + 46 * len(rows))


def _log_axis(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _seconds_tip(row: Row) -> str:
    seconds = list(row.document_seconds.values())
    median = row.seconds_percentile(50)
    middle = f"median {median:.2f}, " if median is not None else ""
    return f"{row.label}: {middle}from {min(seconds):.2f} to {max(seconds):.2f} s, {len(seconds)} documents"


def _name_rows(axes: Any, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [row.label for row in reversed(rows)])
    axes.tick_params(axis="y", labelcolor=INK, labelsize=11, length=0)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def utilization_chart(page: Page) -> Chart | None:
    """Bytes of weights read per second beside what the device can copy; None where no row has it."""
    rows = [row for row in page.rows if row.utilization is not None]
    if not rows:
        return None

    def draw(figure: Any, width: float) -> dict[str, str]:
        axes = _axes(figure, width, left=_label_margin(rows, width), bottom=44, top=26, right=44)
        shares = [float(row.utilization or 0) for row in rows]
        for place, (row, share) in enumerate(zip(reversed(rows), reversed(shares), strict=True)):
            axes.barh(place, share, height=0.56, color=_color(row.number), gid=f"share-{row.number}", zorder=2)
            axes.annotate(
                f"{share:.1%}" if share < 0.1 else f"{share:.0%}",
                (share, place),
                xytext=(5, -4),
                textcoords="offset points",
                zorder=5,
                bbox={"facecolor": SURFACE, "edgecolor": "none", "pad": 1, "alpha": 0.85},
            )
        axes.axvline(1, color=BAD, linewidth=1.6, linestyle=(0, (6, 3)), zorder=3)
        axes.annotate(
            "device's limit",
            (1, len(rows) - 0.4),
            xytext=(4, 5),
            textcoords="offset points",
            ha="right",
            color=BAD,
            fontsize=10.5,
        )
        axes.set_xlim(0, max(1.05, *(share * 1.02 for share in shares)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _name_rows(axes, rows)
        axes.set_xlabel("of the measured copy bandwidth")
        return {f"share-{row.number}": f"{row.label}: {row.utilization:.1%}" for row in rows}

    words = "Model bandwidth utilization: " + "; ".join(f"{row.label} {row.utilization:.1%}" for row in rows)
    return _chart("utilization", words, draw, lambda _: 84 + 34 * len(rows))


def change_chart(page: Page) -> Chart | None:
    """Ratio to the latest baseline and to the anchor with their intervals; None where nothing was compared."""
    rows = [row for row in page.rows if row.change]
    if not rows:
        return None

    def draw(figure: Any, width: float) -> dict[str, str]:
        axes = _axes(figure, width, left=_label_margin(rows, width), bottom=44)
        axes.axvspan(0.95, 1.05, color=GRID, alpha=0.6, linewidth=0, zorder=0)
        axes.axvline(1, color=MUTED, linewidth=1.2, zorder=1)
        for place, row in enumerate(reversed(rows)):
            for key, shift, is_filled in (("change", 0.0, True), ("anchor", -0.26, False)):
                found = row.info.get(key)
                if found:
                    y = place + shift + (0.13 if row.anchor else 0)
                    axes.plot([found["low"], found["high"]], [y, y], color=_color(row.number), linewidth=2.4, zorder=2)
                    axes.scatter(
                        found["ratio"],
                        y,
                        s=70 if is_filled else 46,
                        marker="o" if is_filled else "D",
                        facecolor=_color(row.number) if is_filled else SURFACE,
                        edgecolor=INK,
                        linewidth=1,
                        gid=f"{key}-{row.number}",
                        zorder=3,
                    )
        _name_rows(axes, rows)
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, 0.94), max(high, 1.06))
        axes.locator_params(axis="x", nbins=8 if width == WIDE else 4)
        axes.set_xlabel("generated tokens/s, now ÷ then" if width == WIDE else "now ÷ then")
        return {f"{key}-{row.number}": _change_tip(row, key) for row in rows for key in ("change", "anchor")}

    words = "Change of generated tokens per second: " + "; ".join(_change_tip(row, "change") for row in rows)
    return _chart("change", words, draw, lambda _: 62 + 44 * len(rows))


def _change_tip(row: Row, key: str) -> str:
    found: Mapping[str, Any] = row.info.get(key) or {}
    if not found:
        return row.label
    return f"{row.label}: {found['ratio']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def history_chart(page: Page) -> Chart | None:
    """Generated tokens per second over the stored runs, a panel an experiment; None where none was measured twice."""
    histories = [each for each in page.histories if len(each.measurements) > 1]
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
            tips |= _draw_history(panel, history)
        for panel in list(panels.flat)[len(histories) :]:
            panel.set_visible(False)
        return tips

    words = "History of generated tokens per second: " + "; ".join(
        f"{each.label} {', '.join(f'{one.speed:.1f}' for one in each.measurements)}" for each in histories
    )
    return _chart("history", words, draw, height_at)


def _draw_history(axes: Any, history: History) -> dict[str, str]:
    points = history.measurements
    speeds = [each.speed for each in points]
    axes.plot(range(len(points)), speeds, color=_color(history.number), linewidth=1.8, zorder=2)
    tips = {}
    for place, each in enumerate(points):
        marker, face, edge = VERDICT_MARKERS.get(each.verdict, OTHER_VERDICT_MARKER)
        group = f"history-{history.number}-{place}"
        axes.scatter(place, each.speed, s=52, marker=marker, facecolor=face, edgecolor=edge, zorder=3, gid=group)
        tips[group] = (
            f"{each.date} {each.label}: {each.speed:.1f} tokens/s, {each.verdict}{', anchor' if each.is_anchor else ''}"
        )
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
