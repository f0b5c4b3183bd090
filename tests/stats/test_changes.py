import math
import random
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from summarybench.core.numbers import deviation
from summarybench.core.outcomes import Verdict
from summarybench.stats.changes import WITHIN_ONE_PROCESS, Change, paired_change, pooled_change
from summarybench.stats.decision import Remedy, contradicted_verdict, decide, holm, is_regressed, remedy
from summarybench.stats.intervals import Interval, mean_interval, mean_upper_bound, percentile
from summarybench.stats.spread import Replicates, Spread, pooled_spread, replicates_of
from summarybench.stats.timings import Timing, added_up
from summarybench.stats.typical_change import bounding_rank, signed_rank_probability, typical_change

TOLERANCE = 0.05
DOCUMENTS_OF_ANY_LENGTH = ((7, 0.9), (100, 10.0), (13, 40.0), (64, 2.5))


def timings(*pairs):
    return [Timing(tokens=tokens, seconds=seconds) for tokens, seconds in pairs]


def change(ratio, standard_error):
    """A change whose standard error is known exactly, so that its quantiles are the normal ones."""
    spread = Spread(standard_deviation=standard_error / math.sqrt(2), degrees_of_freedom=1e9)
    return Change(log_ratio=math.log(ratio), document_deviation=0.0, documents=20, noise=spread.terms(1, 1))


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [(1, 50, None), (2, 50, 1.5), (4, 50, 2.5), (19, 95, None), (20, 95, 19.05), (99, 99, None), (100, 99, 99.01)],
)
def test_a_percentile_needs_enough_values_to_carry_it(count, percent, expected):
    assert percentile(range(1, count + 1), percent) == pytest.approx(expected)


def test_a_percentile_does_not_depend_on_the_order():
    assert percentile([3.0, 1.0, 2.0, 8.0], 50) == 2.5


def test_the_interval_of_the_mean_is_student_s():
    # mean 0.38, standard deviation 0.311448, Student's quantile of 4 degrees at 97.5% 2.776445 (any printed table)
    interval = mean_interval((0.1, 0.4, 0.2, 0.9, 0.3))
    reach = 2.776445 * 0.3114482300 / math.sqrt(5)
    assert (interval.low, interval.high) == (
        pytest.approx(0.38 - reach, abs=1e-6),
        pytest.approx(0.38 + reach, abs=1e-6),
    )
    assert interval.confidence == 0.95


def test_the_interval_of_equal_values_is_that_value():
    assert mean_interval((0.25, 0.25, 0.25)) == Interval(low=0.25, high=0.25, confidence=0.95)


@pytest.mark.parametrize("values", [(), (0.5,)])
def test_fewer_than_two_values_have_no_interval_and_no_upper_bound(values):
    assert mean_interval(values) is None
    assert mean_upper_bound(values) == math.inf


def test_the_upper_bound_of_the_mean_is_student_s():
    student_of_2_degrees = 0.98 * math.sqrt(2 / (4 * 0.99 * 0.01))  # the closed form for 2 degrees: 6.965
    assert mean_upper_bound((1.0, 2.0, 3.0), 0.99) == pytest.approx(2 + student_of_2_degrees / math.sqrt(3))


@pytest.mark.parametrize(
    ("tokens", "seconds"), [(0, 1.0), (-1, 1.0), (5, 0.0), (5, -1.0), (5, math.inf), (5, math.nan)]
)
def test_a_timing_refuses_impossible_values(tokens, seconds):
    with pytest.raises(ValueError, match=f"{tokens} tokens, {seconds} s"):
        Timing(tokens=tokens, seconds=seconds)


@pytest.mark.parametrize(
    ("measured_degrees", "degrees_of_freedom"), [(None, 0.69**2 / 0.64**2), (5, 0.69**2 / (0.64**2 + 0.05**2 / 5))]
)
def test_a_paired_change_follows_the_formulas(measured_degrees, degrees_of_freedom):
    # Now 200 tokens in 20 s, before 200 in 40: twice as fast. tokens/mean − seconds/mean is (−0.3, 0.3) now and
    # (0.5, −0.5) before; the difference (−0.8, 0.8) has the variance 1.28, over 2 documents 0.64.
    # Between runs: 0.2² (1/4 + 1/1) = 0.05.
    found = paired_change(
        timings((50, 8.0), (150, 12.0)),
        timings((100, 10.0), (100, 30.0)),
        Spread(standard_deviation=0.2, degrees_of_freedom=measured_degrees).terms(4, 1),
        baseline_runs=4,
        runs_now=1,
    )
    assert found.log_ratio == pytest.approx(math.log(2))
    assert found.ratio == pytest.approx(2)
    assert found.document_deviation == pytest.approx(math.sqrt(1.28))
    assert found.standard_error == pytest.approx(math.sqrt(0.69))
    assert found.degrees_of_freedom == pytest.approx(degrees_of_freedom)


def test_one_factor_on_very_different_documents_is_no_deviation():
    slower = [(tokens, 1.1 * seconds) for tokens, seconds in DOCUMENTS_OF_ANY_LENGTH]
    found = paired_change(
        timings(*slower),
        timings(*DOCUMENTS_OF_ANY_LENGTH),
        Spread(standard_deviation=0.01, degrees_of_freedom=3).terms(1, 1),
    )
    assert found.document_deviation == pytest.approx(0, abs=1e-12)
    assert found.log_ratio == pytest.approx(-math.log(1.1))


def test_without_pairing_the_same_timings_deviate():
    found = paired_change(
        timings(*reversed(DOCUMENTS_OF_ANY_LENGTH)),
        timings(*DOCUMENTS_OF_ANY_LENGTH),
        Spread(standard_deviation=0.01, degrees_of_freedom=1e9).terms(1, 1),
    )
    assert found.log_ratio == pytest.approx(0)
    assert found.document_deviation > 1


@pytest.mark.parametrize(("now", "before"), [(2, 3), (1, 1), (0, 0)])
def test_a_paired_change_needs_the_same_documents_at_least_two(now, before):
    with pytest.raises(ValueError, match=f"{now} now, {before} in the baseline"):
        paired_change(timings((1, 1.0)) * now, timings((1, 1.0)) * before, WITHIN_ONE_PROCESS)


@pytest.mark.parametrize(
    ("ratio", "standard_error", "verdict"),
    [
        pytest.param(0.980, 0.0, Verdict.REGRESSED, id="small-and-certain"),
        pytest.param(0.984, 1e-6, Verdict.REGRESSED, id="just-beyond-1.5%"),
        pytest.param(0.986, 1e-6, Verdict.UNCHANGED, id="1.4%-is-no-regression-however-certain"),
        pytest.param(0.7, 0.21, Verdict.INCONCLUSIVE, id="30%-within-noise"),
        pytest.param(0.7, 0.1, Verdict.REGRESSED, id="30%-beyond-noise"),
        # 99% one-sided is 2.3263 standard errors; log(0.9) is -0.10536
        pytest.param(0.9, 0.0452, Verdict.REGRESSED, id="upper-bound-just-below-1"),
        pytest.param(0.9, 0.0454, Verdict.INCONCLUSIVE, id="upper-bound-just-above-1"),
    ],
)
def test_a_slowdown_must_be_worth_an_alarm_and_beyond_chance_and_a_speedup_is_its_mirror_image(
    ratio, standard_error, verdict
):
    mirrored = Verdict.IMPROVED if verdict is Verdict.REGRESSED else verdict
    assert decide(change(ratio, standard_error), TOLERANCE) is verdict
    assert decide(change(1 / ratio, standard_error), TOLERANCE) is mirrored


@pytest.mark.parametrize(
    ("ratio", "standard_error", "verdict"),
    [
        # 95% two-sided is 1.95996 standard errors on either side
        pytest.param(1.0, 0.0248, Verdict.UNCHANGED, id="inside"),
        pytest.param(1.0, 0.0250, Verdict.INCONCLUSIVE, id="above-1.05"),
        pytest.param(0.987, 0.0194, Verdict.UNCHANGED, id="inside-though-slower"),
        pytest.param(0.987, 0.0196, Verdict.INCONCLUSIVE, id="below-0.95"),
    ],
)
def test_unchanged_needs_the_whole_interval_within_the_tolerance(ratio, standard_error, verdict):
    assert decide(change(ratio, standard_error), TOLERANCE) is verdict


def test_few_documents_are_judged_by_student_and_not_by_the_normal_distribution():
    # The standard error is 0.04: 2.33 of them reach 0.907, 3.00 (Student, 7 degrees) reach beyond 1.
    few = Change(log_ratio=-0.1, document_deviation=0.04 * math.sqrt(8), documents=8, noise=WITHIN_ONE_PROCESS)
    assert few.upper_bound(0.99) == pytest.approx(math.exp(-0.1 + 2.99795 * 0.04), rel=1e-5)
    assert decide(few, TOLERANCE) is Verdict.INCONCLUSIVE


GPU_ASSUMED = Spread(standard_deviation=0.01, degrees_of_freedom=1e9)
GPU_MEASURED = Spread(standard_deviation=0.01, degrees_of_freedom=4)
CPU_ASSUMED = Spread(standard_deviation=0.06, degrees_of_freedom=1e9)


def remedy_of(undecided):
    """What would settle a change, and the noise of so many runs on each side."""
    spread = undecided[-1]
    found = inconclusive(*undecided)

    def noise_of(runs):
        return spread.terms(runs, runs)

    return found, remedy(found, TOLERANCE, noise_of), noise_of


def inconclusive(log_ratio, document_deviation, documents, spread):
    found = Change(
        log_ratio=log_ratio, document_deviation=document_deviation, documents=documents, noise=spread.terms(1, 1)
    )
    assert decide(found, TOLERANCE) is Verdict.INCONCLUSIVE
    return found


@pytest.mark.parametrize(
    "undecided",
    [
        pytest.param((-0.01, 0.3, 20, GPU_ASSUMED), id="slightly-slower"),
        pytest.param((0.0, 0.3, 20, GPU_ASSUMED), id="no-change"),
        pytest.param((-0.1, 0.3, 20, GPU_ASSUMED), id="slower"),
        pytest.param((0.0, 0.1, 20, GPU_MEASURED), id="no-change-measured-spread"),
    ],
)
def test_the_documents_that_the_remedy_names_decide(undecided):
    before, needed, _ = remedy_of(undecided)
    documents = needed.documents
    assert documents > before.documents
    assert decide(replace(before, documents=documents), TOLERANCE) is not Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    "undecided",
    [
        pytest.param((0.0, 0.1, 100, CPU_ASSUMED), id="no-change"),
        pytest.param((-0.05, 0.05, 20, CPU_ASSUMED), id="slower"),
        pytest.param((0.1, 0.05, 20, CPU_ASSUMED), id="faster"),
        pytest.param((-0.03, 0.1, 100, GPU_MEASURED), id="slower-measured-spread"),
    ],
)
def test_the_runs_that_the_remedy_names_decide(undecided):
    before, needed, noise_of = remedy_of(undecided)
    assert needed.runs > 1
    assert decide(replace(before, noise=noise_of(needed.runs)), TOLERANCE) is not Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("undecided", "unlimited"),
    [
        pytest.param((0.0, 0.05, 100, CPU_ASSUMED), {"documents": 10**9}, id="documents-assumed-spread"),
        pytest.param((-0.02, 0.1, 100, GPU_MEASURED), {"documents": 10**9}, id="documents-measured-spread"),
        pytest.param((0.0, 0.3, 8, CPU_ASSUMED), {"noise": CPU_ASSUMED.terms(10**9, 10**9)}, id="runs"),
    ],
)
def test_the_remedy_is_none_where_no_number_decides(undecided, unlimited):
    before, found, _ = remedy_of(undecided)
    assert decide(replace(before, **unlimited), TOLERANCE) is Verdict.INCONCLUSIVE
    assert (found.documents if "documents" in unlimited else found.runs) is None


@pytest.mark.parametrize(
    "undecided",
    [
        pytest.param((-0.1, 0.1, 8, GPU_ASSUMED), id="few-documents"),
        pytest.param((-0.05, 0.05, 100, GPU_MEASURED), id="few-degrees-of-freedom"),
    ],
)
def test_the_remedy_never_names_the_documents_and_runs_that_did_not_decide(undecided):
    before, found, _ = remedy_of(undecided)
    assert found.documents is None or found.documents > before.documents
    assert found.runs is None or found.runs > 1


def test_a_change_between_the_tolerance_and_the_alarm_has_no_remedy():
    assert remedy(
        change(0.987, 0.01),
        0.01,
        lambda runs: Spread(standard_deviation=0.01, degrees_of_freedom=1e9).terms(2 * runs, 2 * runs),
    ) == Remedy(documents=None, runs=None)


# p-values, and Holm over several of them ------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_without_a_spread_between_runs_the_p_value_is_that_of_a_t_test_over_documents(sign):
    from scipy.stats import ttest_1samp

    differences = [-0.09, 0.02, -0.05, 0.01, -0.03, -0.06, 0.03, -0.04]
    mean = sum(differences) / 8
    deviation = math.sqrt(sum((each - mean) ** 2 for each in differences) / 7)
    found = Change(log_ratio=sign * mean, document_deviation=deviation, documents=8, noise=WITHIN_ONE_PROCESS)
    expected = ttest_1samp([sign * each for each in differences], 0, alternative="less").pvalue
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_the_p_value_of_a_known_error_is_the_normal_distribution_s():
    assert change(math.exp(-0.0232635), 0.01).p_value == pytest.approx(0.01, rel=1e-5)
    assert change(1.0, 0.01).p_value == pytest.approx(0.5)


@pytest.mark.parametrize(("ratio", "p_value"), [(0.99, 0.0), (1.0, 1.0), (1.01, 1.0)])
def test_without_any_error_a_slowdown_is_certain_and_nothing_else_is(ratio, p_value):
    assert change(ratio, 0.0).p_value == p_value


@pytest.mark.parametrize(
    ("log_ratio", "standard_error", "expected"),
    [
        pytest.param(math.log(0.985), 1e-9, True, id="at-the-ratio"),
        pytest.param(math.nextafter(math.log(0.985), 0) + 1e-12, 1e-9, False, id="above-the-ratio"),
        # 99% one-sided is 2.326348 standard errors
        pytest.param(-0.1, 0.1 / 2.32635, True, id="bound-below-1"),
        pytest.param(-0.1, 0.1 / 2.32634, False, id="bound-above-1"),
        pytest.param(0.1, 1e-9, False, id="faster"),
    ],
)
def test_a_slowdown_is_regressed_from_the_ratio_on_and_with_its_bound_below_one(log_ratio, standard_error, expected):
    found = change(1.0, standard_error)
    assert is_regressed(replace(found, log_ratio=log_ratio)) is expected


def pooled(ratio, *pass_ratios):
    """A change without any doubt: only its ratios decide."""
    return replace(change(ratio, 0.0001), alone=tuple(change(each, 0.0001) for each in pass_ratios))


@pytest.mark.parametrize(
    ("ratio", "pass_ratios", "verdict", "contradicted"),
    [
        (0.826, (0.70, 1.004), Verdict.INCONCLUSIVE, Verdict.REGRESSED),
        (0.826, (1.004, 0.70), Verdict.INCONCLUSIVE, Verdict.REGRESSED),
        (0.826, (0.70, math.nextafter(0.985, 1)), Verdict.INCONCLUSIVE, Verdict.REGRESSED),
        (0.826, (0.70, 0.985), Verdict.REGRESSED, None),
        (0.826, (0.82, 0.83), Verdict.REGRESSED, None),
        (0.826, (), Verdict.REGRESSED, None),
        (1.2, (1.5, 1.0), Verdict.INCONCLUSIVE, Verdict.IMPROVED),
        (1.2, (1.0, 1.5), Verdict.INCONCLUSIVE, Verdict.IMPROVED),
        (1.2, (1.5, 1 / 0.985), Verdict.IMPROVED, None),
        (1.0, (0.9, 1.1), Verdict.UNCHANGED, None),
    ],
)
def test_a_change_that_one_pass_alone_does_not_show_is_inconclusive(ratio, pass_ratios, verdict, contradicted):
    found = pooled(ratio, *pass_ratios)
    assert (decide(found, 0.05), contradicted_verdict(found)) == (verdict, contradicted)
    assert is_regressed(found) is (verdict is Verdict.REGRESSED)


def test_pooled_passes_have_the_ratio_of_each_pass_to_all_baseline_runs():
    # The baseline: 40 tokens in 4 + 6 = 10 s. The passes: 20 in 5 s, 20 in 8 s.
    baseline = [timings((10, 2.0), (10, 2.0)), timings((10, 3.0), (10, 3.0))]
    passes = [timings((10, 2.0), (10, 3.0)), timings((10, 4.0), (10, 4.0))]
    found = pooled_change(passes, baseline, WITHIN_ONE_PROCESS)
    assert found.ratio == pytest.approx((40 / 13) / (40 / 10))
    assert found.pass_ratios == pytest.approx(((20 / 5) / (40 / 10), (20 / 8) / (40 / 10)))
    assert (found.baseline_runs, found.runs_now) == (2, 2)
    assert pooled_change(passes[:1], baseline, WITHIN_ONE_PROCESS).pass_ratios == ()


def test_a_bound_below_one_and_a_p_value_below_one_percent_are_the_same():
    for standard_error in (0.0429, 0.043):
        found = change(math.exp(-0.1), standard_error)
        assert (found.p_value < 0.01) is is_regressed(found)


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ([], []),
        ([0.05], [True]),
        ([0.051], [False]),
        # Holm's steps at 5%: 0.0125, 0.0167, 0.025, 0.05
        ([0.01, 0.04, 0.03, 0.005], [True, False, False, True]),
        ([0.0125, 0.0166, 0.025, 0.05], [True, True, True, True]),
        # the second is not rejected, so that the third, which would be by itself, is not either
        ([0.01, 0.02, 0.0249, 0.9], [True, False, False, False]),
        ([0.0126, 0.0001], [True, True]),
        ([0.0251, 0.0251], [False, False]),
        ([0.025, 0.025], [True, True]),
        # the second of two equal ones is held against the easier level, and the first has failed at the harder
        ([0.03, 0.03], [False, False]),
    ],
)
def test_holm_rejects_step_by_step(p_values, rejected):
    assert holm(p_values, 0.05) == rejected


def test_holm_does_not_depend_on_the_order():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.0166, 0.5]
    by_value = dict(zip(p_values, holm(p_values, 0.05), strict=True))
    for seed in range(20):
        shuffled = random.Random(seed).sample(p_values, k=len(p_values))
        assert dict(zip(shuffled, holm(shuffled, 0.05), strict=True)) == by_value


# Several runs ---------------------------------------------------------------------------------------------------------


def test_runs_are_added_up_document_by_document():
    first, second = timings((10, 1.0), (20, 2.0)), timings((30, 0.5), (5, 4.0))
    assert added_up([first, second]) == timings((40, 1.5), (25, 6.0))
    assert added_up([first]) == first


def test_runs_of_unequal_length_are_not_added_up():
    with pytest.raises(ValueError, match="longer than"):
        added_up([timings((10, 1.0)), timings((10, 1.0), (20, 2.0))])


def test_replicates_are_taken_apart_as_a_two_way_layout():
    # 100 tokens a document. Seconds (10, 30), (10, 10), (20, 20): 200 tokens in 40, 20 and 40 s.
    # tokens/mean - seconds/mean: (0.5, -0.5), (0, 0), (0, 0). Less the documents' means (1/6, -1/6):
    # (1/3, -1/3), (-1/6, 1/6), (-1/6, 1/6), squares 2/9 + 4/36 = 1/3, over (3 - 1)(2 - 1) degrees.
    found = replicates_of(
        [
            timings((100, 10.0), (100, 30.0)),
            timings((100, 10.0), (100, 10.0)),
            timings((100, 20.0), (100, 20.0)),
        ]
    )
    assert (found.runs, found.documents, found.document_degrees_of_freedom) == (3, 2, 2)
    assert found.document_variance == pytest.approx(1 / 6)
    assert found.speed_variance == pytest.approx(math.log(2) ** 2 / 3)  # of log 5, log 10, log 5


def test_replicates_that_differ_by_one_factor_have_no_variance_of_documents():
    slower = [[(tokens, factor * seconds) for tokens, seconds in DOCUMENTS_OF_ANY_LENGTH] for factor in (1.0, 1.1, 1.3)]
    found = replicates_of([timings(*each) for each in slower])
    assert found.document_variance == pytest.approx(0, abs=1e-20)
    assert found.speed_variance > 0.01


@pytest.mark.parametrize("lengths", [[], [2], [2, 3], [1, 1], [0, 0]])
def test_replicates_are_two_runs_of_the_same_two_documents_at_least(lengths):
    with pytest.raises(ValueError, match="at least 2 runs of the same documents"):
        replicates_of([timings((1, 1.0)) * length for length in lengths])


def replicates(runs, documents, speed_variance, document_variance):
    return Replicates(
        runs=runs, documents=documents, speed_variance=speed_variance, document_variance=document_variance
    )


def test_the_spread_of_one_group_is_its_variance_less_the_documents_part():
    # 0.0010 - 0.0016 / 8 = 0.0008; of 4 and 28 degrees: 0.0008² / (0.0010²/4 + 0.0002²/28).
    found = pooled_spread([replicates(5, 8, 0.0010, 0.0016)])
    assert found.standard_deviation == pytest.approx(math.sqrt(0.0008))
    assert found.degrees_of_freedom == pytest.approx(0.0008**2 / (0.0010**2 / 4 + 0.0002**2 / 28))


def test_groups_are_pooled_by_their_degrees_of_freedom():
    # (4 · 0.0010 + 1 · 0.0020) / 5 = 0.0012; documents: (4 · 0.0002 + 1 · 0.0001) / 5 = 0.00018.
    found = pooled_spread([replicates(5, 8, 0.0010, 0.0016), replicates(2, 20, 0.0020, 0.0020)])
    assert found.standard_deviation == pytest.approx(math.sqrt(0.00102))
    uncertain = 0.0012**2 / 5 + (0.8 * 0.0002) ** 2 / 28 + (0.2 * 0.0001) ** 2 / 19
    assert found.degrees_of_freedom == pytest.approx(0.00102**2 / uncertain)


def test_without_variance_of_documents_the_degrees_of_freedom_are_the_runs():
    assert pooled_spread([replicates(5, 8, 0.0009, 0.0)] * 2) == Spread(
        standard_deviation=pytest.approx(0.03), degrees_of_freedom=pytest.approx(8)
    )


@pytest.mark.parametrize("speed_variance", [0.0002, 0.0001, 0.00025])
def test_a_spread_that_the_documents_cover_is_as_large_as_could_have_been_seen(speed_variance):
    # The documents' part is 0.0002. The standard error of a mean square is √(2 ÷ degrees) of it.
    found = pooled_spread([replicates(5, 8, speed_variance, 0.0016)])
    standard_error = math.sqrt(2 * (speed_variance**2 / 4 + 0.0002**2 / 28))
    assert found.standard_deviation == pytest.approx(math.sqrt(standard_error))
    assert found.degrees_of_freedom == pytest.approx(2)


def test_a_spread_needs_replicates():
    with pytest.raises(ValueError, match="needs replicates"):
        pooled_spread([])


def test_the_spread_of_simulated_runs_is_the_one_that_they_were_drawn_with():
    # Runs differ by 3%, one document in one run by 2%: 400 groups of 5 runs of 8 documents. The estimate's own relative
    # standard error is then √(2/1600) / 2 = 1.8% of the deviation; the seed is fixed.
    draw = random.Random(0)

    def one_run(length):
        speed = draw.gauss(0, 0.03)
        return [Timing(tokens=each, seconds=each * math.exp(draw.gauss(0, 0.02) - speed) / 50) for each in length]

    groups = []
    for _ in range(400):
        lengths = [draw.randint(80, 120) for _ in range(8)]
        groups.append(replicates_of([one_run(lengths) for _ in range(5)]))
    assert pooled_spread(groups).standard_deviation == pytest.approx(0.03, rel=0.04)
    total = math.sqrt(sum(group.speed_variance for group in groups) / len(groups))
    assert total == pytest.approx(math.sqrt(0.03**2 + 0.02**2 / 8), rel=0.04)


# The typical document ------------------------------------------------------------------------------------------------


def typical_of(log_ratios):
    now = [Timing(tokens=1, seconds=math.exp(-each)) for each in log_ratios]
    return typical_change(now, [Timing(tokens=1, seconds=1.0)] * len(log_ratios))


def test_the_typical_change_is_the_textbook_s():
    """Hollander, Wolfe and Chicken, examples 3.3 and 3.4: Hamilton's depression scale before and after a tranquilizer."""
    before = (1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30)
    after = (0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29)
    found = typical_of([b - a for a, b in zip(before, after, strict=True)])
    interval = found.interval(0.96)
    assert math.log(found.ratio) == pytest.approx(-0.46)
    assert (math.log(interval.low), math.log(interval.high)) == pytest.approx((-0.786, -0.010))


@pytest.mark.parametrize("values", range(1, 9))
def test_the_signed_rank_s_probabilities_are_those_of_all_signs_counted(values):
    sums = Counter(
        sum(rank for rank, is_positive in enumerate(signs, 1) if is_positive)
        for signs in product((False, True), repeat=values)
    )
    for most in range(values * (values + 1) // 2 + 1):
        expected = sum(count for total, count in sums.items() if total <= most) / 2**values
        assert signed_rank_probability(most, values) == pytest.approx(expected)


def test_many_values_are_approximated_within_3_percent(monkeypatch):
    for most in (7_940, 8_146, 8_446):  # 0.5%, 1% and 2.5%
        exactly = signed_rank_probability(most, 200)
        with monkeypatch.context() as patched:
            patched.setattr("summarybench.stats.typical_change.MOST_VALUES_EXACTLY", 199)
            assert signed_rank_probability(most, 200) == pytest.approx(exactly, rel=0.03)
            assert signed_rank_probability(most, 200) != exactly


@pytest.mark.parametrize(
    ("values", "confidence", "rank"),
    [(6, 0.99, 0), (7, 0.99, 1), (5, 0.975, 0), (6, 0.975, 1), (9, 0.975, 6), (10, 0.975, 9), (20, 0.99, 44)],
)
def test_the_rank_that_bounds_is_one_above_the_tabulated_critical_value(values, confidence, rank):
    assert bounding_rank(values, confidence) == rank


def test_wilcoxon_s_test_rejects_what_lies_outside_the_interval_and_nothing_inside():
    from scipy.stats import wilcoxon

    random_numbers = random.Random(1)
    log_ratios = [random_numbers.gauss(0, 0.02) for _ in range(15)]
    interval = typical_of(log_ratios).interval()
    for bound, outwards in ((math.log(interval.low), -1e-9), (math.log(interval.high), 1e-9)):
        outside, inside = (
            wilcoxon([each - bound - shift for each in log_ratios], method="exact").pvalue
            for shift in (outwards, -outwards)
        )
        assert outside <= 0.05 < inside


def test_the_typical_change_counts_both_sides_tokens():
    found = typical_change(timings((10, 1.0), (20, 2.0)), timings((10, 2.0), (40, 8.0)))
    assert found.ratio == pytest.approx(2.0)


def test_a_document_held_up_for_long_moves_the_typical_change_no_more_than_one_held_up_a_little():
    quiet = [0.001 * each for each in range(-5, 6)]
    assert typical_of([*quiet, -1.0]).interval() == typical_of([*quiet, -100.0]).interval()


@pytest.mark.parametrize(("now", "before"), [(2, 3), (0, 0)])
def test_a_typical_change_needs_the_same_documents(now, before):
    with pytest.raises(ValueError, match=f"{now} now, {before} in the baseline"):
        typical_change([Timing(tokens=1, seconds=1.0)] * now, [Timing(tokens=1, seconds=1.0)] * before)


@pytest.mark.parametrize(("share", "shown"), [(0.068, "6.8%"), (0.001, "0.1%"), (0.00034, "0.03%"), (0.0, "0.0%")])
def test_small_deviation_is_shown_with_a_digit_more(share, shown):
    assert deviation(share) == shown
