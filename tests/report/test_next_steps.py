"""What a session says to do next: one line for each verdict that asks for something, with a command that works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from summarybench.core.invocation import Invocation, StartedBy
from summarybench.report.next_steps import Finished, next_steps
from tests.run_files import A100, benchmark, outcome, run_of

NAME = "llama2-7b-chat-4-bit"
ADOPT = "summarybench adopt /r/a-run main"
PROGRAMS = {"python": "python", "scripts": frozenset({"summarybench", "pytest"})}
BY_PYTEST, BY_BENCH, BY_MAKE = (
    Invocation(started_by=StartedBy(each), **PROGRAMS) for each in ("pytest", "summarybench", "make")
)


def steps(*benchmarks, outcomes=(), folder="/r/a-run", run=None, **facts):
    known = {
        "exit_code": 0,
        "is_new_gpu": False,
        "is_saved": False,
        "device": A100,
        "arguments": ("-m", "a b"),
        "invocation": BY_BENCH,
    }
    made = {**run_of(*benchmarks, outcomes=outcomes), **(run or {})}
    return list(next_steps(Finished(run=made, folder=Path(folder), **{**known, **facts})))


@pytest.mark.parametrize("verdict", ["NO BASELINE", "INCOMPARABLE", "IMPROVED"])
def test_clean_run_is_offered_as_a_baseline(verdict):
    assert steps(benchmark(verdict=verdict)) == [f"next: to make this run the baseline of {NAME}: {ADOPT}"]
    assert steps(benchmark(verdict=verdict), is_saved=True) == []
    assert steps(benchmark(verdict=verdict), exit_code=1) == []
    assert steps(benchmark(verdict=verdict), device=replace(A100, is_limited=True)) == []


@pytest.mark.parametrize(
    ("nights", "night_deviation", "said"),
    [
        (1, None, ""),
        (5, None, "; its history has 5 nights with this one, and tests from the 9th on"),
        (40, 0.02, "; its history would show a slowdown of 3% within 11 nights"),
        (40, 0.068, "; in its history, 3% slower is out of reach: a night varies by 6.8%"),
    ],
)
def test_proposed_baseline_says_what_its_history_could_detect(nights, night_deviation, said):
    record = {"trend": "STEADY", "nights": nights, "standard_deviation": night_deviation}
    assert steps(benchmark(verdict="IMPROVED", history=record)) == [
        f"next: to make this run the baseline of {NAME}: {ADOPT}{said}"
    ]


def test_run_of_a_slowed_series_is_not_offered_as_a_baseline():
    found = steps(benchmark(verdict="IMPROVED", history={"trend": "SLOWED"}))
    assert not any("the baseline of" in line for line in found)
    assert any("slowed over the stored nights" in line and "history" in line for line in found)


def test_nothing_is_asked_for_where_nothing_changed():
    assert steps(benchmark(verdict="UNCHANGED")) == []


def test_regression_is_to_be_measured_once_more_with_the_same_options():
    regressed = benchmark(verdict="REGRESSED")
    (line,) = steps(regressed, exit_code=1)
    assert line.startswith(f"next: {NAME} is REGRESSED: `summarybench bench` measures a regression again automatically")
    assert line.endswith("by hand: summarybench bench -m 'a b' --confirm /r/a-run")
    (line,) = steps(regressed, exit_code=1, run={"confirms": {}})
    assert "both passes show it" in line
    assert "`summarybench compare /r/a-run`" in line


def test_what_was_invalid_or_cut_short_is_to_be_resumed():
    ended = (outcome("a", "invalid"), outcome("b", "passed"), outcome("c", "failed") | {"is_final": False})
    assert steps(outcomes=ended, exit_code=1) == [
        "next: after removing the cause, measure only a, c: summarybench bench -m 'a b' --resume /r/a-run"
    ]


def test_nothing_is_to_be_resumed_where_wrong_input_left_nothing_to_measure():
    wrong = outcome("a", "failed") | {"is_final": False, "wrong_input": True}
    assert steps(outcomes=[wrong], exit_code=4) == []
    assert "measure only a: " in "".join(steps(outcomes=[wrong, outcome("b", "passed")], exit_code=1))


@pytest.mark.parametrize(
    ("invocation", "arguments", "resume", "adopt"),
    [
        (
            BY_PYTEST,
            ("benchmarks", "-m", "a b"),
            "pytest benchmarks -m 'a b' --resume '/r/a run'",
            "summarybench adopt '/r/a run' main",
        ),
        (
            BY_BENCH,
            ("-m", "a b"),
            "summarybench bench -m 'a b' --resume '/r/a run'",
            "summarybench adopt '/r/a run' main",
        ),
        (
            BY_MAKE,
            ("-m", "a"),
            """make bench ARGS='-m a --resume '"'"'/r/a run'"'"''""",
            "make adopt RUN='/r/a run' NAME=main",
        ),
    ],
    ids=["pytest", "bench", "make"],
)
def test_commands_are_those_that_were_typed_with_paths_quoted(invocation, arguments, resume, adopt):
    given = {"invocation": invocation, "arguments": arguments, "folder": "/r/a run"}
    unfinished = steps(outcomes=[outcome("a", "invalid")], exit_code=1, **given)
    assert unfinished == [f"next: after removing the cause, measure only a: {resume}"]
    assert steps(benchmark(), **given) == [f"next: to make this run the baseline of {NAME}: {adopt}"]


def test_undecided_says_how_to_decide():
    (line,) = steps(*[benchmark(verdict="INCONCLUSIVE")] * 4)
    assert line.startswith(
        "next: 4 experiments are INCONCLUSIVE: each line above says what would decide, if anything. "
        "`summarybench noise` measures how much runs differ on this machine"
    )


def test_run_of_too_few_documents_is_not_offered_as_a_baseline():
    (line,) = steps(benchmark(seconds=(2.0,) * 7))
    assert line.startswith("next: a baseline needs at least 8 documents")
    assert line.endswith("measure more of them before you store one")
    assert steps(benchmark(seconds=(2.0,) * 7), is_saved=True) == [], "a note beside its file says so"
    assert steps(benchmark(seconds=(2.0,) * 7), benchmark()) == [
        f"next: measure again for a baseline of {NAME}; this run would be a poor one: {NAME} with fewer than 8 documents"
    ]


@pytest.mark.parametrize(
    ("cause", "is_offered"), [("GPU", False), ("HOST", False), ("CODE", True), ("WORKLOAD", True), ("UNKNOWN", True)]
)
def test_run_that_is_faster_because_the_machine_was_is_not_offered_as_a_baseline(cause, is_offered):
    (line,) = steps(benchmark(verdict="IMPROVED", attribution={"cause": cause}))
    assert (ADOPT in line) == is_offered
    assert line.endswith(f"poor one: {NAME} faster because the machine was") != is_offered


def test_run_with_an_undecided_experiment_is_not_offered_as_a_baseline():
    lines = steps(benchmark(), benchmark("llama2-7b-chat-8-bit", verdict="INCONCLUSIVE"))
    assert not any(ADOPT in line for line in lines)
    assert lines[-1] == (
        f"next: measure again for a baseline of {NAME}; this run would be a poor one: llama2-7b-chat-8-bit INCONCLUSIVE"
    )


def test_invalid_run_is_not_offered_as_a_baseline():
    lines = steps(benchmark(verdict="INVALID"), benchmark(), outcomes=(outcome(NAME, "invalid"),), exit_code=0)
    assert not any(ADOPT in line for line in lines)


def test_few_documents_of_a_new_gpu_are_not_asked_for():
    (line,) = steps(benchmark(seconds=(2.0,) * 7), is_new_gpu=True)
    assert "save a clean run of at least 8 documents with --benchmark-save=main, then" in line
    assert ADOPT not in line


def test_gpu_that_is_new_to_the_suite_is_asked_for_its_baseline():
    said = "next: no run of 'nvidia-a100-sxm4-40gb' is stored yet; to contribute the first: "
    request = (
        "summarybench docs, then open a pull request with baselines/nvidia-a100-sxm4-40gb/ and the rewritten pages"
    )
    new = {"is_new_gpu": True}
    assert steps(benchmark(), **new) == [f"{said}{ADOPT}, then {request}"]
    assert steps(benchmark(), is_saved=True, **new) == [f"{said}{request}"]
    (line,) = steps(benchmark(), exit_code=10, **new)
    assert line == f"{said}save a clean run of at least 8 documents with --benchmark-save=main, then {request}"
    assert steps(benchmark(), device=replace(A100, stands_in=True), **new) == []
    assert "pull request" not in steps(benchmark(), device=replace(A100, kind="cpu"), **new)[0]


@pytest.mark.parametrize(
    ("there", "shown"), [((), []), (("report.md",), ["report.md"]), (("report.md", "report.html"), ["report.html"])]
)
def test_best_page_that_is_there_is_named_last(tmp_path, there, shown):
    for name in there:
        (tmp_path / name).touch()
    assert steps(benchmark(verdict="UNCHANGED"), folder=tmp_path) == [f"report: {tmp_path / name}" for name in shown]
