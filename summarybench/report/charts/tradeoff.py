"""Speed or cost against quality, or against memory where nothing is scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from summarybench.core.numbers import GIB, trimmed
from summarybench.report.charts.labels import place_labels
from summarybench.report.charts.svg import BAD, CHARACTER_WIDTH, INK, MUTED, WIDE, Chart, axes_in, chart, series_color
from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.cost import COST_PER_DOCUMENTS, cost_per_thousand_documents
from summarybench.report.figures.memory import PEAK
from summarybench.report.figures.quality import ROUGE1
from summarybench.report.figures.speed import GENERATED
from summarybench.report.headline import NotMeasured
from summarybench.report.view import RunView

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
WIDE_RANGE = 5
"""Costs that differ by more than this factor are shown on a logarithmic axis."""
PLAIN_AREA = 110
"""Area of a point in square pixels where it shows nothing."""
LEAST_AREA, MOST_AREA = 60, 900
LEFT = 66
"""Pixels for tick labels of six characters, such as 0.0325, and the label of the axis."""


def tradeoff_chart(view: RunView) -> Chart:
    """Speed against ROUGE-1, with bubbles as large as the peak memory; against peak memory where nothing is scored.

    With a price for a GPU-hour, cost takes the place of speed. Points on the efficient frontier have a thick rim.
    """
    scored, priced = view.is_scored, view.is_priced
    best = {each.number for each in view.frontier}
    shown = [
        each for each in view.experiments if (each.rouge1 if scored else each.info["peak_memory_bytes"]) is not None
    ]
    lost = [each for each in view.not_measured if each.is_out_of_memory]

    def draw(figure: Any, width: float) -> dict[str, str]:
        axes = axes_in(figure, width, left=LEFT, bottom=52 + 19 * len(lost), top=14)
        points = [(each.label, _across(each, priced=priced), _height(each, scored=scored)) for each in shown]
        areas = _areas(shown) if scored else [PLAIN_AREA] * len(shown)
        _draw_frontier(axes, view)
        for each, (_, x, y), area in zip(shown, points, areas, strict=True):
            axes.scatter(
                x,
                y,
                s=area,
                marker="o" if scored else _marker(each.number),
                facecolor=series_color(each.number),
                edgecolor=INK,
                alpha=0.85,
                linewidth=2.6 if each.number in best else 1,
                gid=f"point-{each.number}",
                zorder=3,
            )
        _scale(axes, [x for _, x, _ in points], scored=scored, priced=priced)
        place_labels(axes, points, [area**0.5 / 2 for area in areas])
        _name_lost(figure, width, lost)
        return {f"point-{each.number}": tips[each.number] for each in shown}

    what = ROUGE1.name if scored else PEAK.name.lower()
    tips = {each.number: _tip(each, priced=priced, is_best=each.number in best) for each in shown}
    words = f"{'Cost' if priced else 'Speed'} against {what}: " + "; ".join(tips.values())
    return chart("tradeoff", words, draw, lambda width: (400 if width == WIDE else 330) + 19 * len(lost))


def _tip(experiment: ExperimentView, *, priced: bool, is_best: bool) -> str:
    score = f", {ROUGE1.name} {ROUGE1.format.number(ROUGE1.value(experiment))}" if experiment.rouge1 is not None else ""
    speed, peak = GENERATED.text(experiment), PEAK.text(experiment)
    spent = f"{COST_PER_DOCUMENTS.text(experiment)} per 1,000 documents, " if priced else ""
    mark = "; on the efficient frontier" if is_best else ""
    return f"{experiment.label}: {spent}{speed} generated {GENERATED.unit}{score}, peak {peak} {PEAK.unit}{mark}"


def _across(experiment: ExperimentView, *, priced: bool) -> float:
    """Cost or speed."""
    spent = cost_per_thousand_documents(experiment) if priced else None
    return float(experiment.info["generated_tokens_per_second"]) if spent is None else spent


def _peak_gib(experiment: ExperimentView) -> float:
    """0 where it is unknown."""
    return (experiment.info["peak_memory_bytes"] or 0) / GIB


def _height(experiment: ExperimentView, *, scored: bool) -> float:
    return float(experiment.rouge1 or 0) if scored else _peak_gib(experiment)


def _areas(experiments: Sequence[ExperimentView]) -> list[float]:
    """Areas in square pixels, proportional to the peak memory above a least area."""
    peaks = [_peak_gib(each) for each in experiments]
    largest = max(peaks, default=0) or 1
    return [LEAST_AREA + (MOST_AREA - LEAST_AREA) * peak / largest for peak in peaks]


def _marker(number: int) -> str:
    return MARKERS[(number + number // len(MARKERS)) % len(MARKERS)]


def _scale(axes: Any, spent: Sequence[float], *, scored: bool, priced: bool) -> None:
    axes.set_xlabel("← cost per 1,000 documents" if priced else "generated tokens per second →")
    axes.set_ylabel("ROUGE-1 F1 →" if scored else "peak memory, GiB")
    if priced and len(spent) > 1 and max(spent) > WIDE_RANGE * min(spent):
        _stretch_low_costs(axes)
    axes.margins(x=0.16, y=0.22)
    axes.set_xlim(left=max(0, axes.get_xlim()[0]))
    if not scored:
        axes.set_ylim(bottom=0)


def _stretch_low_costs(axes: Any) -> None:
    """A logarithmic axis, on which costs that differ by the same factor have the same distance."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: trimmed(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_frontier(axes: Any, view: RunView) -> None:
    if len(view.frontier) > 1:
        axes.plot(
            [_across(each, priced=view.is_priced) for each in view.frontier],
            [_height(each, scored=view.is_scored) for each in view.frontier],
            color=MUTED,
            linestyle=(0, (5, 3)),
            linewidth=1.4,
            zorder=2,
        )


def _name_lost(figure: Any, width: float, lost: Sequence[NotMeasured]) -> None:
    """The experiments without a point, below the chart."""
    most = int(width / CHARACTER_WIDTH)
    for place, each in enumerate(lost):
        words = f"✕ {each.experiment}{f' · {each.tag}' if each.tag else ''}: out of memory, so it has no point"
        figure.text(
            8 / width,
            (8 + 19 * (len(lost) - 1 - place)) / (figure.get_figheight() * 72),
            words if len(words) <= most else f"✕ {each.experiment}: out of memory",
            color=BAD,
            fontsize=10.5,
        )
