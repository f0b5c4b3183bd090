"""The share of the copy bandwidth that decoding takes to read weights and KV cache."""

from __future__ import annotations

from typing import Any

from summarybench.analysis.utilization import utilization_of
from summarybench.core.numbers import percent
from summarybench.report.charts.svg import (
    BAD,
    SURFACE,
    Chart,
    axes_in,
    chart,
    label_margin,
    name_lines,
    series_color,
)
from summarybench.report.figures.device import UTILIZATION
from summarybench.report.view import RunView


def utilization_chart(view: RunView) -> Chart | None:
    """None if no experiment has the figure."""
    found = ((each, utilization_of(each.entry)) for each in view.experiments)
    shares = {each.number: float(share) for each, share in found if share is not None}
    shown = [each for each in view.experiments if each.number in shares]
    if not shown:
        return None

    def draw(figure: Any, width: float) -> dict[str, str]:
        axes = axes_in(figure, width, left=label_margin(shown, width), bottom=44, top=26, right=44)
        for place, each in enumerate(reversed(shown)):
            share = shares[each.number]
            axes.barh(place, share, height=0.56, color=series_color(each.number), gid=f"share-{each.number}", zorder=2)
            axes.annotate(
                percent(share, 1 if share < 0.1 else 0),
                (share, place),
                xytext=(5, -4),
                textcoords="offset points",
                zorder=5,
                bbox={"facecolor": SURFACE, "edgecolor": "none", "pad": 1, "alpha": 0.85},
            )
        _draw_limit(axes, len(shown))
        axes.set_xlim(0, max(1.05, *(share * 1.02 for share in shares.values())))
        axes.xaxis.set_major_formatter(lambda value, _: percent(value))
        name_lines(axes, shown)
        axes.set_xlabel("of the measured copy bandwidth")
        return {f"share-{each.number}": f"{each.label}: {percent(shares[each.number], 1)}" for each in shown}

    words = f"{UTILIZATION.name}: " + "; ".join(f"{each.label} {percent(shares[each.number], 1)}" for each in shown)
    return chart("utilization", words, draw, lambda _: 84 + 34 * len(shown))


def _draw_limit(axes: Any, lines: int) -> None:
    axes.axvline(1, color=BAD, linewidth=1.6, linestyle=(0, (6, 3)), zorder=3)
    axes.annotate(
        "device's limit",
        (1, lines - 0.4),
        xytext=(4, 5),
        textcoords="offset points",
        ha="right",
        color=BAD,
        fontsize=10.5,
    )
