"""Latency against throughput of servers, one point for each load, with the region in which the objective is met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from summarybench.core.numbers import decimal
from summarybench.report.charts.labels import Point, place_labels
from summarybench.report.charts.svg import GOOD, WIDE, Chart, axes_in, chart, series_color
from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.speed import GENERATED
from summarybench.report.view import RunView
from summarybench.runs.kind_records import PercentilesRecord, ServedRecord

MARKER_SIZE = 9
"""The diameter of a point, in pixels."""
LATENCIES = ("time_to_first_token_seconds", "seconds_per_output_token")
HEADINGS = {"time_to_first_token_seconds": "TTFT, ms", "seconds_per_output_token": "TPOT, ms"}
LIMITS = {"time_to_first_token_seconds": "first_token_seconds", "seconds_per_output_token": "seconds_per_token"}


def latency_chart(view: RunView) -> Chart | None:
    """The time to the first token above the time per later token. None without an experiment with a server."""
    shown = [each for each in view.experiments if "served" in each.info]
    if not shown:
        return None

    def draw(figure: Any, width: float) -> dict[str, str]:
        height = figure.get_figheight() * 72
        middle = height / 2
        upper = axes_in(figure, width, left=64, bottom=middle + 12, top=14)
        lower = axes_in(figure, width, left=64, bottom=48, top=middle + 12)
        for axes, latency in zip((upper, lower), LATENCIES, strict=True):
            _draw(axes, shown, latency)
        upper.tick_params(axis="x", labelbottom=False)
        lower.set_xlabel(f"generated {GENERATED.unit} →")
        return {f"latency-{each.number}-{latency}": _tip(each, latency) for each in shown for latency in LATENCIES}

    words = "Latency against throughput: " + "; ".join(_tip(each, latency) for each in shown for latency in LATENCIES)
    return chart("latency", words, draw, lambda width: 440 if width == WIDE else 400)


def _draw(axes: Any, experiments: Sequence[ExperimentView], latency: str) -> None:
    """The median of each experiment, with a line up to the highest percentile that is known."""
    points: list[Point] = []
    for each in experiments:
        found = _percentiles(each, latency)
        x, color = float(each.info["generated_tokens_per_second"]), series_color(each.number)
        if found["p50"] is None:
            continue
        known = [value * 1000 for value in found.values() if isinstance(value, float)]
        axes.plot([x, x], [known[0], known[-1]], color=color, linewidth=2, zorder=3)
        axes.plot(
            [x],
            [known[0]],
            "o",
            color=color,
            markersize=MARKER_SIZE,
            zorder=4,
            gid=f"latency-{each.number}-{latency}",
            clip_on=False,
        )
        points.append((each.label, x, known[0]))
    axes.set_ylabel(HEADINGS[latency])
    axes.margins(x=0.16, y=0.2)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    _draw_objective(axes, _served(experiments[0]), latency)
    place_labels(axes, points, [MARKER_SIZE / 2] * len(points))


def _draw_objective(axes: Any, served: ServedRecord, latency: str) -> None:
    """The region below the limit of the objective, as far as the axes reach."""
    if served["objective"] is None:
        return
    limit, top = float(dict(served["objective"])[LIMITS[latency]]) * 1000, axes.get_ylim()[1]  # type: ignore[arg-type]
    axes.axhspan(0, min(limit, top), color=GOOD, alpha=0.12, zorder=1)
    if limit < top:
        axes.axhline(limit, color=GOOD, linewidth=1.2, linestyle=(0, (6, 3)), zorder=2)


def _tip(experiment: ExperimentView, latency: str) -> str:
    found = _percentiles(experiment, latency)
    known = ", ".join(
        f"{name} {decimal(value * 1000, 1)} ms" for name, value in found.items() if isinstance(value, float)
    )
    return (
        f"{experiment.label}: {GENERATED.text(experiment)} {GENERATED.unit}, {HEADINGS[latency].split(',')[0]} {known}"
    )


def _served(experiment: ExperimentView) -> ServedRecord:
    return experiment.info["served"]


def _percentiles(experiment: ExperimentView, latency: str) -> PercentilesRecord:
    served = _served(experiment)
    is_first = latency == "time_to_first_token_seconds"
    return served["time_to_first_token_seconds"] if is_first else served["seconds_per_output_token"]
