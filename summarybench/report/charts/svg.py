"""Drawing with matplotlib, and the SVG as a part of the page.

A chart is drawn in placeholder colours, which are then replaced by the page's CSS variables. So one drawing serves the light
and the dark theme. Each chart is drawn for a wide and for a narrow screen, because text that is scaled down with its picture
cannot be read on a phone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from markupsafe import Markup, escape

from summarybench.report.experiment import ExperimentView

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
"""The page's CSS variable for each placeholder colour."""
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
"""Widths of a chart in pixels."""
CHARACTER_WIDTH = 6.7
"""Width of a character in pixels, a little more than in the page's own font."""

LABEL_GAP, LABEL_LINES = 14, 3
"""Pixels between a line's label and its axis, and the lines of text that a label may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture in two widths. Each has the sentence for screen readers in it."""

    wide: Markup
    narrow: Markup


Draw = Callable[[Any, float], Mapping[str, str]]
"""Draws into a matplotlib figure of this width in pixels, and returns the tooltip of each group id."""


def chart(name: str, words: str, draw: Draw, height: Callable[[float], float]) -> Chart:
    """The chart in both widths. `words` describes it to screen readers; `height` gives the pixels for each width."""
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
    """An SVG file as a part of a page: with ids of its own, the page's colours, and tooltips."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style type.*?</style>", "", body, flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]*)"', body)
    start = f'<svg role="img" aria-label="{escape(words)}" viewBox="{view.group(1) if view else ""}" '
    start += 'xmlns:xlink="http://www.w3.org/1999/xlink">'
    body = start + body[body.index(">") + 1 :]
    for group, tip in tips.items():
        body = body.replace(f'<g id="{group}">', f'<g id="{group}"><title>{escape(tip)}</title>')
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = body.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    body = re.sub(r"#0[12]0[12][0-9a-f]{2}", lambda found: f"var(--{VARIABLES[found.group()]})", body)
    return Markup(body)  # noqa: S704  (matplotlib escapes text, and what is added here is escaped above)


def series_color(number: int) -> str:
    """The placeholder colour of the experiment with this number."""
    return f"#0202{number % SERIES:02x}"


def axes_in(figure: Any, width: float, *, left: float, bottom: float, right: float = 12, top: float = 10) -> Any:
    """Axes with margins in pixels."""
    height = figure.get_figheight() * 72
    return figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    )


def label_margin(experiments: Sequence[ExperimentView], width: float) -> float:
    """Pixels for the labels on the left of a chart with a line for each experiment."""
    longest = max((len(each.label) for each in experiments), default=0)
    return min(longest * CHARACTER_WIDTH + LABEL_GAP, width * 0.42)


def wrapped_label(label: str, pixels: float) -> str:
    """The label in lines that fit into these pixels, at most LABEL_LINES; what is left over ends in "…"."""
    columns = max(1, int((pixels - LABEL_GAP) / CHARACTER_WIDTH + 0.01))
    return "\n".join(wrap(label, columns, max_lines=LABEL_LINES, placeholder="…" if columns > 1 else ""))


def name_lines(axes: Any, experiments: Sequence[ExperimentView]) -> None:
    """Label the lines of a chart, the first experiment at the top."""
    margin = axes.get_position().x0 * axes.figure.get_figwidth() * 72
    labels = [wrapped_label(each.label, margin) for each in reversed(experiments)]
    axes.set_yticks(range(len(experiments)), labels, linespacing=1.05)
    axes.tick_params(axis="y", labelcolor=INK, labelsize=11, length=0)
    axes.set_ylim(-0.6, len(experiments) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
