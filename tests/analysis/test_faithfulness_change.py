"""Faithfulness against another run's: the verdicts, what may fail, and Holm's correction over the session."""

from __future__ import annotations

import pytest

from summarybench.analysis.comparison import Comparison
from summarybench.analysis.faithfulness_change import (
    NovelChange,
    compare_faithfulness,
    describe_faithfulness,
    p_values_of_faithfulness,
)
from summarybench.analysis.quality_change import assert_quality_held
from summarybench.analysis.quality_session import failing_losses
from summarybench.core.outcomes import QualityError, Verdict
from summarybench.runs.run_file import entries_of
from tests.run_files import benchmark, run_of

FILE = "0001_main.json"
TEN = (2.0,) * 10


def figures(**lists):
    """The record of ten summaries in which nothing is new."""
    counts = dict.fromkeys(("numbers", "novel_numbers", "dates", "novel_dates", "names", "novel_names"), [0] * 10)
    shares = dict.fromkeys(("novel_words", "novel_bigrams", "novel_trigrams", "coverage", "density"), [0.0] * 10)
    return counts | shares | dict.fromkeys(("compression", "length_ratio"), [1.0] * 10) | lists


def with_new(count, key="numbers"):
    return figures(**{f"novel_{key}": [2] * count + [0] * (10 - count), key: [2] * 10})


def entry(record, digest="1"):
    info = {"faithfulness": record, "summary_sha256": [digest * 64] * 10}
    return entries_of(run_of(benchmark(seconds=TEN, **info)))[0]


def compared(now, before, digest="2"):
    return compare_faithfulness(entry(now, digest), entry(before), FILE)


@pytest.mark.parametrize(
    ("more", "fewer", "documents", "verdict"),
    [
        pytest.param(7, 0, 10, "INFERIOR", id="p-is-1/128"),
        pytest.param(6, 0, 10, "INCONCLUSIVE", id="p-is-1/64"),
        pytest.param(8, 1, 10, "INCONCLUSIVE", id="p-is-10/512"),
        pytest.param(10, 1, 100, "INFERIOR", id="p-is-12/2048-and-9-points"),
        pytest.param(9, 0, 200, "INCONCLUSIVE", id="certain-but-within-the-margin"),
        pytest.param(0, 0, 100, "INCONCLUSIVE", id="upper-bound-of-5.1-points"),
        pytest.param(0, 0, 110, "NON-INFERIOR", id="upper-bound-of-4.7-points"),
        pytest.param(0, 9, 100, "NON-INFERIOR", id="better"),
    ],
)
def test_verdict_needs_mcnemar_s_test_and_the_margin(more, fewer, documents, verdict):
    assert NovelChange(before=0, more=more, fewer=fewer, documents=documents).verdict == verdict


def test_summaries_are_counted_in_pairs_of_documents():
    found = compared(with_new(4), figures(novel_numbers=[0, 0, 1, *[0] * 6, 1], numbers=[1] * 10))
    change = found.counted["novel_numbers"]
    assert (change.before, change.more, change.fewer, change.documents) == (2, 3, 1, 10)
    assert change.mean == pytest.approx(0.2)


def test_same_texts_are_certainly_not_worse():
    found = compared(with_new(4), with_new(4), digest="1").as_extra_info()
    assert (found["verdict"], found["changed_summaries"]) == ("NON-INFERIOR", 0)
    assert (found["counted"]["novel_numbers"]["low"], found["counted"]["novel_numbers"]["high"]) == (0, 0)


def test_run_without_the_record_is_not_compared():
    assert compared(with_new(4), None) is None
    assert compared(None, with_new(4)) is None


def test_names_that_one_side_does_not_know_are_left_out():
    found = compared(with_new(4), figures(names=[None] * 3 + [0] * 7, novel_names=[None] * 3 + [0] * 7))
    assert list(found.counted) == ["novel_numbers", "novel_dates"]


def test_more_new_words_are_reported_and_never_fail():
    found = compared(figures(novel_words=[0.9] * 10), figures(novel_words=[0.1] * 10))
    share = found.as_extra_info()["shares"]["novel_words"]
    assert (share["verdict"], share["mean"]) == ("INFERIOR", pytest.approx(0.8))
    assert share["low"] < 0.8 < share["high"]
    assert found.faults == ()
    assert list(p_values_of_faithfulness(found.as_extra_info())) == []


@pytest.mark.parametrize("key", ["numbers", "dates", "names"])
def test_loss_fails_the_test(key):
    lost = Comparison(verdict=Verdict.UNCHANGED, detail="", faithfulness=compared(with_new(7, key), figures()))
    with pytest.raises(QualityError, match=f"faithfulness INFERIOR to {FILE}: .*summaries with new {key} \\+70 points"):
        assert_quality_held(*lost.qualities, *lost.faithfulness_changes)
    held = lost.at_quality_level(0.001)
    assert_quality_held(*held.qualities, *held.faithfulness_changes)
    assert "; p 0.0078, and only 0.001 fails at once: Holm" in describe_faithfulness(held.faithfulness.as_extra_info())


def test_description_has_each_count_and_its_bounds():
    found = describe_faithfulness(compared(with_new(7), figures()).as_extra_info())
    assert found.startswith(
        f"to {FILE}: summaries with new numbers +70 points [+10, +91] (7 more and 0 fewer of 10, p 0.0078); "
        "summaries with new dates +0 points [-35, +35] (0 more and 0 fewer of 10)"
    )
    assert "; margin 5; new words +0.0 points" in found


def session(*changes):
    found = []
    for number, change in enumerate(changes):
        made = benchmark(seconds=TEN, faithfulness_change=change and change.as_extra_info())
        found.append(made | {"fullname": f"test {number}"})
    return list(failing_losses(found))


def test_holm_counts_faithfulness_with_the_other_tests_of_a_session():
    lost, even = compared(with_new(8), figures()), compared(with_new(7), with_new(7))
    assert session(lost) == ["test 0"]
    assert session(lost, even) == ["test 0"]  # a test in which nothing has changed cannot fail
    mixed = compared(
        figures(novel_numbers=[1] * 5 + [0] * 5, numbers=[1] * 10),
        figures(novel_numbers=[0] * 5 + [1] * 5, numbers=[1] * 10),
    )
    assert session(lost, mixed) == ["test 0"]  # 1/256 ≤ 0.01 ÷ 2
    assert session(lost, mixed, mixed) == []


def test_loss_against_the_anchor_fails_too():
    change = compared(with_new(8), figures()).as_extra_info()
    (made,) = [benchmark(seconds=TEN, anchor={"faithfulness_change": change})]
    assert list(failing_losses([made])) == [made["fullname"]]


def test_description_says_what_holm_s_correction_decided():
    change = compared(with_new(7), figures()).as_extra_info() | {"level": 0.001}
    lost = "by Holm's correction over all comparisons of the session (p 0.0078)"
    assert describe_faithfulness(change, is_confirmed=True).endswith(f"; fails, confirmed {lost}")
    assert describe_faithfulness(change, is_confirmed=False).endswith(f"; does not fail, as it is not confirmed {lost}")
    at_once = compared(with_new(7), figures()).as_extra_info()
    assert "Holm" not in describe_faithfulness(at_once, is_confirmed=True)
