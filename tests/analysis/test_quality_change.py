"""Quality against another run: the three states, how many documents would decide, and McNemar's exact test."""

from __future__ import annotations

import pytest

from summarybench.analysis.quality_change import (
    McNemar,
    PairedDifference,
    assert_quality_held,
    at_level,
    compare_quality,
    describe,
    documents_needed,
    judge,
    mcnemar,
    paired_difference,
    quality_against_16_bit,
)
from summarybench.core.outcomes import QualityError, QualityVerdict
from summarybench.runs.run_file import entries_of
from tests.run_files import benchmark, run_of

NAME = "llama2-7b-chat-4-bit"
FILE = "0001_main.json"
# The squares of four −0.01 and four +0.01 sum up to 0.0008. With two documents of the typical deviation, 2 × 0.1², the variance
# is 0.0208 ÷ 9. Student's t at 99% with 7 degrees of freedom is 2.997952 (any printed table): a bound lies
# 2.997952 × √(0.0208 ÷ 9 ÷ 8) = 0.0509554 from the mean.
SWINGS = (-0.01, 0.01) * 4
REACH = 0.0509554


def entry(*, name=NAME, **info):
    return entries_of(run_of(benchmark(name, **info)))[0]


def shifted(mean):
    """Scores that differ from 0.25 by `mean`, and from that by a point up or down."""
    return [0.25 + mean + swing for swing in SWINGS]


def compared(now, before=None):
    return compare_quality(entry(**now), entry(**(before or {})), FILE)


def degenerate(*, empty=0, repeating=0):
    """The first so many documents."""
    counts = {"empty": empty, "repeating": repeating}
    found = {kind: [f"document {number + 1}" for number in range(count)] for kind, count in counts.items()}
    return {"degenerate_document_ids": found}


# ROUGE-1 in pairs ---------------------------------------------------------------------------------------------------


def test_paired_difference_agrees_with_a_count_by_hand():
    found = paired_difference(shifted(-0.01), [0.25] * 8)
    assert (found.mean, found.documents) == (pytest.approx(-0.01), 8)
    assert found.standard_deviation == pytest.approx(0.0106904, rel=1e-5)
    assert found.bounds.low == pytest.approx(-0.01 - REACH, abs=1e-7)
    assert found.bounds.high == pytest.approx(-0.01 + REACH, abs=1e-7)
    assert found.bounds.confidence == pytest.approx(0.98)


def test_what_the_documents_have_in_common_does_not_widen_the_bounds():
    levels = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6]
    found = paired_difference([level - 0.01 for level in levels], levels)
    assert found.standard_deviation == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("now", "before"), [([], []), ([0.5], [0.5]), ([0.5] * 8, [0.5] * 7), ([], [0.5] * 8)])
def test_paired_difference_needs_the_same_two_documents(now, before):
    with pytest.raises(ValueError, match=f"{len(now)} now, {len(before)} before"):
        paired_difference(now, before)


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        pytest.param(0.05, "NON-INFERIOR", id="better"),
        pytest.param(0.037, "NON-INFERIOR", id="lower-bound-just-above-the-margin"),
        pytest.param(0.035, "INCONCLUSIVE", id="lower-bound-just-below-the-margin"),
        pytest.param(-0.050, "INCONCLUSIVE", id="upper-bound-just-above-zero"),
        pytest.param(-0.052, "INFERIOR", id="upper-bound-just-below-zero"),
    ],
)
def test_verdict_needs_the_bound_and_the_margin(mean, verdict):
    assert judge(paired_difference(shifted(mean), [0.25] * 8)) == verdict


def test_large_loss_that_chance_explains_is_inconclusive():
    assert judge(PairedDifference(mean=-0.02, standard_deviation=0.1, documents=8)) is QualityVerdict.INCONCLUSIVE


@pytest.mark.parametrize(("mean", "verdict"), [(-0.0149, "INCONCLUSIVE"), (-0.0151, "INFERIOR")])
def test_verdict_needs_the_margin_however_certain_the_loss_is(mean, verdict):
    assert judge(PairedDifference(mean=mean, standard_deviation=0.1, documents=10_000)) == verdict


def test_scores_that_are_all_equal_are_certainly_not_worse():
    difference = PairedDifference(mean=0.0, standard_deviation=0.0, documents=8)
    assert (difference.bounds.low, difference.bounds.high, difference.p_value) == (0.0, 0.0, 1.0)
    assert judge(difference) is QualityVerdict.NON_INFERIOR


def test_differences_that_happen_to_be_equal_are_not_certain():
    difference = PairedDifference(mean=-0.02, standard_deviation=0.0, documents=8)
    assert difference.bounds.high > 0
    assert judge(difference) is QualityVerdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("mean", "deviation", "needed"),
    [
        # √((n − 1) × 0.0106904² + 2 × 0.1²) ÷ √(n + 1) ÷ √n × t(n − 1) is to be below 0.005
        (-0.01, 0.0106904, 81),
        # t(n − 1) × 0.1 ÷ √n is to be below 0.02
        (-0.02, 0.1, 139),
        pytest.param(-0.0149999, 0.1, None, id="too-close-to-the-margin"),
        pytest.param(0.05, 0.001, None, id="decided"),
    ],
)
def test_documents_that_would_decide_if_mean_and_deviation_stay(mean, deviation, needed):
    assert documents_needed(PairedDifference(mean=mean, standard_deviation=deviation, documents=8)) == needed


# McNemar's exact test -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "fewer", "p_value", "is_alarm"),
    [
        (0, 0, 1, False),
        (3, 0, 1 / 8, False),
        (6, 0, 1 / 64, False),
        (7, 0, 1 / 128, True),
        (9, 1, 11 / 1024, False),
        (10, 1, 12 / 2048, True),
        (0, 7, 1, False),
        (4, 4, 163 / 256, False),
    ],
)
def test_mcnemar_is_the_binomial_tail_of_the_documents_that_changed(more, fewer, p_value, is_alarm):
    always = {"an empty one in both"}
    now = {f"became {number}" for number in range(more)} | always
    before = {f"ceased {number}" for number in range(fewer)} | always
    found = mcnemar(now, before)
    assert (found.more, found.fewer, found.p_value) == (more, fewer, pytest.approx(p_value))
    assert found.is_alarm() is is_alarm


@pytest.mark.parametrize(("more", "is_alarm"), [(2, False), (3, True)])
def test_fewer_than_three_documents_more_are_no_alarm_however_unlikely(more, is_alarm):
    assert McNemar(more=more, fewer=0, p_value=0.001).is_alarm() is is_alarm


# Two entries ----------------------------------------------------------------------------------------------------------


def test_only_common_documents_are_compared_by_id():
    seconds = (2.0,) * 9
    now = {
        "seconds": seconds,
        "document_ids": [f"document {number}" for number in range(9, 0, -1)],
        "rouge1_scores": [1.0] + [0.05 * number for number in range(8, 0, -1)],
        "summary_sha256": ["new"] * 3 + ["old"] * 6,
    }
    before = {"rouge1_scores": [0.05 * number for number in range(1, 9)], "summary_sha256": ["old"] * 8}
    found = compared(now, before)
    assert (found.difference.documents, found.difference.mean) == (8, pytest.approx(0.0))
    assert found.changed_summaries == 2
    assert found.verdict is QualityVerdict.NON_INFERIOR


@pytest.mark.parametrize(
    ("now", "before"),
    [
        pytest.param({"rouge1_scores": []}, {}, id="not-scored-now"),
        pytest.param({}, {"rouge1_scores": []}, id="not-scored-before"),
        pytest.param({"rouge1_scores": []}, {"rouge1_scores": []}, id="not-scored"),
        pytest.param({"seconds": (2.0,) * 7}, {}, id="seven-common"),
        pytest.param({"document_ids": [f"other {number}" for number in range(8)]}, {}, id="none-common"),
    ],
)
def test_nothing_is_said_without_eight_common_scored_documents(now, before):
    assert compared(now, before) is None


def test_run_file_gets_plain_types():
    found = compared({"rouge1_scores": shifted(-0.01), **degenerate(empty=3)}, degenerate()).as_extra_info()
    assert found == {
        "verdict": "INCONCLUSIVE",
        "mean": pytest.approx(-0.01),
        "low": pytest.approx(-0.01 - REACH, abs=1e-7),
        "high": pytest.approx(-0.01 + REACH, abs=1e-7),
        "confidence": pytest.approx(0.98),
        "documents": 8,
        "documents_needed": 81,
        "changed_summaries": 0,
        "mcnemar": {
            "empty": {"more": 3, "fewer": 0, "p_value": 0.125},
            "repeating": {"more": 0, "fewer": 0, "p_value": 1.0},
        },
        "baseline": FILE,
        "p_value": pytest.approx(0.2873, abs=5e-4),
        "level": pytest.approx(0.01),
        "margin": 0.015,
    }
    assert type(found["verdict"]) is str


def test_degenerate_documents_of_one_run_alone_are_not_counted():
    now = {"seconds": (2.0,) * 9, "degenerate_document_ids": {"empty": ["document 9"], "repeating": []}}
    assert compared(now, degenerate()).mcnemar["empty"] == McNemar(more=0, fewer=0, p_value=1.0)


@pytest.mark.parametrize("older", ["now", "before"])
def test_run_that_does_not_tell_degenerate_outputs_by_document_has_no_test_and_says_so(older):
    sides = {"now": degenerate(empty=8), "before": degenerate()}
    sides[older] = {"degenerate_document_ids": None}
    found = compared(sides["now"], sides["before"])
    assert found.mcnemar is None
    assert describe(found.as_extra_info()).endswith(
        "empty and repeating outputs not compared (one of the runs does not record them by document)"
    )
    assert_quality_held(found)


# What is said and what fails ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "said"),
    [
        (0.0404, f"to {FILE}: ROUGE-1 +4.0 points [-1.1, +9.1], margin 1.5, 8 documents, 0 summaries changed"),
        (-0.07, f"to {FILE}: ROUGE-1 -7.0 points [-12.1, -1.9], margin 1.5, 8 documents, 0 summaries changed"),
        (
            -0.01,
            f"against {FILE}: ROUGE-1 -1.0 points [-6.1, +4.1], margin 1.5, 8 documents, 0 summaries changed; "
            "81 documents would decide if mean and spread stay the same",
        ),
        (
            -0.0004,
            f"against {FILE}: ROUGE-1 +0.0 points [-5.1, +5.1], margin 1.5, 8 documents, 0 summaries changed; "
            "26 documents would decide if mean and spread stay the same",
        ),
        (
            -0.01499999999,
            f"against {FILE}: ROUGE-1 -1.5 points [-6.6, +3.6], margin 1.5, 8 documents, 0 summaries changed; "
            "no number of documents would decide",
        ),
    ],
)
def test_line_tells_points_with_their_bounds_and_what_would_decide(mean, said):
    assert describe(compared({"rouge1_scores": shifted(mean)}).as_extra_info()) == said


def test_inferior_quality_fails_in_one_line():
    with pytest.raises(QualityError) as raised:
        assert_quality_held(compared({"rouge1_scores": shifted(-0.07)}))
    assert str(raised.value) == (
        f"quality INFERIOR to {FILE}: ROUGE-1 -7.0 points [-12.1, -1.9], margin 1.5, 8 documents, 0 summaries changed"
    )


def test_loss_that_only_its_own_test_proves_waits_for_the_session_s_other_tests():
    found = at_level(compared({"rouge1_scores": shifted(-0.07)}), 0.001)
    assert_quality_held(found)
    assert describe(found.as_extra_info()).endswith(
        "0 summaries changed; p 0.0022, and only 0.001 fails at once: Holm's correction decides when all comparisons of the "
        "session are in"
    )


def test_every_comparison_with_a_loss_fails():
    lost = compared({"rouge1_scores": shifted(-0.07)})
    with pytest.raises(QualityError, match=r"^quality INFERIOR to .*; quality INFERIOR to "):
        assert_quality_held(lost, None, lost)


@pytest.mark.parametrize("kind", ["empty", "repeating"])
def test_seven_more_degenerate_outputs_fail_whatever_rouge_says(kind):
    with pytest.raises(QualityError) as raised:
        assert_quality_held(compared(degenerate(**{kind: 7}), degenerate()))
    assert str(raised.value) == (
        f"7 more {kind} outputs than {FILE}, 0 fewer (McNemar's exact test: p 0.0078, and 0.01 fails)"
    )


def test_both_failures_share_a_line():
    with pytest.raises(QualityError, match=r"^quality INFERIOR to .*; 8 more empty outputs than .*\)$"):
        assert_quality_held(compared({"rouge1_scores": [0.0] * 8, **degenerate(empty=8)}, degenerate()))


@pytest.mark.parametrize(
    ("now", "before"),
    [
        pytest.param({}, {}, id="same"),
        pytest.param({"rouge1_scores": shifted(-0.01)}, {}, id="inconclusive"),
        pytest.param(degenerate(empty=3), degenerate(), id="three-more-empty"),
        pytest.param(degenerate(), degenerate(repeating=8), id="all-better"),
        pytest.param({"rouge1_scores": []}, {}, id="not-compared"),
    ],
)
def test_nothing_else_fails(now, before):
    assert_quality_held(compared(now, before))


# Quantized beside 16-bit ----------------------------------------------------------------------------------------------


def beside_16_bit(*loaders, **info):
    names = [loader if "7b" in loader else f"llama2-7b-chat-{loader}" for loader in loaders]
    run = run_of(*(benchmark(name, **info) for name in names))
    return [(experiment, found.against) for experiment, found in quality_against_16_bit(entries_of(run))]


@pytest.mark.parametrize(
    ("loaders", "reference"),
    [
        (("default", "bf16", "fp16"), "fp16"),
        (("default", "bf16"), "bf16"),
        (("default",), "default"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_each_quantized_loader_is_held_against_fp16_else_bf16_else_default(loaders, reference, order):
    found = beside_16_bit(*[*loaders, "8-bit", "4-bit"][::order])
    expected = [(f"llama2-7b-chat-{loader}", f"{reference} of this run") for loader in ("8-bit", "4-bit")]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("loaders", [("4-bit",), ("8-bit", "4-bit"), ("mistral-7b-instruct-fp16", "4-bit"), ("fp16",)])
def test_without_a_16_bit_one_of_the_same_model_nothing_is_said(loaders):
    # Two models differ in their settings, as in a real run.
    runs = [benchmark(name if "7b" in name else f"llama2-7b-chat-{name}") for name in loaders]
    for each in runs:
        each["extra_info"]["workload_settings"] = {"model": each["extra_info"]["model"]}
    assert list(quality_against_16_bit(entries_of(run_of(*runs)))) == []


def test_synthetic_weights_are_not_compared():
    assert beside_16_bit("fp16", "4-bit", rouge1_scores=[]) == []


@pytest.mark.parametrize(
    ("settings", "is_compared"),
    [
        pytest.param({"loader": "fp16", "loader_settings": {"dtype": "float16"}}, True, id="another-loader"),
        pytest.param({"max_new_tokens": 50}, False, id="other-token-limit"),
        pytest.param({"prompt_template": "b"}, False, id="other-prompt"),
    ],
)
def test_only_the_loader_may_differ(settings, is_compared):
    quantized = {"loader": "4-bit", "loader_settings": {}, "max_new_tokens": 100, "prompt_template": "a"}
    run = run_of(
        benchmark("llama2-7b-chat-fp16", workload_settings=quantized | settings),
        benchmark(NAME, workload_settings=quantized),
    )
    assert bool(list(quality_against_16_bit(entries_of(run)))) is is_compared


def test_other_test_of_the_same_experiment_is_not_the_reference():
    other = benchmark("llama2-7b-chat-fp16")
    other["name"] = "test_overhead[llama2-7b-chat-fp16]"
    assert list(quality_against_16_bit(entries_of(run_of(other, benchmark())))) == []


def test_loader_of_a_later_version_is_passed_over():
    assert list(quality_against_16_bit([entry(loader="2-bit"), entry(name="llama2-7b-chat-fp16")])) == []
