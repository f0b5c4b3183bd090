"""What older run files did not state is derived in one place, and what they did state is never changed."""

from __future__ import annotations

import copy
import json

import pytest

from summarybench.kinds.registry import KINDS
from summarybench.machine.probes import EVERY_PROBE, OF_THE_GPU
from summarybench.runs.built_in_kinds import KINDS_BY_TEST
from summarybench.runs.kind_facts import KIND, KindFacts, Unit
from summarybench.runs.migration import kind_of_older_entry, migrated, migrated_extra_info
from summarybench.runs.run_file import entries_of, read_run
from summarybench.runs.validation import check_run
from tests.forked import ROOT
from tests.run_files import benchmark, run_of

STORED = sorted((ROOT / "baselines").glob("*/0*.json"))


def without(*keys, **info):
    """The facts of one experiment from a run that lacks these keys, as they are read."""
    old = benchmark(**info)
    for key in keys:
        del old["extra_info"][key]
    return read_of({"machine_info": {"device": "a GPU"}, "benchmarks": [old], "outcomes": []})["benchmarks"][0][
        "extra_info"
    ]


def read_of(old):
    """The run as it is read: migrated and checked."""
    run = migrated(old)
    check_run(run)
    return run


def states(old, new):
    """Whether the new record has all that the old one has."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and states(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(map(states, old, new))
    return old == new


# Stored runs -----------------------------------------------------------------------------------------------------


def test_there_are_the_fifteen_stored_runs():
    assert len(STORED) >= 15


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_run_is_read_with_all_that_it_states(path):
    old = json.loads(path.read_text(encoding="utf-8"))
    assert states(old, read_run(path))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_migrated_run_needs_no_second_migration(path):
    run = read_run(path)
    assert migrated(run) == run


def test_migration_does_not_change_the_run_that_it_is_given():
    old = {
        "benchmarks": [benchmark()],
        "commit_info": None,
        "outcomes": [{"nodeid": "a"}],
        "machine_info": {"device": "x"},
    }
    before = copy.deepcopy(old)
    migrated(old)["benchmarks"][0]["extra_info"]["document_ids"] = []
    assert old == before


def test_two_experiments_share_no_derived_record():
    old = [benchmark(), benchmark("llama2-7b-chat-fp16")]
    for each in old:
        del each["extra_info"]["controls"]
    first, second = migrated({"benchmarks": old})["benchmarks"]
    first["extra_info"]["controls"]["a"] = {}
    assert second["extra_info"]["controls"] == {}


# The run ---------------------------------------------------------------------------------------------------------


def test_run_without_a_commit_a_start_or_a_device_states_that_they_are_unknown():
    run = read_of({"machine_info": {"device": "a GPU"}, "benchmarks": [], "outcomes": []})
    assert run["commit_info"] == {"id": "unknown"}
    assert (run["datetime"], run["device"], run["dropped_lines"]) == ("", None, 0)


def test_environment_that_was_not_recorded_is_unknown():
    machine = read_of({"machine_info": {"device": "a GPU", "torch": "2.9"}, "benchmarks": [], "outcomes": []})[
        "machine_info"
    ]
    assert (machine["torch"], machine["driver"], machine["host"], machine["cpu_count"]) == ("2.9", None, None, None)


def test_outcomes_from_before_resume_are_final_and_blame_no_machine():
    old = {"nodeid": "a", "experiment": "x", "outcome": "passed"}
    (outcome,) = read_of({"machine_info": {"device": "a"}, "benchmarks": [], "outcomes": [old]})["outcomes"]
    causes = {"quality_only": False, "machine_only": False, "wrong_input": False}
    assert outcome == {**old, "detail": "", **causes, "is_final": True}


# The kind --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KINDS[facts.name] for facts in KINDS_BY_TEST.values()], ids=lambda kind: kind.name)
def test_older_entry_has_the_facts_that_its_kind_declares_today(kind):
    test = f"test_{kind.name}"
    recorded = {Unit.DOCUMENT: {}, Unit.BATCH: {"batch_document_ids": [["a"]]}, Unit.ROUND: {"continuous": {}}}
    assert KINDS_BY_TEST[test] == kind.facts
    assert kind_of_older_entry(f"{test}[an-experiment]", recorded[kind.facts.unit]) == kind.facts


@pytest.mark.parametrize(
    ("name", "stated", "is_beside_eager"),
    [
        ("test_fastest[x]", {"name": "fastest", "unit": "batch"}, True),
        ("test_fastest[x]", {"name": "fastest", "unit": "batch", "is_beside_eager": False}, False),
        ("test_fastest[x]", {"name": "toy"}, False),
        ("test_toy[x]", {"name": "toy"}, False),
    ],
)
def test_fact_that_was_added_later_is_what_the_kind_declares_unless_it_is_stated(name, stated, is_beside_eager):
    info = benchmark()["extra_info"] | {"kind": stated}
    assert migrated_extra_info(name, info)["kind"]["is_beside_eager"] is is_beside_eager


@pytest.mark.parametrize(
    ("info", "unit"),
    [
        ({}, Unit.DOCUMENT),
        ({"batch_document_ids": None}, Unit.DOCUMENT),
        ({"batch_document_ids": [["a"]]}, Unit.BATCH),
        ({"continuous": {"rounds": []}}, Unit.ROUND),
    ],
)
def test_test_that_is_not_one_of_the_suite_s_has_a_kind_of_its_own(info, unit):
    facts = kind_of_older_entry("test_my_kind[x]", info)
    assert facts == KindFacts(name="my_kind", title="my kind", unit=unit)


def test_kind_that_is_stated_stays_and_is_completed():
    info = without(kind={"name": "toy", "title": "a toy"})
    assert info[KIND] == KindFacts(name="toy", title="a toy").as_record()


# One experiment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_document_ids", None),
        ("compile_seconds", None),
        ("tuned_kernels", None),
        ("controls", {}),
        ("attribution", None),
        ("anchor", None),
        ("first_pass", None),
        ("quality_change", None),
        ("degenerate", None),
        ("rouge1_floor", None),
        ("predicted_memory_bytes", None),
        ("model_bandwidth_utilization", None),
        ("weights_read_bytes", None),
        ("cache_bytes_per_token", None),
        ("copy_bandwidth_bytes_per_second", None),
        ("joules_per_token", None),
        ("host_rate_per_second", [None] * 8),
        ("degenerate_document_ids", None),
        ("workload_settings", {"loader_settings": {}}),
    ],
)
def test_key_that_the_run_lacks_is_unknown(key, value):
    assert without(key)[key] == value


@pytest.mark.parametrize(
    ("loader_settings", "probes"),
    [({"compiled": "inductor, CUDA graph"}, OF_THE_GPU), ({}, EVERY_PROBE), (None, EVERY_PROBE)],
    ids=["compiled", "eager", "not-recorded"],
)
def test_probes_that_the_speed_depends_on_follow_from_the_loader_s_settings(loader_settings, probes):
    settings = {} if loader_settings is None else {"loader_settings": loader_settings}
    assert without("speed_probes", workload_settings=settings)["speed_probes"] == list(probes)


def test_run_without_telemetry_knows_nothing_of_the_device():
    telemetry = without("telemetry")["telemetry"]
    assert telemetry["throttled_share"] == {}
    assert telemetry["sm_clock_mhz"] == [None, None]
    assert {value for key, value in telemetry.items() if key not in ("throttled_share", "sm_clock_mhz")} == {None}


def test_where_no_summary_is_degenerate_no_document_has_one():
    info = without("degenerate_document_ids", degenerate={"empty": 0, "repeating": 0})
    assert info["degenerate_document_ids"] == {"empty": [], "repeating": []}


def test_means_of_rouge_follow_from_the_scores():
    info = without("rouge1", "rouge2", "rougeLsum", rouge1_scores=[0.0, 0.5] * 4)
    assert (info["rouge1"], info["rouge2"], info["rougeLsum"]) == (0.25, 0.0625, 0.125)


def test_run_that_was_not_scored_lists_no_scores():
    names = ("rouge1", "rouge2", "rougeLsum")
    info = without(*(f"{name}_scores" for name in names), **dict.fromkeys(names))
    assert [info[f"{name}_scores"] for name in names] == [[], [], []]


def test_first_pass_that_had_no_probes_has_none():
    old = benchmark(first_pass={"verdict": "REGRESSED", "controls": None, "attribution": None})
    del old["extra_info"]["first_pass"]["batch_document_ids"]
    first = run_of(old)["benchmarks"][0]["extra_info"]["first_pass"]
    assert (first["verdict"], first["controls"], first["batch_document_ids"]) == ("REGRESSED", {}, None)


def test_overhead_from_before_the_typical_document_has_none():
    overhead = {"ratio": 0.99, "low": 0.98, "high": 1.0, "confidence": 0.95}
    assert without(overhead=overhead)["overhead"] == {**overhead, "typical": None}


def test_rounds_over_the_whole_sample_are_those_of_continuous_batching():
    rounds = [{"seconds": 4.0, "generated_tokens": 800, "steps": 9, "changed_summaries": 0}] * 2
    continuous = {"rounds": rounds, "requests_in_flight": 8, "page_tokens": 16, "pages": 9, "step_tokens": 64}
    old = benchmark(seconds=(4.0, 4.0), document_ids=["a", "b"], continuous=continuous)
    run = run_of(old)
    assert run["benchmarks"][0]["extra_info"]["sample_rounds"] == [{"seconds": 4.0, "generated_tokens": 800}] * 2
    (entry,) = entries_of(run)
    assert [each.tokens for each in entry.timings.values()] == [800, 800]
    assert entry.rounds_are == "rounds"
