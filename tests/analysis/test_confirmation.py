"""The second pass: what is held, what Holm rejects once all comparisons are in, and what is kept of the first."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from summarybench.analysis.comparison import AnchorComparison, Comparison, Judgement
from summarybench.analysis.confirmation import ConfirmedRun, is_measured_again, judged_changes, read_confirmed_run
from summarybench.analysis.quantities import Quantity
from summarybench.core.outcomes import ExitCode, Outcome, TestOutcome, Verdict, session_exit_code
from summarybench.runs.journal import JournalContents
from summarybench.runs.resume import EarlierRun
from summarybench.runs.run_file import Entry, entries_of
from summarybench.session.outcomes import Outcomes
from summarybench.stats.changes import Change
from summarybench.stats.intervals import student_quantile
from summarybench.stats.noise_parts import Level, NoiseTerm
from tests.analysis.test_quality_session import LOST
from tests.run_files import CHANGE, MACHINE, benchmark, run_of

NAME = "llama2-7b-chat-4-bit"
ENTRY = entries_of(run_of(benchmark()))[0]


def change(p_value):
    """A slowdown with this p-value: normal, since the noise counts as known and documents do not differ."""
    return Change(
        log_ratio=student_quantile(p_value, 1e12) * 0.1,
        document_deviation=0.0,
        documents=8,
        noise=(NoiseTerm(level=Level.PROCESS, variance=0.01, degrees_of_freedom=1e12, is_measured=True),),
    )


def slower(p_value, verdict=Verdict.REGRESSED):
    speed = judgement(p_value, verdict)
    return Comparison(verdict=verdict, detail=speed.detail, speed=speed)


def judgement(p_value, verdict=Verdict.REGRESSED, quantity=Quantity.SPEED):
    return Judgement(quantity=quantity, verdict=verdict, detail="0.900 of it", change=change(p_value))


def confirming(comparisons, *nodeids):
    return ConfirmedRun(run="the first", comparisons=comparisons, entries=dict.fromkeys(nodeids or ("a",), ENTRY))


# While it runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p_value", "is_held"), [(0.00199, False), (0.00201, True)])
def test_slowdown_is_held_above_one_percent_over_the_number_of_comparisons(p_value, is_held):
    found = confirming(5).hold(slower(p_value))
    assert (found.speed.is_held, found.verdict) == (is_held, Verdict.REGRESSED)


def test_what_is_held_says_at_which_level_and_why():
    assert confirming(5).hold(slower(0.004)).detail == (
        "0.900 of it; not failed: p 0.004, and of 5 comparisons only below 0.002 keeps the session's false alarms at 1% "
        "(Holm)"
    )


def test_what_is_not_held_is_as_it_was():
    comparison = slower(0.001)
    assert confirming(5).hold(comparison) == comparison


def test_a_single_comparison_is_held_at_one_percent():
    assert not confirming(1).hold(slower(0.0099)).speed.is_held
    assert confirming(1).hold(slower(0.0101)).speed.is_held


def test_slowdown_against_the_anchor_is_held_by_its_own_p_value():
    held, failing = (
        confirming(4).hold(
            replace(slower(0.5, Verdict.UNCHANGED), anchor=AnchorComparison(stored=None, judgement=judgement(p_value)))
        )
        for p_value in (0.003, 0.002)
    )
    assert (held.fails, failing.fails) == (False, True)


def test_slowdown_against_the_anchor_alone_is_measured_again_and_counts_as_a_comparison():
    anchor = CHANGE | {"file": "0001_anchor.json", "commit": "abc", "verdict": "REGRESSED"}
    (info,) = (
        each.extra_info for each in entries_of(run_of(benchmark(verdict="UNCHANGED", change=CHANGE, anchor=anchor)))
    )
    assert is_measured_again(info, every=False)
    assert [each.verdict for each in judged_changes(info)] == ["UNCHANGED", "REGRESSED"]


def test_first_token_and_decoding_are_held_each_by_its_own_p_value():
    others = (judgement(0.0001, quantity=Quantity.FIRST_TOKEN), judgement(0.01, quantity=Quantity.DECODE))
    found = confirming(3).hold(replace(slower(0.5, Verdict.UNCHANGED), others=others))
    assert [each.is_held for each in found.judgements] == [False, False, True]
    assert [each.quantity for each in found.failing] == [Quantity.FIRST_TOKEN]


def test_nothing_is_held_in_a_session_that_confirms_nothing():
    comparison = slower(0.5)
    assert ConfirmedRun().hold(comparison) is comparison


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.REGRESSED])
def test_no_other_verdict_is_held(verdict):
    comparison = slower(0.5, verdict)
    assert confirming(5).hold(comparison) == comparison


# Once all comparisons are in ------------------------------------------------------------------------------------------


def compared(nodeid, p_value, verdict="REGRESSED", cause=None, **change):
    made = benchmark(
        verdict=verdict,
        change=None if p_value is None else {"p_value": p_value, **change},
        attribution=cause and {"cause": cause, "detail": ""},
    )
    return made | {"fullname": nodeid}


def test_holm_is_over_all_comparisons_and_rejects_only_what_was_measured_again():
    # Four comparisons: levels 0.25%, 0.33%, 0.5%, 1%. The carried one takes the first; a fifth test compared nothing.
    run = [
        compared("carried", 0.0001),
        compared("a", 0.003),
        compared("b", 0.0049),
        compared("c", 0.02),
        compared("none", None, "NO BASELINE"),
    ]
    assert confirming(4, "a", "b", "c").rejected(run) == {"a": False, "b": False}
    assert confirming(4, "b").rejected(run) == {"b": False}
    without_the_carried = run[1:]
    assert confirming(3, "a", "b", "c").rejected(without_the_carried) == {"a": False, "b": False}
    assert confirming(3, "b", "c").rejected([*run[2:], compared("d", 0.9)]) == {}


def test_experiment_whose_passes_contradict_each_other_eases_no_level_for_the_others():
    # Two comparisons: levels 0.5% and 1%. With the p-value of its pooled passes the first would take the stricter one.
    passes = {"pass_ratios": [0.70, 1.004]}
    run = [compared("a", 1e-9, "INCONCLUSIVE", **passes), compared("b", 0.008, pass_ratios=[0.9, 0.9])]
    assert confirming(2, "a", "b").rejected(run) == {}
    assert confirming(2, "a", "b").rejected([run[0], compared("b", 0.005, pass_ratios=[0.9, 0.9])]) == {"b": False}
    both_slow = compared("a", 1e-9, pass_ratios=[0.70, 0.985])
    assert confirming(2, "a", "b").rejected([both_slow, run[1]]) == {"a": False, "b": False}


def test_first_token_and_decoding_are_comparisons_of_their_own():
    # Three comparisons: levels 0.33%, 0.5%, 1%. Decoding takes the first, and the speed is not significant at the second.
    record = {**CHANGE, "verdict": "REGRESSED", "verdict_detail": "", "attribution": None}
    run = [compared("a", 0.006)]
    run[0]["extra_info"]["decode_change"] = record | {"p_value": 0.003, "attribution": {"cause": "GPU", "detail": ""}}
    run[0]["extra_info"]["first_token_change"] = record | {"p_value": 0.9, "verdict": "UNCHANGED"}
    assert confirming(3, "a").rejected(run) == {"a": True}
    run[0]["extra_info"]["decode_change"]["p_value"] = 0.004
    assert confirming(3, "a").rejected(run) == {}


def test_p_value_of_what_is_too_small_a_slowdown_to_regress_fails_nothing():
    assert confirming(1).rejected([compared("a", 0.0001, "UNCHANGED")]) == {}


def test_session_that_confirms_nothing_rejects_nothing():
    assert ConfirmedRun().rejected([compared("a", 0.0001)]) == {}


def outcomes_that_held(run, nodeids):
    """The outcomes of a session whose tests have all passed, some of them held."""
    outcomes = {
        nodeid: TestOutcome(nodeid=nodeid, experiment=NAME, outcome=Outcome.PASSED, detail="") for nodeid in nodeids
    }
    results = SimpleNamespace(
        run={"benchmarks": run}, journal=SimpleNamespace(append=lambda *_: None), write_run=lambda: None
    )
    return Outcomes(results, confirming(len(run), *nodeids), outcomes)


@pytest.mark.parametrize(
    ("cause", "code"),
    [("GPU", 11), ("HOST", 11), ("CODE", 1), ("WORKLOAD", 1), ("UNKNOWN", 1), (None, 1)],
)
def test_what_holm_rejects_last_fails_with_the_exit_code_of_its_cause(cause, code):
    outcomes = outcomes_that_held([compared("a", 0.0001, cause=cause), compared("b", 0.02)], ["a", "b"])
    outcomes.fail_what_holm_rejects()
    assert [each.outcome for each in outcomes] == [Outcome.FAILED, Outcome.PASSED]
    assert outcomes.get("a").detail.startswith("REGRESSED: confirmed once all comparisons")
    assert session_exit_code(outcomes) is ExitCode(code)


@pytest.mark.parametrize(
    ("before", "code"),
    [({}, 10), ({"outcome": Outcome.FAILED, "machine_only": True}, 10), ({"outcome": Outcome.FAILED}, 1)],
)
def test_loss_of_quality_that_holm_confirms_last_fails_what_passed_or_failed_for_the_machine(before, code):
    lost = {**LOST, "p_value": 0.009, "level": 0.001}
    measured = benchmark(quality_change=lost) | {"fullname": "a"}
    outcomes = outcomes_that_held([measured], ["a"])
    outcomes.note(replace(outcomes.get("a"), **before))
    outcomes.fail_what_holm_rejects()
    assert outcomes.get("a").outcome is Outcome.FAILED
    assert ("confirmed once all quality comparisons" in outcomes.get("a").detail) == (code == 10)
    assert session_exit_code(outcomes) is ExitCode(code)


# What is kept of it ---------------------------------------------------------------------------------------------------


def test_run_file_keeps_the_first_pass_s_facts_in_plain_types():
    first = entries_of(run_of(benchmark(verdict="REGRESSED", change={"ratio": 0.9}, seconds=(3.0,) * 8)))[0]
    found = ConfirmedRun(run="the first", comparisons=1, entries={"a": first}).as_extra_info("a")
    assert found == {
        "first_pass": {
            "run": "the first",
            "verdict": "REGRESSED",
            "verdict_detail": f"no baseline for '{NAME}'",
            "change": CHANGE | {"ratio": 0.9},
            "attribution": None,
            "document_ids": [f"document {number}" for number in range(1, 9)],
            "batch_document_ids": None,
            "generated_tokens": [100] * 8,
            "time_to_first_token_seconds": [0.25] * 8,
            "generated_tokens_per_second": 100 / 3,
            "controls": {},
            "seconds": [3.0] * 8,
        }
    }
    assert json.loads(json.dumps(found)) == found


def test_what_was_measured_once_has_no_first_pass():
    assert confirming(1, "a").as_extra_info("b") == {"first_pass": None}


def earlier_run(**verdicts):
    """A run with an experiment of each name and verdict; all were compared but those without a baseline."""
    documents, experiments = [], []
    for nodeid, verdict in verdicts.items():
        made = benchmark(verdict=verdict, change=None if verdict == "NO BASELINE" else {"p_value": 0.5})
        experiments.append({"name": nodeid, "fullname": nodeid, "extra_info": made["extra_info"]})
        documents += [
            {"nodeid": nodeid, "document_id": f"document {number}", "start_seconds": 1.0, "end_seconds": 3.5}
            for number in range(1, 9)
        ]
    return EarlierRun(
        name="the first",
        journal=JournalContents(
            session={"machine_info": MACHINE},
            documents=tuple(documents),
            experiments=tuple(experiments),
            outcomes=(),
            dropped_lines=0,
        ),
    )


@pytest.mark.parametrize(("every", "again"), [(False, ["slow"]), (True, ["slow", "same", "fast"])])
def test_what_regressed_is_measured_again_and_with_every_all_that_was_compared(every, again):
    earlier = earlier_run(slow="REGRESSED", same="UNCHANGED", new="NO BASELINE", fast="IMPROVED")
    found = read_confirmed_run(earlier, every=every)
    assert (found.run, found.comparisons, list(found.entries)) == ("the first", 3, again)
    assert found.entries["slow"] == Entry(name="slow", extra_info=found.entries["slow"].extra_info, seconds=(2.5,) * 8)
