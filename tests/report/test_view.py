"""The view that every report renders: labels, tables, outcomes, and runs side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from summarybench.kinds.registry import KINDS
from summarybench.report.experiment import Source
from summarybench.report.tables import OVERVIEW, details, overview
from summarybench.report.view import view_of
from summarybench.runs.baselines import StoredRun
from tests.run_files import A100, benchmark, outcome, run_of

FP16, FOUR = "llama2-7b-chat-fp16", "llama2-7b-chat-4-bit"
UNSCORED = {
    **dict.fromkeys(("rouge1", "rouge2", "rougeLsum", "rouge1_interval", "rouge1_floor", "degenerate")),
    "degenerate_document_ids": None,
    "rouge1_scores": [],
}


def source(*benchmarks, outcomes=(), path="a/run.json"):
    run = run_of(*benchmarks, outcomes=tuple(outcomes))
    return Source(stored=StoredRun(path=Path(path), run=run), device=A100)


def of_kind(name, **info):
    return benchmark(kind=KINDS[name].facts.as_record(), **info)


@pytest.mark.parametrize(
    ("measured", "labels"),
    [
        ([benchmark(FP16), benchmark(FOUR)], ["fp16", "4-bit"]),
        ([benchmark(FP16), benchmark("mistral-7b-instruct-fp16")], ["llama2 fp16", "mistral fp16"]),
        ([benchmark(), of_kind("distributed")], ["4-bit", "4-bit (distributed)"]),
        ([benchmark(), of_kind("batching", batch_size=8)], ["4-bit", "4-bit ×8 (batching)"]),
    ],
)
def test_labels_are_as_short_as_distinct_names_can_be(measured, labels):
    assert [each.label for each in view_of([source(*measured)]).experiments] == labels


def test_runs_side_by_side_have_letters():
    view = view_of([source(benchmark(FP16)), source(benchmark(FP16), benchmark(FOUR), path="b/run.json")])
    assert [each.label for each in view.experiments] == ["fp16 · A", "fp16 · B", "4-bit"]
    assert str(view.notes[0]).startswith("A: ")


def test_outcomes_are_counted_in_words():
    view = view_of([source(outcomes=[outcome("a", "out_of_memory"), outcome("b", "passed"), outcome("c", "passed")])])
    assert view.outcomes == {"out of memory": 1, "passed": 2}


def test_a_table_without_rows_is_left_out():
    scored, unscored = source(benchmark()), source(benchmark(**UNSCORED, joules_per_token=None))
    assert [each.title for each in view_of([scored]).tables] == ["Speed", "Quality (F1)", "Cost and energy", "Device"]
    assert [each.title for each in view_of([unscored]).tables] == ["Speed", "Device"]


def test_overview_leaves_out_columns_that_no_experiment_has():
    keys = [column.figure.key for column in overview(view_of([source(benchmark(**UNSCORED))]).experiments).columns]
    assert {column.figure.key for column in OVERVIEW} - set(keys) == {"anchor", "ratio", "rouge", "scored"}


def test_details_have_scores_where_any_experiment_was_scored():
    experiments = view_of([source(benchmark(FP16, **UNSCORED), benchmark(FOUR))]).experiments
    quality, resources = details(experiments)
    headings = [column.figure.name for column in quality.columns]
    assert [row.cells[headings.index("ROUGE-2")].text for row in quality.rows] == ["–", "0.062"]
    (unscored,) = details(experiments[:1])
    assert [column.figure.name for column in unscored.columns] == [
        *("Cut off", "Truncated"),
        *(column.figure.name for column in resources.columns),
    ]


def test_ways_of_different_runs_are_not_compared():
    eager, compiled = benchmark(), benchmark("llama2-7b-chat-4-bit-compiled")
    one_run = view_of([source(eager, compiled)])
    two_runs = view_of([source(eager), source(compiled, path="b/run.json")])
    assert "Side by side" in [each.title for each in one_run.tables]
    assert "Side by side" not in [each.title for each in two_runs.tables]


def test_long_documents_of_which_none_was_too_long_have_no_table():
    lists = ("unread_tokens", "earlier_calls", "earlier_prompt_tokens", "earlier_generated_tokens")
    none, one = (source(benchmark(long_documents={name: [count, *[0] * 7] for name in lists})) for count in (0, 3))
    titles = [[table.title for table in view_of([each]).tables] for each in (none, one)]
    assert ["Long documents" in each for each in titles] == [False, True]
