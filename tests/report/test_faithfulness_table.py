"""The table of faithfulness: means over summaries, counts of summaries, and what is left out where nothing is known."""

from __future__ import annotations

import pytest

from summarybench.report.figures.faithfulness import GROUP
from summarybench.report.terminal import final_report
from summarybench.report.view import view_of
from tests.report.test_view import source
from tests.run_files import A100, benchmark, faithfulness_of_documents, run_of

NONE = [None] * 8


def values(**lists):
    """The figures of an experiment with these lists, by key."""
    (experiment,) = view_of([source(benchmark(faithfulness=faithfulness_of_documents(**lists)))]).experiments
    return {figure.key: figure.value(experiment) for figure in GROUP.terms}


def test_shares_are_means_over_the_summaries_that_have_them():
    found = values(novel_words=[0.5, 0.25, *[None] * 6], density=[1.0, 3.0] * 4)
    assert (found["novel-words"], found["density"]) == (0.375, 2.0)


def test_numbers_are_counted_by_summary():
    found = values(numbers=[3, 1, 2, 0, 0, 0, 0, 0], novel_numbers=[3, 1, 0, 0, 0, 0, 0, 0])
    assert found["novel-numbers"] == 2


def test_what_no_summary_has_cannot_be_new():
    found = values(names=NONE, novel_names=NONE)
    assert (found["novel-numbers"], found["novel-dates"], found["novel-names"]) == (None, None, None)


def test_band_counts_both_of_its_ends():
    assert values(length_ratio=[0.9, 1.1, 0.89, 1.11, 1.0, None, None, None])["in-band"] == 3 / 5


@pytest.mark.parametrize("record", [None, faithfulness_of_documents(novel_words=NONE)])
def test_experiments_without_a_figure_have_no_table(record):
    titles = [each.title for each in view_of([source(benchmark(faithfulness=record))]).tables]
    assert not any("Faithfulness" in each for each in titles)


def test_all_columns_fit_80_characters():
    lists = {name: [2] * 8 for name in ("numbers", "novel_numbers", "dates", "novel_dates", "names", "novel_names")}
    found = faithfulness_of_documents(novel_words=[1.0] * 8, compression=[100.0] * 8, **lists)
    run = run_of(benchmark("smollm2-135m-instruct-default", faithfulness=found))
    lines = final_report(run, A100, width=80, color=False).splitlines()
    start = lines.index("Faithfulness: what summaries have that their documents do not")
    assert lines[start + 6] == "default                100%    8     8     8 100%  2.0 100.0  1.00 100%"
    assert max(map(len, lines[start : start + 7])) == 71
