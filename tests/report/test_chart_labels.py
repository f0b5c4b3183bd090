"""Labels of charts fit into their margins, and charts of many documents stay small."""

import itertools
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from summarybench.report.charts import seconds, tradeoff
from summarybench.report.charts.labels import place_labels
from summarybench.report.charts.svg import CHARACTER_WIDTH, LABEL_GAP, NARROW, STYLE, axes_in, wrapped_label
from summarybench.report.experiment import Source
from summarybench.report.view import view_of
from summarybench.runs.baselines import StoredRun
from tests.run_files import A100, benchmark, run_of


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (29, "fp16-compiled ×32 (batching)"),
        (19, "fp16-compiled ×32\n(batching)"),
        (10, "fp16-\ncompiled\n×32…"),
    ],
)
def test_a_label_is_wrapped_to_its_margin(columns, expected):
    found = wrapped_label("fp16-compiled ×32 (batching)", LABEL_GAP + columns * CHARACTER_WIDTH)
    assert found == expected
    assert max(map(len, found.split("\n"))) <= columns


def test_a_name_without_a_place_to_break_is_broken_all_the_same():
    assert wrapped_label("m" * 30, LABEL_GAP + 20 * CHARACTER_WIDTH) == f"{'m' * 20}\n{'m' * 10}"


def test_tick_labels_of_close_scores_leave_the_axis_label_within_the_chart():
    run = run_of(benchmark(rouge1=0.0235), benchmark("llama2-7b-chat-8-bit", rouge1=0.0239))
    view = view_of([Source(stored=StoredRun(path=Path("run.json"), run=run), device=A100)])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(NARROW / 72, 330 / 72), dpi=72)
        FigureCanvasAgg(figure)
        drawn = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tradeoff, "chart", lambda _, __, draw, ___: drawn.append(draw(figure, NARROW)))
            tradeoff.tradeoff_chart(view)
        figure.canvas.draw()
        (axes,) = figure.axes
        assert drawn
        assert axes.yaxis.label.get_window_extent().x0 >= 0


def test_dots_are_spread_over_all_times():
    assert seconds.dots_of([4.0, 1.0, 3.0, 2.0, 0.0], 3) == [0.0, 2.0, 4.0]
    assert seconds.dots_of([4.0, 1.0], 3) == [4.0, 1.0]
    assert seconds.dots_of([4.0, 1.0], 1) == [1.0]


@pytest.mark.parametrize(("limit", "most", "left"), [("MOST_DOTS", 3, 3), ("MOST_DOTS_IN_ALL", 11, 5)])
def test_chart_of_seconds_draws_a_limited_number_of_dots(monkeypatch, limit, most, left):
    run = run_of(benchmark(), benchmark("llama2-7b-chat-8-bit"))
    view = view_of([Source(stored=StoredRun(path=Path("run.json"), run=run), device=A100)])
    whole = seconds.seconds_chart(view).wide.count("<use ")
    monkeypatch.setattr(seconds, limit, most)
    assert whole - seconds.seconds_chart(view).wide.count("<use ") == 2 * (8 - left)


def test_labels_of_close_points_do_not_overlap():
    points = [
        ("server, concurrency 1", 78.0, 51.1),
        ("server, rate 5", 98.0, 51.2),
        ("server, concurrency 4", 315.0, 51.3),
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(NARROW / 72, 330 / 72), dpi=72)
        FigureCanvasAgg(figure)
        axes = axes_in(figure, NARROW, left=64, bottom=48, top=14)
        axes.set_xlim(0, 700)
        axes.set_ylim(0, 60)
        place_labels(axes, points, [4.5] * len(points))
        figure.canvas.draw()
        boxes = [each.get_window_extent() for each in axes.texts]
    assert [each.get_text() for each in axes.texts] == [label for label, _, _ in points]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
