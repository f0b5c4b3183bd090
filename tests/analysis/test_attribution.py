"""Where a change sits: hand-made entries, each cause with the figures that make it so."""

from __future__ import annotations

import math

import pytest

from summarybench.analysis.attribution import LARGEST_EFFECT, LARGEST_EFFECT_ON_CPU, MeasuredPass, attribute
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


def entry(controls=None, deviation=0.001, name="llama2-7b-chat-4-bit", **info):
    """An experiment with probes at these rates, equal before and after; a pair is a rate before and one after."""
    pairs = {name: rate if isinstance(rate, tuple) else (rate, rate) for name, rate in (controls or {}).items()}
    made = {
        name: {"before": before, "after": after, "standard_deviation": deviation, "work": 10}
        for name, (before, after) in pairs.items()
    }
    return entries_of(run_of(benchmark(name, controls=made, **info)))[0]


def sits(log_ratio, now, before=None, deviations=None, *, is_gpu=True, differences=()):
    """Where a change sits; the baseline's controls are all at a rate of 1 unless a test says otherwise."""
    before = before or entry(dict.fromkeys(now.extra_info["controls"], 1.0))
    stored = before if isinstance(before, list) else [before]
    only = MeasuredPass(entry=now, log_ratio=log_ratio, deviations=deviations or {})
    return attribute(change(log_ratio), [only], stored, is_gpu=is_gpu, differences=differences)


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
    assert str(found) == "GPU: probes moved along: copy bandwidth -1%, matrix product -10%, kernel launches +2%"


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


@pytest.mark.parametrize(("factor", "cause"), [(1.0, Cause.UNKNOWN), (1 - 1e-12, Cause.GPU)], ids=["at", "over"])
def test_control_has_moved_when_it_differs_by_more_than_three_of_its_deviations(factor, cause):
    deviation = math.log(1.1) / 3
    assert 3 * deviation == math.log(1.1)
    measured = {MATRIX_PRODUCT: deviation * factor}
    assert sits(0.15, entry(at(matrix=1.1)), deviations=measured).cause is cause


@pytest.mark.parametrize(
    ("is_gpu", "effect", "cause"),
    [(True, LARGEST_EFFECT, Cause.GPU), (False, LARGEST_EFFECT_ON_CPU, Cause.HOST)],
    ids=["gpu", "cpu"],
)
def test_rest_beyond_its_noise_blames_the_code_and_any_smaller_one_the_machine(is_gpu, effect, cause):
    explained = effect * math.log(0.9)
    noise = 2.326 * math.hypot(0.01 * math.sqrt(2), 0.001)
    now = entry(at(matrix=0.9))
    assert sits(explained - 0.99 * noise, now, is_gpu=is_gpu).cause is cause
    assert sits(explained - 1.01 * noise, now, is_gpu=is_gpu).cause is Cause.CODE


def test_rest_that_is_too_small_for_a_regression_does_not_blame_the_code():
    explained = LARGEST_EFFECT * math.log(0.9)
    certain = Change(log_ratio=explained + math.log(0.986), document_deviation=1e-6, documents=8, noise=())
    only = MeasuredPass(entry=entry(at(matrix=0.9), deviation=1e-6), log_ratio=certain.log_ratio, deviations={})
    assert attribute(certain, [only], [entry(at())], is_gpu=True, differences=()).cause is Cause.GPU


@pytest.mark.parametrize(("share", "cause"), [(0.51, Cause.GPU), (0.49, Cause.UNKNOWN)])
def test_unproven_rest_of_which_the_machine_explains_less_than_half_is_unknown(share, cause):
    explained = LARGEST_EFFECT * math.log(0.9)
    vague = Change(log_ratio=explained / share, document_deviation=1.0, documents=8, noise=())
    only = MeasuredPass(entry=entry(at(matrix=0.9)), log_ratio=vague.log_ratio, deviations={})
    found = attribute(vague, [only], [entry(at())], is_gpu=True, differences=())
    assert found.cause is cause
    if cause is Cause.UNKNOWN:
        assert found.detail.startswith("probes moved along, too little to be all of it: copy bandwidth +0%")


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
    found = sits(-0.1, entry(at(matrix=1.01)), differences=["torch 2 here, 1 there", "driver 6 here, 5 there"])
    assert str(found) == (
        "CODE: probes held: copy bandwidth +0%, matrix product +1%, kernel launches +0%; "
        "other than the baseline's: torch 2 here, 1 there; driver 6 here, 5 there"
    )
    assert sits(-0.1, entry(at())).detail.endswith("; same environment")


@pytest.mark.parametrize(
    ("now", "before"),
    [({}, {}), (at(matrix=0.5), {}), ({}, at()), ({PYTHON_LOOP: 0.5}, at())],
    ids=["neither", "not-the-baseline", "not-this-run", "none-in-common"],
)
def test_without_controls_in_both_runs_nobody_can_tell(now, before):
    found = sits(-0.1, entry(now), entry(before))
    assert str(found) == "UNKNOWN: the baseline has no machine probes: save one that has"


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
        "UNKNOWN: the baseline's machine probes did other work: save a baseline"
    )


def test_two_runs_that_do_not_tell_their_work_are_not_compared_either():
    now, before = entry(at(matrix=0.5)), entry(at())
    for control in (*now.extra_info["controls"].values(), *before.extra_info["controls"].values()):
        del control["work"]
    assert "did other work" in str(sits(-0.1, now, before))


def test_control_of_other_work_is_left_out_and_the_others_are_compared():
    now = entry(at(matrix=0.5, copy=0.9))
    now.extra_info["controls"][MATRIX_PRODUCT]["work"] = 20
    assert str(sits(-0.1, now, entry(at()))) == "GPU: probes moved along: copy bandwidth -10%, kernel launches +0%"


@pytest.mark.parametrize(("deviation", "cause"), [(0.041, Cause.UNKNOWN), (0.040, Cause.CODE)])
def test_probe_whose_noise_could_hide_the_change_leaves_it_unknown(deviation, cause):
    # 0.1 = 2.326 · √(0.01² · 2 + 0.0406²)
    found = sits(-0.1, entry(at()), deviations={MATRIX_PRODUCT: deviation})
    assert found.cause is cause
    assert ("vary too much to tell" in found.detail) == (cause is Cause.UNKNOWN)


def test_part_that_the_machine_explains_is_told_and_the_rest_blames_the_code():
    found = sits(-0.2, entry(at(matrix=0.95)))
    assert str(found) == (
        "CODE: probes moved along, which explains -6% at most and leaves -13%: "
        "copy bandwidth +0%, matrix product -5%, kernel launches +0%; same environment"
    )


def test_gain_is_not_the_code_s_where_a_noisy_probe_rose_by_44_percent():
    found = sits(0.47, entry(at(kernel=1.44)), deviations={KERNEL_LAUNCHES: 0.15})
    assert str(found) == (
        "UNKNOWN: probes vary too much to tell: copy bandwidth +0%, matrix product +0%, kernel launches +44%"
    )


def test_slowdown_with_faster_probes_does_not_say_that_they_held():
    found = sits(-0.1, entry(at(kernel=1.44)))
    assert str(found).startswith("CODE: probes moved the other way: copy bandwidth +0%")


# What the speed depends on --------------------------------------------------------------------------------------------


COMPILED = "llama2-7b-chat-fp16-compiled"


@pytest.mark.parametrize(("name", "cause"), [(COMPILED, Cause.CODE), ("llama2-7b-chat-fp16", Cause.HOST)])
def test_kernel_launches_excuse_an_eager_loader_and_no_compiled_one(name, cause):
    # "compiled 15% slower with launches -11%" was HOST, exit code 11.
    found = sits(math.log(0.85), entry(at(kernel=0.89), name=name), entry(at(), name=name))
    assert found.cause is cause
    if cause is Cause.CODE:
        assert str(found) == (
            "CODE: probes held: copy bandwidth +0%, matrix product +0%; "
            "its speed does not depend on kernel launches -11%; same environment"
        )


def test_gain_of_a_compiled_loader_is_not_due_to_launches_that_it_does_not_depend_on():
    found = sits(0.1, entry(at(kernel=1.44), name=COMPILED), entry(at(), name=COMPILED))
    assert str(found).startswith(
        "CODE: probes held: copy bandwidth +0%, matrix product +0%; its speed does not depend on"
    )
    assert sits(0.1, entry(at(copy=1.1), name=COMPILED), entry(at(), name=COMPILED)).cause is Cause.GPU


def test_without_a_probe_that_the_speed_depends_on_nobody_can_tell():
    found = sits(-0.1, entry({KERNEL_LAUNCHES: 0.5}, name=COMPILED), entry({KERNEL_LAUNCHES: 1.0}, name=COMPILED))
    assert found.cause is Cause.UNKNOWN


# Several stored runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("older", "cause"), [(1.0, Cause.HOST), (0.8, Cause.CODE)])
def test_probes_are_compared_with_every_stored_run(older, cause):
    # With launches at 0.8 the older run shows that they do not slow this experiment: the mean move is -11% of 20%.
    stored = [entry(at(kernel=1.0)), entry(at(kernel=older))]
    assert sits(math.log(0.8), entry(at(kernel=0.8)), stored).cause is cause


def test_stored_run_of_other_work_is_left_out():
    other = entry(at(kernel=0.8))
    other.extra_info["controls"][KERNEL_LAUNCHES]["work"] = 20
    found = sits(math.log(0.8), entry(at(kernel=0.8)), [other, entry(at())])
    assert (found.cause, "kernel launches -20%" in found.detail) == (Cause.HOST, True)


# Several passes -------------------------------------------------------------------------------------------------------


def sits_in(*passes, is_gpu=True, differences=()):
    """Where a change of several passes sits, given as (log ratio, entry); their mean is the change of all."""
    measured = [MeasuredPass(entry=now, log_ratio=log_ratio, deviations={}) for log_ratio, now in passes]
    mean = sum(each.log_ratio for each in measured) / len(measured)
    return attribute(change(mean), measured, [entry(at())], is_gpu=is_gpu, differences=differences)


def test_cause_that_both_passes_show_is_the_cause_and_each_tells_its_probes():
    found = sits_in((-0.35, entry(at(kernel=0.7))), (-0.3, entry(at(kernel=0.75))))
    assert str(found) == (
        "HOST: probes moved along: pass 1 (0.705) copy bandwidth +0%, matrix product +0%, kernel launches -30%; "
        "pass 2 (0.741) copy bandwidth +0%, matrix product +0%, kernel launches -25%"
    )


def test_environment_is_told_once_where_the_code_may_be_the_cause():
    found = sits_in((-0.35, entry(at())), (-0.3, entry(at())), differences=["torch 2 here, 1 there"])
    held = "copy bandwidth +0%, matrix product +0%, kernel launches +0%"
    assert str(found) == (
        f"CODE: probes held: pass 1 (0.705) {held}; pass 2 (0.741) {held}; other than the baseline's: torch 2 here, 1 there"
    )


@pytest.mark.parametrize("order", [1, -1], ids=["slow-first", "slow-second"])
def test_clean_second_pass_does_not_move_the_blame_to_the_code(order):
    # "first pass 0.70 with launches -30%, second 1.004" was CODE: controls held.
    found = sits_in(*[(math.log(0.7), entry(at(kernel=0.7))), (math.log(1.004), entry(at()))][::order])
    assert found.cause is Cause.HOST
    assert "(0.700) copy bandwidth +0%, matrix product +0%, kernel launches -30%" in found.detail


@pytest.mark.parametrize("order", [1, -1], ids=["host-first", "host-second"])
def test_pass_that_is_slow_while_its_probes_held_blames_the_code(order):
    found = sits_in(*[(-0.35, entry(at(kernel=0.7))), (-0.2, entry(at()))][::order])
    assert found.cause is Cause.CODE
    assert found.detail.startswith("probes moved along, which explains -16% at most and leaves -10%: pass 1")


@pytest.mark.parametrize(
    ("slow", "other", "cause"), [({}, {"kernel": 0.9}, Cause.CODE), ({"copy": 0.7}, {"kernel": 0.9}, Cause.GPU)]
)
def test_probe_explains_no_more_than_its_pass_has_changed(slow, other, cause):
    assert sits_in((-0.35, entry(at(**slow))), (-0.02, entry(at(**other)))).cause is cause


def test_two_passes_with_different_causes_of_the_machine_are_the_host_s():
    assert sits_in((-0.35, entry(at(copy=0.7))), (-0.3, entry(at(kernel=0.75)))).cause is Cause.HOST


# The work -------------------------------------------------------------------------------------------------------------


def test_outputs_of_another_length_are_no_cause_of_a_change_that_is_measured_without_them():
    # It was WORKLOAD, as if the shorter outputs explained the change once more.
    shorter = entry(at(), generated_tokens=[10] * 8, seconds=(0.41,) * 8)
    assert sits(-0.5, shorter).cause is Cause.CODE
