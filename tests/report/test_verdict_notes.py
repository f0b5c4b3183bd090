"""The notes on a verdict: the same lines in the terminal and in the markdown summary, never cut."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from summarybench.machine.device import GIB, DeviceRecord
from summarybench.report.terminal import final_report
from tests.command import command
from tests.run_files import benchmark, outcome, run_of

main = command("summary")

A100 = DeviceRecord(
    kind="cuda",
    name="NVIDIA A100-SXM4-40GB",
    slug="nvidia-a100-sxm4-40gb",
    family="unpublished",
    memory_bytes=40 * GIB,
    compute_dtype="bfloat16",
)
NAME, OTHER = "llama2-7b-chat-4-bit", "llama2-7b-chat-fp16"
CHANGE = {"ratio": 0.8, "low": 0.75, "high": 0.8525, "confidence": 0.95, "p_value": 0.001, "documents": 8}
COMPARED = {"change": CHANGE, "verdict": "REGRESSED", "verdict_detail": "0.800 of 0002_main.json"}
SITS = {"cause": "HOST", "detail": "controls moved along: copy bandwidth -1%, matrix product +0%, kernel launches -21%"}
FIRST = {"run": "20261124T021700Z-nvidia-a100", "verdict": "REGRESSED", "change": CHANGE | {"ratio": 0.79}}
ANCHOR = {"file": "0001_anchor.json", "commit": "abc", "verdict": "REGRESSED"} | CHANGE | {"ratio": 0.7}
CONFIRMS = {"run": "20261124T021700Z-nvidia-a100", "commit": "0123456789abcdef", "datetime": None}


@pytest.fixture(params=["80 columns", "100 columns", "200 columns", "summary"])
def noted(request, tmp_path, capsys):
    """The notes on a run, without markdown's escapes and list signs."""

    def of_terminal(run):
        text = final_report(run, A100, width=int(request.param.partition(" ")[0]), color=False)
        return text.split("\n\n")[-1].splitlines()

    def of_summary(run):
        (tmp_path / "run.json").write_text(json.dumps({**run, "device": asdict(A100)}))
        (tmp_path / "exit_code").write_text("1\n")
        assert main([str(tmp_path)]) == 0
        notes = next(each for each in capsys.readouterr().out.split("\n\n") if each.startswith("- ")).splitlines()
        return [line.strip().removeprefix("- ").replace("\\", "") for line in notes]

    return of_summary if request.param == "summary" else of_terminal


def lines(shown):
    return [line.strip() for line in shown]


def test_weights_that_were_unpacked_are_named_by_their_method(noted):
    def as_stored(name, method, *, unpacked):
        settings = {"loader_settings": {"dtype": "bfloat16", "quantization": method, "unpacked": unpacked}}
        return benchmark(name, workload_settings=settings)

    last = "llama2-7b-chat-8-bit"
    run = run_of(
        as_stored(NAME, "fp8", unpacked=True),
        as_stored(OTHER, "compressed-tensors", unpacked=True),
        as_stored("llama2-7b-chat-default", "gptq", unpacked=False),
        as_stored(last, "fp8", unpacked=True),
    )
    why = "since this device or an installed package has no kernels for them: speed and memory are those of 16-bit weights"
    assert [line for line in lines(noted(run)) if "unpacked" in line] == [
        f"{NAME}, {last}: transformers has unpacked the fp8 weights to 16 bits, {why}",
        f"{OTHER}: transformers has unpacked the compressed-tensors weights to 16 bits, {why}",
    ]


def test_run_that_is_saved_is_not_asked_to_be_for_another_workload():
    found = "0001_main.json measured another workload: --max-new-tokens 100 here, 50 there"
    run = run_of(benchmark(verdict="INCOMPARABLE", verdict_detail=f"{found}; save a baseline of this one"))
    shown = {
        is_saved: final_report(run, A100, width=200, color=False, is_saved=is_saved).splitlines()
        for is_saved in (False, True)
    }
    assert f"{NAME}: INCOMPARABLE: {found}; save a baseline of this one" in shown[False]
    assert f"{NAME}: INCOMPARABLE: {found}" in shown[True]


def test_attribution_the_first_pass_and_the_anchor_follow_the_verdict(noted):
    run = run_of(benchmark(**COMPARED, attribution=SITS, first_pass=FIRST, anchor=ANCHOR))
    assert lines(noted(run))[:4] == [
        f"{NAME}: REGRESSED: 0.800 of 0002_main.json",
        f"HOST: {SITS['detail']}",
        "first pass: REGRESSED 0.790 [0.750, 0.853]; the verdict above pools both passes",
        "against 0001_anchor.json: REGRESSED 0.700 [0.750, 0.853]",
    ]


def test_run_without_causes_and_passes_is_shown_without_them(noted):
    shown = "\n".join(noted(run_of(benchmark(**COMPARED))))
    assert "first pass" not in shown
    assert "against" not in shown


def test_second_pass_names_its_run_and_what_was_carried_and_measured(noted):
    carried = {"carried_from": CONFIRMS["run"]}
    run = run_of(
        benchmark(**COMPARED, first_pass=FIRST),
        benchmark(OTHER, **COMPARED, **carried),
        outcomes=(outcome(NAME, "failed", "0.800 of 0002_main.json"), outcome(OTHER, "passed") | carried),
    )
    expected = f"second pass of {CONFIRMS['run']} (commit 0123456789ab): carried {OTHER}; measured now: {NAME}"
    assert expected in lines(noted(run | {"confirms": CONFIRMS}))


def test_rate_of_false_alarms_of_a_confirmed_session_is_stated(noted):
    run = run_of(benchmark(**COMPARED), benchmark(OTHER, **COMPARED)) | {"confirms": CONFIRMS}
    assert "false alarms: at most 1% of sessions (Holm, 2 comparisons)" in lines(noted(run))


def test_false_alarms_of_one_pass_over_several_experiments_are_stated(noted):
    run = run_of(benchmark(**COMPARED), benchmark(OTHER, **COMPARED))
    assert (
        "false alarms: up to 1% for each comparison, so up to 2.0% of sessions with 2 comparisons; "
        "`summarybench bench` (make bench) measures regressions again and keeps them at 1% of sessions (Holm)"
    ) in [line.replace("\\", "") for line in lines(noted(run))]


@pytest.mark.parametrize("benchmarks", [(benchmark(**COMPARED),), (benchmark(**COMPARED), benchmark(OTHER))])
def test_one_comparison_has_its_own_level_and_no_line(noted, benchmarks):
    assert "false alarms" not in "\n".join(noted(run_of(*benchmarks)))


@pytest.mark.parametrize(
    ("exit_code", "cause", "headline"),
    [
        (1, "CODE", "## REGRESSED: 1 of 2 experiments (exit code 1)"),
        (11, "HOST", "## REGRESSED: 1 of 2 experiments; the machine was slower too (exit code 11)"),
        (11, "GPU", "## REGRESSED: 1 of 2 experiments; the machine was slower too (exit code 11)"),
        (10, "HOST", "## Quality failed: below its floor, or worse than the baseline (exit code 10)"),
    ],
)
def test_headline_of_a_regression_says_whether_the_machine_was_slower(tmp_path, capsys, exit_code, cause, headline):
    failed = outcome(NAME, "failed") | {"machine_only": exit_code == 11}
    run = run_of(benchmark(**COMPARED, attribution=SITS | {"cause": cause}), benchmark(OTHER), outcomes=(failed,))
    (tmp_path / "run.json").write_text(json.dumps({**run, "device": asdict(A100)}))
    (tmp_path / "exit_code").write_text(f"{exit_code}\n")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == headline


SLOWED = {
    "trend": "SLOWED",
    "host": "0123456789ab",
    "nights": 28,
    "reference_nights": 18,
    "reference_tokens_per_second": 50.0,
    "standard_deviation": 0.01,
    "ratio": 0.9481,
    "since": "2026-10-21",
    "commits": ["1a2b3c4d5e6f", "5e6f7a8b9c0d"],
}


def test_slowed_series_is_said_below_the_verdict_and_a_steady_one_is_not(noted):
    slowed = run_of(benchmark(verdict="UNCHANGED", verdict_detail="1.000 of 0002_main.json", history=SLOWED))
    assert (
        "history: SLOWED to 0.948 since 2026-10-21, between commits 1a2b3c4d and 5e6f7a8b; "
        "`summarybench history` (make history) shows the series"
    ) in "\n".join(lines(noted(slowed)))
    steady = SLOWED | {"trend": "STEADY", "since": None, "commits": None}
    run = run_of(benchmark(verdict="UNCHANGED", verdict_detail="1.000 of 0002_main.json", history=steady))
    assert "history: " not in "\n".join(lines(noted(run)))
