"""What the comparison with stored runs decides, what it says, and which exception it ends in."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from summarybench.analysis.attribution import Attribution
from summarybench.analysis.comparison import (
    Comparison,
    Judgement,
    assert_machine_not_slower,
    assert_not_regressed,
)
from summarybench.analysis.judge import Judge
from summarybench.analysis.quality_change import assert_quality_held
from summarybench.analysis.quantities import Quantity
from summarybench.core.outcomes import (
    Cause,
    DeviceInvalidError,
    MachineSlowerError,
    QualityError,
    QualityVerdict,
    RegressionError,
    Verdict,
)
from summarybench.runs.baselines import StoredRun
from summarybench.runs.run_file import entries_of
from summarybench.stats.changes import Change
from tests.known_noise import KnownNoise
from tests.run_files import MACHINE, benchmark, run_of

NAME = "llama2-7b-chat-4-bit"
OTHER = {"workload": "another workload", "workload_settings": {"max_new_tokens": 50}}


def entry(**changes):
    return entries_of(run_of(benchmark(**changes)))[0]


def stored(file, *benchmarks, **machine):
    return StoredRun(path=Path("baselines/an-a100", file), run=run_of(*(benchmarks or [benchmark()]), **machine))


def of_seconds(file, *seconds):
    return stored(file, benchmark(seconds=seconds if len(seconds) > 1 else seconds * 8))


def judge(noise=None, tolerance=0.05, **machine):
    return Judge(
        environment=MACHINE | machine,
        night="2026-11-29",
        noise=noise or KnownNoise(),
        tolerance=tolerance,
        slug="an-a100",
    )


def compared(now, before, noise=None, tolerance=0.05):
    return judge(noise, tolerance).compare([now], [before] if before else [])


@pytest.mark.parametrize(
    ("now", "before", "verdict", "detail"),
    [
        (
            entry(),
            None,
            Verdict.NO_BASELINE,
            f"no baseline for '{NAME}' on 'an-a100'; save one with --benchmark-save=NAME",
        ),
        (
            entry(),
            stored("0001_a.json", benchmark("llama2-7b-chat-fp16")),
            Verdict.NO_BASELINE,
            f"no baseline for '{NAME}' in 0001_a.json; name a run that holds it",
        ),
        (
            entry(),
            stored("0001_a.json", device="Tesla T4"),
            Verdict.INCOMPARABLE,
            "0001_a.json was measured on another device: Tesla T4 there, NVIDIA A100-SXM4-40GB here",
        ),
        (
            entry(workload_settings={"max_new_tokens": 100}),
            stored("0001_a.json", benchmark(**OTHER)),
            Verdict.INCOMPARABLE,
            "0001_a.json measured another workload: --max-new-tokens 100 here, 50 there; save a baseline of this one",
        ),
        (
            entry(workload_settings={}),
            stored("0001_a.json", benchmark(workload="another workload", workload_settings={})),
            Verdict.INCOMPARABLE,
            "0001_a.json measured another workload: its settings are not recorded; save a baseline of this one",
        ),
        (
            entry(seconds=(2.0,) * 7),
            stored("0001_a.json"),
            Verdict.INCOMPARABLE,
            "0001_a.json has 7 documents in common with this run, and 8 are needed; measure more documents (--documents, --documents-file)",
        ),
    ],
    ids=["no-run", "not-in-that-run", "device", "workload", "workload-unknown", "documents"],
)
def test_what_cannot_be_compared_says_why_and_what_to_do(now, before, verdict, detail):
    found = compared(now, before)
    assert (found.verdict, found.detail, found.change) == (verdict, detail, None)


def test_run_that_names_the_device_by_its_slug_is_compared_in_both_directions():
    slug, name = "nvidia-a100-sxm4-40gb", MACHINE["device"]
    for here, there in ((slug, name), (name, slug), (slug, slug)):
        found = judge(device=here).compare([entry(seconds=(4.0,) * 8)], [stored("0001_a.json", device=there)])
        assert found.verdict is Verdict.REGRESSED
        assert found.environment_differences == ()
    found = judge(device="tesla-t4").compare([entry()], [stored("0001_a.json")])
    assert found.verdict is Verdict.INCOMPARABLE
    assert found.detail == f"0001_a.json was measured on another device: {name} there, tesla-t4 here"


@pytest.mark.parametrize(
    ("seconds", "verdict", "line"),
    [
        (4.0, Verdict.REGRESSED, "0.500 times the speed of 0001_a.json [0.486, 0.514]"),
        (1.0, Verdict.IMPROVED, "2.000 times the speed of 0001_a.json [1.945, 2.056]"),
        (2.0, Verdict.UNCHANGED, "1.000 times the speed of 0001_a.json [0.973, 1.028]"),
    ],
)
def test_decided_comparison_tells_ratio_interval_documents_and_spread(seconds, verdict, line):
    found = compared(entry(seconds=(seconds,) * 8), stored("0001_a.json"))
    assert found.verdict is verdict
    assert found.detail == f"{line}, 8 documents, noise: processes 1.0% measured"  # 8 equal documents, ±1.96 · √2 · 1%


@pytest.mark.parametrize(
    ("now", "before", "deviation", "remedy"),
    [
        ((2.2, 2.0) * 4, (2.0, 2.2) * 4, 0.01, "27 documents would decide if the change stays the same"),
        (
            (2.0,) * 8,
            (2.0,) * 8,
            0.06,
            "no number of documents decides with this noise; 12 nights on each side, on one host, would",
        ),
        (
            (1.0, 3.0) * 4,
            (3.0, 1.0) * 4,
            0.06,
            "more documents alone or more nights alone would not decide: it takes both",
        ),
    ],
    ids=["documents", "runs", "both"],
)
def test_inconclusive_comparison_says_what_would_decide(now, before, deviation, remedy):
    found = compared(entry(seconds=now), stored("0001_a.json", benchmark(seconds=before)), KnownNoise(deviation))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detail.endswith(f"% measured; {remedy}")


def test_only_common_documents_are_compared_whatever_their_order():
    ids = [f"document {number}" for number in (9, 8, 7, 6, 5, 4, 3, 2, 1)]
    now = entry(seconds=(100.0, *(2.0,) * 8), document_ids=ids)
    found = compared(now, stored("0001_a.json"))
    assert (found.change.ratio, found.change.documents) == (1.0, 8)


def test_run_file_gets_the_comparison_in_plain_types():
    now = entry(seconds=(4.0,) * 8, rouge1_scores=[])  # no quality: that has tests of its own
    found = replace(compared(now, stored("0001_a.json", torch="2.12.0")), others=()).as_extra_info()
    assert found == {
        "verdict": "REGRESSED",
        "verdict_detail": "0.500 times the speed of 0001_a.json [0.486, 0.514], 8 documents, noise: processes 1.0% measured",
        "baseline": {"file": "0001_a.json", "run": "0001_a.json", "commit": "a commit", "runs": ["0001_a.json"]},
        "change": {
            "ratio": pytest.approx(0.5),
            "low": pytest.approx(0.486, abs=0.0005),
            "high": pytest.approx(0.514, abs=0.0005),
            "confidence": 0.95,
            "p_value": pytest.approx(0),  # 49 standard errors
            "documents": 8,
            "baseline_runs": 1,
            "passes": 1,
            "noise": [
                {
                    "between": "processes",
                    "variance": pytest.approx(2 * 0.01**2),
                    "degrees_of_freedom": 1e9,
                    "is_measured": True,
                }
            ],
        },
        "first_token_change": None,
        "decode_change": None,
        "attribution": {"cause": "UNKNOWN", "detail": "the baseline has no machine probes: save one that has"},
        "anchor": None,
        "environment_differences": ["torch 2.13.0 here, 2.12.0 there"],
        "quality_change": None,
        "faithfulness_change": None,
    }
    assert json.loads(json.dumps(found)) == found


def in_batches_of_four(documents):
    made = benchmark(seconds=(2.0,) * documents, batch_size=4)
    ids = made["extra_info"]["document_ids"]
    made["extra_info"]["batch_document_ids"] = [ids[start : start + 4] for start in range(0, documents, 4)]
    made["stats"]["data"] = [8.0] * (documents // 4)
    return entries_of(run_of(made))[0]


@pytest.mark.parametrize(
    ("now", "is_asked_for"),
    [
        (entry(seconds=(2.0,) * 7), False),
        (entry(), True),
        (in_batches_of_four(28), False),
        (in_batches_of_four(32), True),
    ],
)
def test_baseline_is_only_asked_for_of_eight_rounds_or_more(now, is_asked_for):
    assert ("save one with --benchmark-save" in compared(now, None).detail) is is_asked_for
    other = stored("0001_a.json", benchmark(workload="another workload", workload_settings={}))
    found = compared(now, other)
    assert found.verdict is Verdict.INCOMPARABLE
    assert found.detail.endswith("; save a baseline of this one") is is_asked_for


def test_comparison_that_decided_nothing_has_nothing_but_its_words():
    assert compared(entry(), None).as_extra_info() == {
        "verdict": "NO BASELINE",
        "verdict_detail": f"no baseline for '{NAME}' on 'an-a100'; save one with --benchmark-save=NAME",
        **dict.fromkeys(
            (
                "baseline",
                "change",
                "first_token_change",
                "decode_change",
                "attribution",
                "anchor",
                "quality_change",
                "faithfulness_change",
            )
        ),
        "environment_differences": [],
    }


# Several runs, two passes, the anchor ---------------------------------------------------------------------------------


def test_stored_runs_and_passes_are_added_up_before_their_ratio_is_taken():
    # Now 2 · 8 · 100 tokens in 8 · (2 + 3) s = 40 a second; before 3 · 8 · 100 in 8 · (2 + 2 + 5) = 33.3.
    before = [of_seconds("0003_c.json", 2.0), of_seconds("0002_b.json", 2.0), of_seconds("0001_a.json", 5.0)]
    found = judge().compare([entry(seconds=(2.0,) * 8), entry(seconds=(3.0,) * 8)], before)
    assert found.change.ratio == pytest.approx(40 / (100 / 3), rel=1e-12)
    assert (found.change.baseline_runs, found.change.runs_now, found.change.documents) == (3, 2, 8)


def test_tokens_are_added_up_too():
    # Now 800 tokens in 4 · 1 + 4 · 3 s, twice; before 800 in 16 + 24.
    before = [of_seconds("0002_b.json", 2.0), of_seconds("0001_a.json", 3.0)]
    found = judge().compare([entry(seconds=(1.0, 3.0) * 4)] * 2, before)
    assert found.change.ratio == pytest.approx((1600 / 32) / (1600 / 40), rel=1e-12)


@pytest.mark.parametrize(("baselines", "passes"), [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_error_and_degrees_of_freedom_use_both_numbers_of_runs(baselines, passes):
    # Equal documents leave the runs' part alone: 0.02² (1/baselines + 1/passes), and its own degrees of freedom.
    before = [of_seconds(f"000{number}_a.json", 2.0) for number in range(baselines)]
    change = judge(KnownNoise(0.02, freedom=7)).compare([entry()] * passes, before).change
    assert change.standard_error == pytest.approx(0.02 * math.sqrt(1 / baselines + 1 / passes), rel=1e-12)
    assert change.degrees_of_freedom == pytest.approx(7)


@pytest.mark.parametrize(
    ("machine", "measured", "added"),
    [
        ({}, "2026-11-29T01:00:00", 0.0),
        ({}, "2026-11-28T23:00:00", 0.03),
        ({"host": "another"}, "2026-11-29T01:00:00", math.hypot(0.03, 0.1)),
        ({"host": None}, "2026-11-29T01:00:00", math.hypot(0.03, 0.1)),
    ],
    ids=["this-night", "another-night", "another-host", "unknown-host"],
)
def test_nights_and_hosts_count_where_the_baseline_is_of_another(machine, measured, added):
    before = StoredRun(path=Path("0001_a.json"), run=run_of(benchmark(), **machine) | {"datetime": measured})
    change = judge(KnownNoise(0.02, night=0.03, host=0.1)).compare([entry()], [before]).change
    assert change.standard_error == pytest.approx(math.sqrt(2) * math.hypot(0.02, added))


def test_line_names_both_hosts_where_they_differ():
    before = stored("0001_a.json", host="another", host_name="lab-2")
    found = judge(KnownNoise(host=0.1), host_name="lab-1").compare([entry()], [before])
    assert "noise: processes 1.0% measured, hosts 10.0% measured (lab-1 here, lab-2 there)" in found.detail
    assert found.environment_differences == ("host lab-1 here, lab-2 there",)


def test_documents_that_one_of_the_runs_lacks_are_in_none_of_the_sums():
    ninth = entry(seconds=(*(2.0,) * 8, 100.0))
    found = judge().compare(
        [ninth, ninth], [of_seconds("0002_b.json", 2.0), of_seconds("0001_a.json", *(2.0,) * 8, 1.0)]
    )
    assert (found.change.ratio, found.change.documents) == (1.0, 8)


@pytest.mark.parametrize(
    ("here", "there", "named"),
    [("a", "a", ()), ("a", "b", ("tuned_kernels a here, b there",)), ("a", None, ()), (None, None, ())],
    ids=["the same", "others", "not told there", "not told at all"],
)
def test_noise_is_asked_for_with_the_same_kernels_only_where_both_runs_tell_them(here, there, named):
    noise = KnownNoise()
    name = "llama2-7b-chat-fp16-compiled"
    faster = stored("0001_a.json", benchmark(name, tuned_kernels=there))
    found = judge(noise).compare([entry(name=name, tuned_kernels=here)], [faster])
    assert {tuned_alike for _, _, tuned_alike, _ in noise.asked} == {here == there == "a"}
    assert found.environment_differences == named


def test_noise_of_this_host_is_asked_for_where_all_runs_are_that_hosts():
    here, elsewhere = stored("0002_a.json"), stored("0001_a.json", host="another")
    asked = []
    for runs in ([here], [elsewhere], [here, elsewhere]):
        noise = KnownNoise()
        judge(noise).compare([entry()], runs)
        asked.append({host for *_, host in noise.asked})
    assert asked == [{MACHINE["host"]}, {None}, {None}]


def test_detail_names_the_newest_run_how_many_before_it_and_the_passes():
    runs = [of_seconds(f"000{number}_a.json", 2.0) for number in (3, 2, 1)]
    low, high = (math.exp(sign * 1.959964 * 0.01 * math.sqrt(1 / 3 + 1 / 2)) for sign in (-1, 1))
    assert judge().compare([entry()] * 2, runs).detail == (
        f"1.000 times the speed of 0003_a.json and 2 before it [{low:.3f}, {high:.3f}], 2 passes, 8 documents, "
        "noise: processes 1.0% measured"
    )
    assert judge().compare([entry()] * 2, runs).as_extra_info()["baseline"] == {
        "file": "0003_a.json",
        "run": "0003_a.json",
        "commit": "a commit",
        "runs": ["0003_a.json", "0002_a.json", "0001_a.json"],
    }


SLOW, HELD = 2.0 / 0.70, 2.0 / 1.004


@pytest.mark.parametrize(
    ("passes", "apart", "told"),
    [
        ((SLOW, HELD), "+43.4%", "pass 1 alone is 0.700 and pass 2 alone is 1.004"),
        ((HELD, SLOW), "-30.3%", "pass 1 alone is 1.004 and pass 2 alone is 0.700"),
    ],
    ids=["first-disturbed", "second-disturbed"],
)
def test_slowdown_of_one_pass_alone_does_not_fail_and_says_what_each_pass_was(passes, apart, told):
    found = judge().compare([entry(seconds=(each,) * 8) for each in passes], [stored("0001_a.json")])
    assert found.change.ratio == pytest.approx(2 / (1 / 0.70 + 1 / 1.004), rel=1e-12)
    assert found.change.p_value < 1e-6
    assert (found.verdict, found.attribution, found.fails) == (Verdict.INCONCLUSIVE, None, False)
    assert found.detail == (
        "0.825 times the speed of 0001_a.json [0.805, 0.845], 2 passes, 8 documents, noise: processes 1.0% measured; "
        f"pass 2 differs from pass 1 by {apart}, more than runs of one night do; "
        f"not REGRESSED: {told}, and each must be at most 0.985; measure again to decide"
    )
    judge_as_test_summarize_does(found)


@pytest.mark.parametrize(
    ("speeds", "process", "verdict"),
    [
        ((0.7, 0.98), 0.01, Verdict.INCONCLUSIVE),  # 0.98 alone may be noise, and 0.7 is no noise of one night
        ((0.7, 0.98), 0.1, Verdict.INCONCLUSIVE),
        ((0.943, 0.973), 0.01, Verdict.REGRESSED),  # 0.973 alone may be noise, and so may their difference
        ((0.85, 0.86), 0.0003, Verdict.REGRESSED),  # further apart than noise, and each alone is proven
        ((0.99, 1.01), 0.0003, Verdict.UNCHANGED),
        ((0.99, 0.94), 0.0003, Verdict.INCONCLUSIVE),
        ((1.5, 1.02), 0.01, Verdict.INCONCLUSIVE),
        ((1.5, 1.6), 0.01, Verdict.IMPROVED),
    ],
)
def test_passes_further_apart_than_their_noise_decide_only_what_each_alone_decides(speeds, process, verdict):
    passes = [entry(seconds=(2.0 / speed,) * 8) for speed in speeds]
    assert judge(KnownNoise(process)).compare(passes, [stored("0001_a.json")]).verdict is verdict


def test_disputed_passes_say_so_in_the_one_line_of_the_verdict():
    passes = [entry(seconds=(2.0 / speed,) * 8) for speed in (0.7, 0.98)]
    found = judge().compare(passes, [stored("0001_a.json")])
    assert found.attribution is None
    assert found.detail.endswith(
        "; pass 2 differs from pass 1 by +40.0%, more than runs of one night do; "
        "not decided: pass 1 alone is 0.700 and pass 2 alone is 0.980; measure again to decide"
    )


def test_speedup_of_one_pass_alone_is_not_one_and_says_so():
    found = judge().compare([entry(seconds=(1.0,) * 8), entry(seconds=(2.0,) * 8)], [stored("0001_a.json")])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detail.endswith(
        "; not IMPROVED: pass 1 alone is 2.000 and pass 2 alone is 1.000, and each must be at least 1.015; "
        "measure again to decide"
    )


def test_slowdown_that_both_passes_show_fails():
    found = judge().compare([entry(seconds=(2.5,) * 8), entry(seconds=(2.1,) * 8)], [stored("0001_a.json")])
    assert (found.verdict, found.fails) == (Verdict.REGRESSED, True)
    assert "alone" not in found.detail


def test_run_file_has_the_ratio_of_each_of_several_passes():
    passes = [entry(seconds=(2.5,) * 8), entry(seconds=(3.2,) * 8)]
    found = judge().compare(passes, [stored("0001_a.json")], of_seconds("0001_anchor.json", 1.6)).as_extra_info()
    assert found["change"]["pass_ratios"] == pytest.approx([0.8, 0.625])
    assert found["anchor"]["pass_ratios"] == pytest.approx([0.64, 0.5])
    assert json.loads(json.dumps(found)) == found


def test_one_disturbed_pass_is_no_slowdown_against_the_anchor_either():
    found = judge().compare(
        [entry(seconds=(SLOW,) * 8), entry(seconds=(HELD,) * 8)], [stored("0002_a.json")], stored("0001_anchor.json")
    )
    assert found.anchor.verdict is Verdict.INCONCLUSIVE


def test_slow_slide_fails_against_the_anchor_and_not_against_the_newest():
    found = judge().compare(
        [entry(seconds=(2.0,) * 8)], [of_seconds("0009_a.json", 1.98)], of_seconds("0001_anchor.json", 1.6)
    )
    assert (found.verdict, found.anchor.verdict) == (Verdict.UNCHANGED, Verdict.REGRESSED)
    assert found.as_extra_info()["anchor"] == {
        "faithfulness_change": None,
        "file": "0001_anchor.json",
        "commit": "a commit",
        "verdict": "REGRESSED",
        "ratio": pytest.approx(0.8),
        "low": pytest.approx(0.8 * math.exp(-1.959964 * 0.01 * math.sqrt(2))),
        "high": pytest.approx(0.8 * math.exp(1.959964 * 0.01 * math.sqrt(2))),
        "confidence": 0.95,
        "p_value": pytest.approx(0),
        "documents": 8,
        "baseline_runs": 1,
        "passes": 1,
        "quality_change": found.anchor.quality.as_extra_info(),
        "noise": found.as_extra_info()["change"]["noise"],
        "attribution": found.as_extra_info()["anchor"]["attribution"],
    }
    with pytest.raises(
        RegressionError,
        match=r"^REGRESSED: generated tokens/s 0\.800 times the speed of the anchor 0001_anchor\.json \[",
    ):
        assert_not_regressed(found)


def test_slowdown_against_the_newest_run_is_named_before_the_anchor_s():
    found = judge().compare(
        [entry(seconds=(2.5,) * 8)], [of_seconds("0009_a.json", 2.0)], of_seconds("0001_anchor.json", 1.6)
    )
    with pytest.raises(RegressionError) as raised:
        assert_not_regressed(found)
    assert "anchor" not in str(raised.value)


def test_gain_that_is_lost_again_since_a_slow_anchor_fails_nothing():
    found = judge().compare(
        [entry(seconds=(2.0,) * 8)], [of_seconds("0009_a.json", 1.99)], of_seconds("0001_anchor.json", 2.4)
    )
    assert found.anchor.verdict is Verdict.IMPROVED
    assert_not_regressed(found)


def test_slow_slide_of_the_quality_fails_against_the_anchor_and_not_against_the_newest():
    def scored(points):
        return {"rouge1_scores": [0.30 + points / 100] * 20, "seconds": (2.0,) * 20}

    newest, anchor = (
        stored(f"000{number}_a.json", benchmark(**scored(points))) for number, points in ((2, -3), (1, 0))
    )
    found = judge().compare([entry(**scored(-4))], [newest], anchor)
    assert (found.quality.verdict, found.anchor.quality.verdict) == (
        QualityVerdict.INCONCLUSIVE,
        QualityVerdict.INFERIOR,
    )
    assert_quality_held(found.quality)
    with pytest.raises(QualityError, match=r"^quality INFERIOR to 0001_a\.json: ROUGE-1 -4\.0 points"):
        assert_quality_held(*found.qualities)


def test_passes_are_added_up_against_the_anchor_too_and_it_is_one_run():
    found = judge().compare(
        [entry(seconds=(2.0,) * 8), entry(seconds=(3.0,) * 8)],
        [of_seconds("0002_a.json", 2.0)] * 3,
        of_seconds("0001_anchor.json", 2.0),
    )
    assert found.anchor.change.ratio == pytest.approx(0.8, rel=1e-12)
    assert (found.anchor.change.baseline_runs, found.anchor.change.runs_now) == (1, 2)


@pytest.mark.parametrize(
    "anchor",
    [
        None,
        stored("0001_anchor.json", device="Tesla T4"),
        stored("0001_anchor.json", benchmark(**OTHER)),
        stored("0001_anchor.json", benchmark("llama2-7b-chat-fp16")),
        stored("0001_anchor.json", benchmark(seconds=(2.0,) * 7)),
    ],
    ids=["none", "device", "workload", "experiment", "documents"],
)
def test_anchor_that_cannot_be_compared_with_says_nothing(anchor):
    found = judge().compare([entry()], [stored("0002_a.json")], anchor)
    assert (found.verdict, found.anchor) == (Verdict.UNCHANGED, None)


# Attribution ----------------------------------------------------------------------------------------------------------


def with_controls(file_or_seconds, **rates):
    controls = {
        name: {"before": rate, "after": rate, "standard_deviation": 0.001, "work": 10} for name, rate in rates.items()
    }
    if isinstance(file_or_seconds, str):
        return stored(file_or_seconds, benchmark(controls=controls), torch="2.12.0")
    return entry(seconds=(file_or_seconds,) * 8, controls=controls)


@pytest.mark.parametrize(
    ("driver", "cause"), [("580.95.05", Cause.GPU), (None, Cause.HOST)], ids=["with-a-driver", "without-one"]
)
def test_machine_without_a_driver_is_a_cpu(driver, cause):
    name = "matrix_product_flop_per_second"
    before, now = with_controls("0001_a.json", **{name: 1.0}), with_controls(4.0, **{name: 0.5})
    assert judge(driver=driver).compare([now], [before]).attribution.cause is cause


@pytest.mark.parametrize(
    ("work", "cause"), [(10, Cause.UNKNOWN), (20, Cause.GPU), (None, Cause.GPU)], ids=["same", "other", "untold"]
)
def test_control_is_held_against_its_deviation_between_runs_where_those_did_the_same_work(work, cause):
    name = "matrix_product_flop_per_second"
    before, now = with_controls("0001_a.json", **{name: 1.0}), with_controls(4.0, **{name: 0.5})
    found = judge(KnownNoise(controls={name: 0.5} if work == 10 else {}))
    assert found.compare([now], [before]).attribution.cause is cause


def test_code_is_told_with_what_differs_from_the_baseline_s_environment():
    name = "matrix_product_flop_per_second"
    found = judge().compare([with_controls(4.0, **{name: 1.0})], [with_controls("0001_a.json", **{name: 1.0})])
    assert found.attribution.cause is Cause.CODE
    assert found.attribution.detail.endswith("; other than the baseline's: torch 2.13.0 here, 2.12.0 there")


PRODUCT = "matrix_product_flop_per_second"


@pytest.mark.parametrize(
    ("rates", "cause"),
    [((0.7, 0.8), Cause.GPU), ((0.7, 1.0), Cause.CODE), ((1.0, 0.8), Cause.CODE), ((1.0, 1.0), Cause.CODE)],
)
def test_cause_of_a_slowdown_is_taken_from_the_probes_of_both_passes(rates, cause):
    passes = [with_controls(2.0 / speed, **{PRODUCT: rate}) for speed, rate in zip((0.7, 0.8), rates, strict=True)]
    assert judge().compare(passes, [with_controls("0001_a.json", **{PRODUCT: 1.0})]).attribution.cause is cause


@pytest.mark.parametrize(("rates", "cause"), [((0.7, 1.0), Cause.GPU), ((1.0, 0.97), Cause.CODE)])
def test_pass_that_would_not_have_decided_alone_does_not_change_the_cause(rates, cause):
    speeds = (0.943, 0.973)
    passes = [with_controls(2.0 / speed, **{PRODUCT: rate}) for speed, rate in zip(speeds, rates, strict=True)]
    found = judge().compare(passes, [with_controls("0001_a.json", **{PRODUCT: 1.0})])
    assert (found.verdict, found.attribution.cause) == (Verdict.REGRESSED, cause)


LAUNCHES = "kernel_launches_per_second"


@pytest.mark.parametrize(
    ("name", "error"), [("llama2-7b-chat-fp16", MachineSlowerError), ("llama2-7b-chat-fp16-compiled", RegressionError)]
)
def test_busy_host_excuses_an_eager_loader_and_no_compiled_one(name, error):
    def probed(launches):
        return {
            each: {"before": rate, "after": rate, "standard_deviation": 0.001, "work": 10}
            for each, rate in {PRODUCT: 1.0, LAUNCHES: launches}.items()
        }

    before = stored("0001_a.json", benchmark(name, controls=probed(1.0), tuned_kernels="a"))
    slower = {"seconds": (2.0 / 0.85,) * 8, "time_to_first_token_seconds": [0.25 / 0.85] * 8}
    now = entry(name=name, **slower, controls=probed(0.89), tuned_kernels="a")
    found = judge().compare([now], [before])
    assert found.verdict is Verdict.REGRESSED
    with pytest.raises(error):
        judge_as_test_summarize_does(found)


@pytest.mark.parametrize(("seconds", "is_told"), [(4.0, True), (1.0, True), (2.0, False), (2.06, False)])
def test_cause_is_told_of_a_change_and_of_nothing_else(seconds, is_told):
    found = compared(entry(seconds=(seconds,) * 8), stored("0001_a.json"))
    assert (found.attribution is not None) == is_told


# What fails -----------------------------------------------------------------------------------------------------------


def judge_as_test_summarize_does(comparison):
    assert_not_regressed(comparison)
    assert_machine_not_slower(comparison)


def judgement(quantity=Quantity.SPEED, verdict=Verdict.REGRESSED, cause=None, *, is_held=False):
    return Judgement(
        quantity=quantity,
        verdict=verdict,
        detail="0.500 of it",
        change=Change(log_ratio=math.log(0.5), document_deviation=0.0, documents=8),
        attribution=Attribution(cause=cause, detail="figures") if cause else None,
        is_held=is_held,
    )


def of_judgements(speed, *others):
    return Comparison(verdict=speed.verdict, detail=speed.detail, speed=speed, others=others)


@pytest.mark.parametrize(
    ("cause", "error"),
    [
        (Cause.GPU, MachineSlowerError),
        (Cause.HOST, MachineSlowerError),
        (Cause.CODE, RegressionError),
        (Cause.WORKLOAD, RegressionError),
        (Cause.UNKNOWN, RegressionError),
        (None, RegressionError),
    ],
)
def test_slowdown_is_the_machine_s_where_the_gpu_or_the_host_caused_it(cause, error):
    with pytest.raises(RegressionError) as raised:
        judge_as_test_summarize_does(of_judgements(judgement(cause=cause)))
    assert raised.type is error
    assert str(raised.value) == "REGRESSED: generated tokens/s 0.500 of it" + (f"; {cause}: figures" if cause else "")


@pytest.mark.parametrize("quantity", [Quantity.FIRST_TOKEN, Quantity.DECODE])
def test_slower_first_token_or_decoding_fails_as_a_slower_speed_does(quantity):
    unchanged = judgement(verdict=Verdict.UNCHANGED)
    with pytest.raises(RegressionError, match=f"REGRESSED: {quantity} 0.500 of it"):
        assert_not_regressed(of_judgements(unchanged, judgement(quantity)))
    assert_not_regressed(of_judgements(unchanged, judgement(quantity, is_held=True)))


def test_machine_is_blamed_only_for_all_slowdowns_together():
    of_machine = judgement(cause=Cause.HOST)
    with pytest.raises(MachineSlowerError):
        judge_as_test_summarize_does(of_judgements(of_machine, judgement(Quantity.DECODE, cause=Cause.HOST)))
    with pytest.raises(RegressionError) as raised:
        judge_as_test_summarize_does(of_judgements(of_machine, judgement(Quantity.DECODE, cause=Cause.CODE)))
    assert raised.type is RegressionError


@pytest.mark.parametrize("cause", [Cause.CODE, Cause.HOST])
def test_slowdown_that_is_held_does_not_fail(cause):
    judge_as_test_summarize_does(of_judgements(judgement(cause=cause, is_held=True)))


@pytest.mark.parametrize(
    ("verdict", "is_required", "error"),
    [
        (Verdict.REGRESSED, False, RegressionError),
        (Verdict.INVALID, False, DeviceInvalidError),
        (Verdict.NO_BASELINE, True, RegressionError),
        (Verdict.INCOMPARABLE, True, RegressionError),
    ],
)
def test_verdict_that_fails_carries_its_detail(verdict, is_required, error):
    with pytest.raises(error, match="what to do"):
        assert_not_regressed(Comparison(verdict=verdict, detail="what to do", is_required=is_required))


@pytest.mark.parametrize(
    ("verdict", "is_required"),
    [
        *((each, True) for each in (Verdict.IMPROVED, Verdict.UNCHANGED, Verdict.INCONCLUSIVE, Verdict.UNCALIBRATED)),
        (Verdict.NO_BASELINE, False),
        (Verdict.INCOMPARABLE, False),
    ],
)
def test_every_other_verdict_passes(verdict, is_required):
    assert_not_regressed(Comparison(verdict=verdict, detail="", is_required=is_required))
