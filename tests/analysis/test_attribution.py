"""Where a change sits: hand-made entries, each cause with the figures that make it so."""

from __future__ import annotations

import math

import pytest

from summarybench.analysis.attribution import MeasuredPass, attribute, attribute_passes
from summarybench.core.outcomes import Cause
from summarybench.machine.probes import COPY_BANDWIDTH, KERNEL_LAUNCHES, MATRIX_PRODUCT, PYTHON_LOOP
from summarybench.runs.run_file import entries_of
from summarybench.stats.changes import Change
from summarybench.stats.spread import Spread
from tests.run_files import benchmark, run_of

GPU_CONTROLS = (COPY_BANDWIDTH, MATRIX_PRODUCT, KERNEL_LAUNCHES)
NOT_OVER_THREE_PERCENT = max(
    rate for rate in (math.exp(0.03), math.nextafter(math.exp(0.03), 0)) if math.log(rate) <= 0.03
)
"""The largest rate whose logarithm is not above 0.03: the next one's is."""


def change(log_ratio):
    return Change(
        log_ratio=log_ratio, document_deviation=0.0, documents=8, noise=Spread(standard_deviation=0.01).terms(1, 1)
    )


def entry(controls=None, deviation=0.001, **info):
    """An experiment with controls at these rates, equal before and after; a pair is a rate before and one after."""
    pairs = {name: rate if isinstance(rate, tuple) else (rate, rate) for name, rate in (controls or {}).items()}
    made = {
        name: {"before": before, "after": after, "standard_deviation": deviation, "work": 10}
        for name, (before, after) in pairs.items()
    }
    return entries_of(run_of(benchmark(controls=made, **info)))[0]


def sits(log_ratio, now, before=None, deviations=None, *, is_gpu=True, differences=()):
    """Where a change sits; the baseline's controls are all at a rate of 1 unless a test says otherwise."""
    before = before or entry(dict.fromkeys(now.extra_info["controls"], 1.0))
    return attribute(change(log_ratio), now, before, deviations or {}, is_gpu=is_gpu, differences=differences)


def at(**moved):
    """The three controls of a GPU, at a rate of 1 unless given by its first word."""
    return {name: moved.get(name.partition("_")[0], 1.0) for name in GPU_CONTROLS}


# The machine ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moved", "cause"),
    [
        ({"copy": 0.9}, Cause.GPU),
        ({"matrix": 0.9}, Cause.GPU),
        ({"kernel": 0.9}, Cause.HOST),
        ({"kernel": 0.9, "matrix": 0.8}, Cause.GPU),
        ({"kernel": 0.5, "matrix": 0.9}, Cause.GPU),
        ({"kernel": 0.5, "copy": 0.9}, Cause.GPU),
        ({"kernel": 0.9, "matrix": 0.96}, Cause.HOST),
    ],
    ids=[
        "bandwidth",
        "matrix-product",
        "launches",
        "matrix-product-more-than-launches",
        "launches-more-than-matrix-product",
        "launches-more-than-bandwidth",
        "matrix-product-too-little",
    ],
)
def test_on_a_gpu_its_own_controls_come_before_launches_that_fall_with_them(moved, cause):
    assert sits(-0.1, entry(at(**moved))).cause is cause


@pytest.mark.parametrize("name", [COPY_BANDWIDTH, MATRIX_PRODUCT, PYTHON_LOOP])
def test_on_a_cpu_every_part_of_the_machine_is_the_host(name):
    controls = dict.fromkeys((COPY_BANDWIDTH, MATRIX_PRODUCT, PYTHON_LOOP), 1.0)
    assert sits(-0.1, entry(controls | {name: 0.9}), is_gpu=False).cause is Cause.HOST
    assert sits(-0.1, entry(controls), is_gpu=False).cause is Cause.CODE


def test_speedup_is_the_machine_s_too_where_a_control_rose_along():
    assert sits(0.1, entry(at(matrix=1.1))).cause is Cause.GPU


@pytest.mark.parametrize(("log_ratio", "rate"), [(-0.1, 1.1), (0.1, 0.9)])
def test_control_that_moved_the_other_way_explains_nothing(log_ratio, rate):
    assert sits(log_ratio, entry(at(matrix=rate))).cause is Cause.CODE


def test_detail_tells_every_control_and_how_far_it_moved():
    found = sits(-0.1, entry(at(copy=0.99, matrix=0.9, kernel=1.02)))
    assert str(found) == "GPU: controls moved along: copy bandwidth -1%, matrix product -10%, kernel launches +2%"


def test_rate_is_the_geometric_mean_of_before_and_after():
    # √(0.81 · 1) = 0.9, and √(1.25 · 0.8) = 1.
    found = sits(-0.1, entry(at(matrix=(0.81, 1.0), copy=(1.25, 0.8))))
    assert (found.cause, "matrix product -10%" in found.detail, "copy bandwidth +0%" in found.detail) == (
        Cause.GPU,
        True,
        True,
    )


# The host's beats ---------------------------------------------------------------------------------------------------


STEADY = [1.0 + number / 100 for number in range(8)]
SLOW = [rate / 2 for rate in STEADY]


def with_beats(beats, launches=1.0, beat_work=10):
    found = entry(at(kernel=launches), host_rate_per_second=beats)
    found.extra_info["controls"][KERNEL_LAUNCHES]["beat_work"] = beat_work
    return found


@pytest.mark.parametrize(
    ("beats", "launches", "cause", "told"),
    [
        (STEADY, 0.5, Cause.CODE, "kernel launches +0%"),
        (SLOW, 1.0, Cause.HOST, "kernel launches -50%"),
        ([*STEADY[:4], *SLOW[:4]], 1.0, Cause.HOST, "kernel launches -35%"),
        (SLOW[:7], 1.0, Cause.CODE, "kernel launches +0%"),
        ([each for each in SLOW[:4] for _ in range(2)], 1.0, Cause.CODE, "kernel launches +0%"),
    ],
    ids=["held", "fell", "mean-of-seconds-and-not-of-rates", "too-few", "one-a-batch"],
)
def test_beats_before_each_round_stand_for_launches_before_and_after(beats, launches, cause, told):
    found = sits(-0.4, with_beats(beats, launches), with_beats(STEADY))
    assert (found.cause, told in found.detail) == (cause, True), found.detail


@pytest.mark.parametrize("then", [with_beats(SLOW, beat_work=2), entry(at(), host_rate_per_second=SLOW)])
def test_beats_of_other_work_are_not_compared(then):
    found = sits(-0.4, with_beats(STEADY), then)
    assert (found.cause, "kernel launches +0%" in found.detail) == (Cause.CODE, True)


# Thresholds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "cause"),
    [(NOT_OVER_THREE_PERCENT, Cause.CODE), (math.nextafter(NOT_OVER_THREE_PERCENT, 2), Cause.GPU)],
    ids=["at", "over"],
)
def test_control_has_moved_when_it_differs_by_more_than_three_percent(rate, cause):
    assert sits(0.04, entry(at(matrix=rate))).cause is cause


@pytest.mark.parametrize(("factor", "cause"), [(1.0, Cause.CODE), (1 - 1e-12, Cause.GPU)], ids=["at", "over"])
def test_control_has_moved_when_it_differs_by_more_than_three_of_its_deviations(factor, cause):
    deviation = math.log(1.1) / 3
    assert 3 * deviation == math.log(1.1)
    measured = {MATRIX_PRODUCT: deviation * factor}
    assert sits(0.15, entry(at(matrix=1.1)), deviations=measured).cause is cause


@pytest.mark.parametrize(("excess", "cause"), [(0.0, Cause.GPU), (1e-12, Cause.UNKNOWN)], ids=["half", "less"])
def test_control_explains_a_change_when_it_moved_by_half_of_it(excess, cause):
    assert sits(2 * math.log(0.9) * (1 + excess), entry(at(matrix=0.9))).cause is cause


@pytest.mark.parametrize(
    ("measured", "stored", "cause"), [(0.001, 0.1, Cause.GPU), (0.1, 0.001, Cause.UNKNOWN)], ids=["small", "large"]
)
def test_deviation_measured_between_runs_wins_over_what_the_runs_stored(measured, stored, cause):
    now, before = (entry(at(matrix=rate), deviation=stored) for rate in (0.9, 1.0))
    assert sits(-0.1, now, before, dict.fromkeys(GPU_CONTROLS, measured)).cause is cause


@pytest.mark.parametrize("noisy_now", [True, False])
def test_without_a_measured_one_the_larger_of_the_two_stored_deviations_counts(noisy_now):
    now, before = (
        entry(at(matrix=rate), deviation=0.1 if is_noisy else 0.001)
        for rate, is_noisy in ((0.9, noisy_now), (1.0, not noisy_now))
    )
    assert sits(-0.1, now, before).cause is Cause.UNKNOWN


# The code, and what nobody can tell -----------------------------------------------------------------------------------


def test_code_names_what_differs_from_the_baseline_s_environment():
    found = sits(-0.1, entry(at(matrix=1.01)), differences=["torch 2, 1 there", "driver 6, 5 there"])
    assert str(found) == (
        "CODE: controls held (copy bandwidth +0%, matrix product +1%, kernel launches +0%); "
        "other than the baseline's: torch 2, 1 there; driver 6, 5 there"
    )
    assert sits(-0.1, entry(at())).detail.endswith("; same environment")


@pytest.mark.parametrize(
    ("now", "before"),
    [({}, {}), (at(matrix=0.5), {}), ({}, at()), ({PYTHON_LOOP: 0.5}, at())],
    ids=["neither", "not-the-baseline", "not-this-run", "none-in-common"],
)
def test_without_controls_in_both_runs_nobody_can_tell(now, before):
    found = sits(-0.1, entry(now), entry(before))
    assert str(found) == "UNKNOWN: the baseline has no controls: save one that has"


def test_run_stored_before_there_were_controls_is_one_without():
    old = benchmark()
    del old["extra_info"]["controls"]
    (before,) = entries_of(run_of(old))
    assert sits(-0.1, entry(at(matrix=0.5)), before).cause is Cause.UNKNOWN


@pytest.mark.parametrize("work", [{}, {"work": 20}], ids=["as-old-runs-have-it", "another"])
def test_baseline_whose_controls_did_other_work_tells_nothing_and_says_so(work):
    before = entry(at())
    for control in before.extra_info["controls"].values():
        del control["work"]
        control.update(work)
    assert str(sits(-0.1, entry(at(matrix=0.5)), before)) == (
        "UNKNOWN: the baseline's controls were measured otherwise: save a baseline"
    )


def test_two_runs_that_do_not_tell_their_work_are_not_compared_either():
    now, before = entry(at(matrix=0.5)), entry(at())
    for control in (*now.extra_info["controls"].values(), *before.extra_info["controls"].values()):
        del control["work"]
    assert "measured otherwise" in str(sits(-0.1, now, before))


def test_control_of_other_work_is_left_out_and_the_others_are_compared():
    now = entry(at(matrix=0.5, copy=0.9))
    now.extra_info["controls"][MATRIX_PRODUCT]["work"] = 20
    assert str(sits(-0.1, now, entry(at()))) == "GPU: controls moved along: copy bandwidth -10%, kernel launches +0%"


@pytest.mark.parametrize(("deviation", "cause"), [(0.034, Cause.UNKNOWN), (0.033, Cause.CODE)])
def test_control_whose_noise_could_hide_the_change_leaves_it_unknown(deviation, cause):
    found = sits(-0.1, entry(at()), deviations={MATRIX_PRODUCT: deviation})
    assert found.cause is cause
    assert ("vary too much to tell" in found.detail) == (cause is Cause.UNKNOWN)


def test_control_that_moved_along_by_less_than_half_leaves_it_unknown():
    found = sits(-0.2, entry(at(matrix=0.95)))
    assert str(found) == (
        "UNKNOWN: controls moved along, too little to be all of it: "
        "copy bandwidth +0%, matrix product -5%, kernel launches +0%"
    )


# Several passes -------------------------------------------------------------------------------------------------------


def measured(log_ratio, now, *, decides_alone=True):
    return MeasuredPass(entry=now, change=change(log_ratio), deviations={}, decides_alone=decides_alone)


def sits_in(*passes, is_gpu=True, differences=()):
    return attribute_passes(passes, entry(at()), is_gpu=is_gpu, differences=differences)


def test_one_pass_is_attributed_as_before():
    now = entry(at(kernel=0.7))
    assert sits_in(measured(-0.35, now)) == sits(-0.35, now)


def test_cause_that_both_passes_show_is_the_cause_and_each_tells_its_probes():
    found = sits_in(measured(-0.35, entry(at(kernel=0.7))), measured(-0.3, entry(at(kernel=0.75))))
    assert str(found) == (
        "HOST: pass 1 (0.705) HOST: controls moved along: copy bandwidth +0%, matrix product +0%, kernel launches -30%; "
        "pass 2 (0.741) HOST: controls moved along: copy bandwidth +0%, matrix product +0%, kernel launches -25%"
    )


def test_environment_is_told_once_where_the_code_may_be_the_cause():
    found = sits_in(measured(-0.35, entry(at())), measured(-0.3, entry(at())), differences=["torch 2, 1 there"])
    held = "controls held (copy bandwidth +0%, matrix product +0%, kernel launches +0%)"
    assert str(found) == (
        f"CODE: pass 1 (0.705) CODE: {held}; pass 2 (0.741) CODE: {held}; other than the baseline's: torch 2, 1 there"
    )


@pytest.mark.parametrize("order", [1, -1], ids=["host-first", "host-second"])
def test_probes_that_held_in_one_pass_neither_clear_the_other_nor_blame_the_code(order):
    passes = [measured(-0.35, entry(at(kernel=0.7))), measured(-0.2, entry(at()))][::order]
    found = sits_in(*passes)
    assert found.cause is Cause.UNKNOWN
    assert "(0.705) HOST: controls moved along" in found.detail
    assert "(0.819) CODE: controls held" in found.detail


@pytest.mark.parametrize("order", [1, -1], ids=["slow-first", "slow-second"])
@pytest.mark.parametrize(
    ("slow", "other", "cause"),
    [({"kernel": 0.7}, {}, Cause.HOST), ({}, {"kernel": 0.9}, Cause.CODE), ({"copy": 0.7}, {"kernel": 0.9}, Cause.GPU)],
)
def test_pass_whose_own_change_may_be_noise_does_not_name_the_cause(order, slow, other, cause):
    passes = [measured(-0.35, entry(at(**slow))), measured(-0.02, entry(at(**other)), decides_alone=False)][::order]
    found = sits_in(*passes)
    assert found.cause is cause
    assert "(0.980, undecided alone)" in found.detail


@pytest.mark.parametrize(("first", "second", "cause"), [({}, {}, Cause.CODE), ({"kernel": 0.8}, {}, Cause.UNKNOWN)])
def test_where_no_pass_decides_alone_all_of_them_name_the_cause(first, second, cause):
    passes = [measured(-0.2, entry(at(**each)), decides_alone=False) for each in (first, second)]
    found = sits_in(*passes)
    assert (found.cause, "undecided alone" in found.detail) == (cause, False)


@pytest.mark.parametrize(("order", "cause"), [(1, Cause.GPU), (-1, Cause.GPU)])
def test_two_causes_that_are_both_the_machine_s_are_that_of_the_larger_change(order, cause):
    passes = [measured(-0.35, entry(at(copy=0.7))), measured(-0.2, entry(at(kernel=0.8)))][::order]
    assert sits_in(*passes).cause is cause


# The work -------------------------------------------------------------------------------------------------------------

# The baseline: 100 tokens in 2 s, 0.25 s to the first; so each later one takes 1.75 ÷ 99 s.
PER_TOKEN = 1.75 / 99


def of_length(tokens, slower=1.0):
    """Eight documents of that many tokens at the baseline's speeds, or slower by a factor; and their log ratio to it."""
    seconds = (0.25 + (tokens - 1) * PER_TOKEN) * slower
    found = entry(at(), generated_tokens=[tokens] * 8, seconds=(seconds,) * 8)
    return found, math.log(tokens / seconds / 50)


@pytest.mark.parametrize(
    ("tokens", "explained"), [(10, "-51.1%"), (400, "+9.5%")], ids=["shorter-and-slower", "longer-and-faster"]
)
def test_outputs_of_another_length_at_the_same_speeds_are_the_workload(tokens, explained):
    now, log_ratio = of_length(tokens)
    assert math.expm1(log_ratio) == pytest.approx(float(explained[:-1]) / 100, abs=5e-4)
    assert str(sits(log_ratio, now)) == (
        f"WORKLOAD: outputs of another length explain {explained} at the baseline's speeds"
    )


@pytest.mark.parametrize(("slower", "cause"), [(1.04, Cause.WORKLOAD), (1.2, Cause.CODE)])
def test_lengths_that_explain_less_than_half_are_not_the_cause(slower, cause):
    # 60 tokens instead of 100 cost log(60 ÷ (0.25 + 59 · 1.75/99) ÷ 50) = -0.0746 by themselves.
    now, log_ratio = of_length(60, slower)
    assert log_ratio + math.log(slower) == pytest.approx(-0.0746, abs=5e-5)
    assert sits(log_ratio, now).cause is cause


def test_lengths_that_pull_the_other_way_are_not_the_cause():
    now, log_ratio = of_length(400, slower=1.15)
    assert log_ratio < 0
    assert sits(log_ratio, now).cause is Cause.CODE


def test_lengths_are_compared_over_the_documents_that_both_runs_have():
    now, log_ratio = of_length(10)
    longer = entry(at(), seconds=(2.0,) * 9)
    assert sits(log_ratio, now, longer).cause is Cause.WORKLOAD


def test_outputs_of_a_single_token_have_no_speed_to_explain_lengths_with():
    before = entry(at(), generated_tokens=[1] * 8)
    assert sits(-0.1, entry(at()), before).cause is Cause.CODE
