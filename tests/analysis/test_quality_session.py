"""Losses of quality over a session: Holm's correction, the tests that count, and the anchor's."""

from __future__ import annotations

import pytest

from summarybench.analysis.quality_session import failing_losses, level_of_one_test, p_values_of
from tests.run_files import benchmark

LOST = {
    "verdict": "INFERIOR",
    "mean": -0.05,
    "low": -0.1,
    "high": -0.01,
    "confidence": 0.98,
    "documents": 20,
    "documents_needed": None,
    "changed_summaries": 20,
    "mcnemar": {kind: {"more": 0, "fewer": 0, "p_value": 1.0} for kind in ("empty", "repeating")},
    "baseline": "0001_main.json",
    "p_value": 0.004,
    "level": 0.001,
}
HELD = LOST | {"verdict": "NON-INFERIOR", "mean": 0.0, "p_value": 0.5}
SAME = HELD | {"changed_summaries": 0, "p_value": 1.0}


def measured(number, change, **info):
    found = benchmark(quality_change=change, **info)
    return found | {"fullname": f"test {number}"}


def failing(*changes):
    return list(failing_losses([measured(number, change) for number, change in enumerate(changes, start=1)]))


def test_loss_fails_if_holm_confirms_it_over_all_changed_texts_of_the_session():
    assert failing(LOST) == ["test 1"]
    assert failing(LOST, HELD) == ["test 1"]
    assert failing(LOST, HELD, HELD) == []  # 0.004 > 0.01 ÷ 3


def test_next_loss_has_a_level_more():
    assert failing(LOST | {"p_value": 0.004}, LOST | {"p_value": 0.009}) == ["test 1", "test 2"]
    assert failing(LOST | {"p_value": 0.006}, LOST | {"p_value": 0.009}) == []


def test_experiments_without_a_changed_text_are_no_tests():
    assert failing(LOST, *[SAME] * 50, None) == ["test 1"]


@pytest.mark.parametrize(("more", "fewer", "p_value"), [(6, 0, None), (7, 0, 0.0078), (0, 7, 1.0), (4, 3, 1.0)])
def test_mcnemar_s_test_counts_where_it_could_fail(more, fewer, p_value):
    test = {"more": more, "fewer": fewer, "p_value": p_value or 0.0156}
    found = dict(p_values_of(SAME | {"mcnemar": {"empty": test}}))
    assert found == ({} if p_value is None else {"more empty outputs than 0001_main.json": p_value})


def test_loss_within_the_margin_cannot_fail_and_counts_as_a_test():
    certain = LOST | {"verdict": "INCONCLUSIVE", "mean": -0.01, "p_value": 1e-6}
    assert dict(p_values_of(certain)) == {"quality INFERIOR to 0001_main.json": 1.0}
    assert failing(certain) == []


def test_slow_slide_fails_against_the_anchor():
    anchor = {"quality_change": LOST | {"baseline": "0001_anchor.json"}}
    found = failing_losses([measured(1, HELD, anchor=anchor)])
    assert found == {
        "test 1": (
            "quality INFERIOR to 0001_anchor.json: confirmed once all quality comparisons of the session were in (Holm, 2 tests)"
        )
    }


def test_run_from_before_p_values_were_stored_fails_nothing_again():
    assert failing({key: value for key, value in LOST.items() if key not in ("p_value", "level")}) == []


@pytest.mark.parametrize(
    ("experiments", "has_anchor", "tests"), [(0, False, 12), (1, False, 12), (1, True, 18), (12, False, 144)]
)
def test_bonferroni_s_level_counts_six_tests_of_each_comparison_that_may_be_made(experiments, has_anchor, tests):
    assert level_of_one_test(experiments, has_anchor=has_anchor) == pytest.approx(0.01 / tests)


def test_loss_of_faithfulness_against_the_teacher_counts_and_fails_too():
    counted = {"verdict": "INFERIOR", "before": 0, "more": 9, "fewer": 0, "documents": 20, "mean": 0.45}
    lost = {
        "verdict": "INFERIOR",
        "baseline": "the teacher",
        "margin": 0.05,
        "counted": {"novel_names": counted | {"low": 0.2, "high": 0.7, "p_value": 0.00195}},
    }
    change = {"quality_change": HELD | {"baseline": "the teacher"}, "faithfulness_change": lost}
    words = "faithfulness INFERIOR to the teacher: more summaries with new names"
    tests = "confirmed once all quality comparisons of the session were in (Holm, 2 tests)"
    assert failing_losses([measured(1, SAME, teacher_change=change)]) == {"test 1": f"{words}: {tests}"}
    others = [measured(number, HELD) for number in (2, 3, 4, 5)]
    assert failing_losses([measured(1, SAME, teacher_change=change), *others]) == {}  # 0.00195 > 0.01 ÷ 6


BESIDE_COUNTERPART = {"eager_loader": "4-bit", "reference_loader": "default"}


@pytest.mark.parametrize(("key", "facts"), [("teacher_change", {}), ("fidelity", BESIDE_COUNTERPART)])
def test_comparisons_within_the_session_count_and_fail_too(key, facts):
    lost = {"quality_change": LOST | {"baseline": "default of this run"}, **facts}
    assert list(failing_losses([measured(1, SAME, **{key: lost})])) == ["test 1"]
    others = [measured(number, HELD) for number in (2, 3)]
    assert failing_losses([measured(1, SAME, **{key: lost}), *others]) == {}


def test_what_a_format_loses_against_float32_neither_counts_nor_fails():
    lost = {
        "quality_change": LOST | {"baseline": "default of this session"},
        **BESIDE_COUNTERPART,
        "eager_loader": "default",
    }
    assert failing_losses([measured(1, SAME, fidelity=lost)]) == {}
    others = [measured(number, HELD) for number in (2, 3)]
    alone = failing_losses([measured(1, LOST), measured(4, SAME, fidelity=lost)])
    assert list(alone) == ["test 1"]
    assert failing_losses([measured(1, LOST), *others]) == {}  # as many tests more would raise the bar
