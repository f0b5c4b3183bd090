"""Stored runs: their numbers, which one is the baseline, what the comparison says; and the run file itself."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from pytest_benchmark.stats import Stats

from fixtures.baseline import (
    Baselines,
    Comparison,
    StoredRun,
    assert_not_regressed,
    compare,
    find_baseline,
    pick_run,
    read_baselines,
    save_baseline,
)
from fixtures.journal import JournalContents
from fixtures.outcomes import DeviceInvalidError, InputError, RegressionError, Verdict
from fixtures.runfile import build_run, entries_of, read_run, run_text
from fixtures.spread import ASSUMED_GPU_SPREAD, DeviceSpread
from fixtures.statistics import Spread, Timing
from tests.runs import MACHINE, benchmark, run_of

NAME = "llama2-7b-chat-4-bit"
OTHER = {"workload": "another workload", "workload_settings": {"max_new_tokens": 50}}


def entry(**changes):
    return entries_of(run_of(benchmark(**changes)))[0]


def stored(file, *benchmarks, **machine):
    return StoredRun(path=Path("baselines/an-a100", file), run=run_of(*(benchmarks or [benchmark()]), **machine))


def baselines(*files):
    return Baselines(folder=Path("there"), runs=tuple(map(stored, files)), spread=DeviceSpread(runs=ASSUMED_GPU_SPREAD))


# Storing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "next_file"),
    [
        ([], "0001_main.json"),
        (["0001_main.json"], "0002_main.json"),
        (["0001_first.json", "0007_second.json"], "0008_main.json"),
        (["9999_first.json"], "10000_main.json"),
        (["spread.json", "0003.json", "12_x.json", "notes.txt"], "0001_main.json"),
    ],
)
def test_run_is_stored_under_the_number_after_the_highest(tmp_path, there, next_file):
    for name in there:
        (tmp_path / name).touch()
    path = save_baseline(tmp_path, "main", run_of(benchmark()))
    assert path == tmp_path / next_file
    assert read_run(path) == run_of(benchmark())
    assert len(list(tmp_path.iterdir())) == len(there) + 1


def test_temporaries_of_a_killed_process_are_neither_read_nor_kept(tmp_path):
    stored = save_baseline(tmp_path, "main", run_of(benchmark()))
    (tmp_path / ".0001_main.json.123").hardlink_to(stored)
    (tmp_path / ".0002_half.json.124").write_text("{")
    assert [each.path for each in read_baselines(tmp_path, is_gpu=True).runs] == [stored]
    second = save_baseline(tmp_path, "main", run_of())
    assert sorted(tmp_path.iterdir()) == [stored, second]
    assert read_run(stored) == run_of(benchmark())


def test_folder_is_made_for_the_first_run(tmp_path):
    assert save_baseline(tmp_path / "baselines" / "a100", "main", run_of()).name == "0001_main.json"


def test_two_processes_that_save_at_once_take_different_numbers(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=lambda name=name: [save_baseline(tmp_path, name, run_of()) for _ in range(10)])
        for name in ("main", "nightly")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    numbers = sorted(path.name.partition("_")[0] for path in tmp_path.iterdir())
    assert numbers == [f"{number:04}" for number in range(1, 21)]


def test_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot store a baseline in .*/file: File exists"):
        save_baseline(tmp_path / "file", "main", run_of())


# Reading --------------------------------------------------------------------------------------------------------------


def test_runs_are_read_oldest_first(tmp_path):
    for number in (2, 10_000, 9_999, 1):
        (tmp_path / f"{number:04}_main.json").write_text(run_text(run_of()))
    found = read_baselines(tmp_path, is_gpu=True)
    assert [int(each.number) for each in found.runs] == [1, 2, 9_999, 10_000]


def test_absent_folder_holds_nothing_and_has_the_assumed_spread(tmp_path):
    found = read_baselines(tmp_path / "absent", is_gpu=True)
    assert (found.runs, found.spread.runs) == ((), ASSUMED_GPU_SPREAD)


@pytest.mark.parametrize("name", ["0001.json", "001_main.json", "main.json", "0001_.json", "x0001_main.json"])
def test_json_that_is_no_stored_run_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text(run_text(run_of()))
    with pytest.raises(InputError, match=rf"{name} is not a stored run \(NNNN_NAME\.json\)"):
        read_baselines(tmp_path, is_gpu=True)


@pytest.mark.parametrize(
    ("file", "label", "number", "is_anchor"),
    [
        ("0001_main.json", "0001_main.json", "0001", False),
        ("0002_anchor.json", "0002_anchor.json", "0002", True),
        ("0003_anchor_2.json", "0003_anchor_2.json", "0003", False),
        ("run.json", "an-a100", "", False),
        ("anchor.json", "anchor.json", "", False),
    ],
)
def test_stored_run_is_known_by_its_file(file, label, number, is_anchor):
    found = stored(file)
    assert (found.label, found.number, found.is_anchor) == (label, number, is_anchor)


@pytest.mark.parametrize(("commit_info", "commit"), [({"id": "abc"}, "abc"), ({}, "unknown"), (None, "unknown")])
def test_stored_run_without_a_commit_is_of_an_unknown_one(commit_info, commit):
    assert StoredRun(path=Path("x.json"), run={"commit_info": commit_info}).commit == commit


# Choosing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["2", "02", "0002", "0002_main", "0002_main.json"])
def test_run_is_picked_by_its_number_or_name(number):
    there = baselines("0001_main.json", "0002_main.json", "0012_main.json")
    assert pick_run(there, number) is there.runs[1]


@pytest.mark.parametrize("number", ["3", "0", "main", "0002_other", "", "-2", "2.0", "²"])
def test_run_that_is_not_there_is_refused_with_those_that_are(number):
    there = baselines("0001_main.json", "0002_main.json")
    said = f"--benchmark-compare={number}: no such run in there; stored there: 0001_main.json, 0002_main.json"
    with pytest.raises(InputError) as refused:
        pick_run(there, number)
    assert str(refused.value) == said


def test_empty_folder_has_nothing_to_pick():
    with pytest.raises(InputError, match="stored there: nothing"):
        pick_run(baselines(), "1")


@pytest.mark.parametrize(
    ("runs", "chosen"),
    [
        ([stored("0001_a.json"), stored("0002_b.json")], "0002_b.json"),
        ([stored("0001_a.json"), stored("0002_b.json", benchmark(**OTHER))], "0001_a.json"),
        ([stored("0001_a.json", benchmark(**OTHER)), stored("0002_b.json", benchmark(**OTHER))], "0002_b.json"),
        ([stored("0001_a.json"), stored("0002_b.json", benchmark("llama2-7b-chat-fp16"))], "0001_a.json"),
        ([stored("0001_a.json"), stored("0002_anchor.json")], "0001_a.json"),
        ([stored("0001_a.json", benchmark(**OTHER)), stored("0002_anchor.json")], "0001_a.json"),
    ],
    ids=["newest", "newest-of-this-workload", "newest-of-another", "another-experiment", "anchor", "anchor-alone-fits"],
)
def test_baseline_is_the_newest_run_of_the_same_workload(runs, chosen):
    assert find_baseline(entry(), runs).path.name == chosen


@pytest.mark.parametrize(
    "runs", [[], [stored("0001_anchor.json")], [stored("0001_a.json", benchmark("llama2-7b-chat-fp16"))]]
)
def test_without_a_run_of_the_experiment_there_is_no_baseline(runs):
    assert find_baseline(entry(), runs) is None


# Comparing ------------------------------------------------------------------------------------------------------------


def compared(now, before, spread=ASSUMED_GPU_SPREAD, tolerance=0.05):
    return compare(now, MACHINE, before, spread=spread, tolerance=tolerance, slug="an-a100")


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
            "0001_a.json measured another workload: max_new_tokens 100, 50 there; save a baseline of this one",
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
            "0001_a.json has 7 documents in common with this run, and 8 are needed; ask for more --documents",
        ),
    ],
    ids=["no-run", "not-in-that-run", "device", "workload", "workload-unknown", "documents"],
)
def test_what_cannot_be_compared_says_why_and_what_to_do(now, before, verdict, detail):
    found = compared(now, before)
    assert (found.verdict, found.detail, found.change) == (verdict, detail, None)


@pytest.mark.parametrize(
    ("seconds", "verdict", "line"),
    [
        (4.0, Verdict.REGRESSED, "0.500 of 0001_a.json [0.486, 0.514]"),
        (1.0, Verdict.IMPROVED, "2.000 of 0001_a.json [1.945, 2.056]"),
        (2.0, Verdict.UNCHANGED, "1.000 of 0001_a.json [0.973, 1.028]"),
    ],
)
def test_decided_comparison_tells_ratio_interval_documents_and_spread(seconds, verdict, line):
    found = compared(entry(seconds=(seconds,) * 8), stored("0001_a.json"))
    assert found.verdict is verdict
    assert (
        found.detail == f"{line}, 8 documents, spread between runs 1.0% assumed"
    )  # 8 equal documents, ±1.96 · √2 · 1%


@pytest.mark.parametrize(
    ("now", "before", "deviation", "remedy"),
    [
        ((2.2, 2.0) * 4, (2.0, 2.2) * 4, 0.01, "27 documents would decide, if the change stays"),
        ((2.0,) * 8, (2.0,) * 8, 0.06, "no number of documents decides at that spread; 12 runs on each side would"),
        (
            (1.0, 3.0) * 4,
            (3.0, 1.0) * 4,
            0.06,
            "no number of documents or of runs decides alone: both must grow",
        ),
    ],
    ids=["documents", "runs", "both"],
)
def test_inconclusive_comparison_says_what_would_decide(now, before, deviation, remedy):
    spread = Spread(standard_deviation=deviation)
    found = compared(entry(seconds=now), stored("0001_a.json", benchmark(seconds=before)), spread)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detail.endswith(f"% assumed; {remedy}")


def test_only_common_documents_are_compared_whatever_their_order():
    ids = [f"document {number}" for number in (9, 8, 7, 6, 5, 4, 3, 2, 1)]
    now = entry(seconds=(100.0, *(2.0,) * 8), document_ids=ids)
    found = compared(now, stored("0001_a.json"))
    assert (found.change.ratio, found.change.documents) == (1.0, 8)


def test_run_file_gets_the_comparison_in_plain_types():
    found = compared(entry(seconds=(4.0,) * 8), stored("0001_a.json", torch="2.12.0")).as_extra_info()
    assert found == {
        "verdict": "REGRESSED",
        "verdict_detail": "0.500 of 0001_a.json [0.486, 0.514], 8 documents, spread between runs 1.0% assumed",
        "baseline": {"file": "0001_a.json", "run": "0001_a.json", "commit": "a commit"},
        "change": {
            "ratio": pytest.approx(0.5),
            "low": pytest.approx(0.486, abs=0.0005),
            "high": pytest.approx(0.514, abs=0.0005),
            "confidence": 0.95,
        },
        "environment_differences": ["torch 2.13.0, 2.12.0 there"],
        "quality_change": None,
    }
    assert json.loads(json.dumps(found)) == found


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
        *((each, True) for each in (Verdict.IMPROVED, Verdict.UNCHANGED, Verdict.INCONCLUSIVE)),
        (Verdict.NO_BASELINE, False),
        (Verdict.INCOMPARABLE, False),
    ],
)
def test_every_other_verdict_passes(verdict, is_required):
    assert_not_regressed(Comparison(verdict=verdict, detail="", is_required=is_required))


# The run file ---------------------------------------------------------------------------------------------------------


def document(nodeid, document_id, seconds):
    return {"nodeid": nodeid, "document_id": document_id, "start_seconds": 10.0, "end_seconds": 10.0 + seconds}


def experiment(nodeid, *document_ids):
    return {"name": nodeid, "fullname": nodeid, "extra_info": {"document_ids": list(document_ids)}}


@pytest.fixture
def built():
    """A run of two experiments over the same documents, and of one that was cut short."""
    return build_run(
        JournalContents(
            session={"machine_info": MACHINE, "version": "5.3.1"},
            documents=(
                *(document("one", name, seconds) for name, seconds in zip("abcd", (0.5, 4.0, 1.0, 0.25), strict=True)),
                *(document("two", name, 2.0) for name in "ab"),
                document("cut short", "a", 9.0),
            ),
            experiments=(experiment("one", *"dcba"), experiment("two", *"ab")),
            outcomes=({"nodeid": "a", "outcome": "passed"},),
            dropped_lines=1,
        )
    )


def test_built_run_has_the_session_the_finished_experiments_and_the_outcomes(built):
    assert built.keys() == {"machine_info", "version", "benchmarks", "outcomes", "dropped_lines"}
    assert [each["name"] for each in built["benchmarks"]] == ["one", "two"]
    assert built["outcomes"] == [{"nodeid": "a", "outcome": "passed"}]
    assert built["dropped_lines"] == 1


def test_seconds_are_the_experiment_s_own_in_its_document_order(built):
    assert [each["stats"]["data"] for each in built["benchmarks"]] == [[0.25, 1.0, 4.0, 0.5], [2.0, 2.0]]


def test_stats_are_pytest_benchmark_s_own(built):
    own = Stats()
    for seconds in (0.25, 1.0, 4.0, 0.5):
        own.update(seconds)
    found = built["benchmarks"][0]["stats"]
    assert found == {**own.as_dict(), "data": own.data, "iterations": 1}
    assert (found["min"], found["max"], found["mean"], found["median"], found["rounds"]) == (0.25, 4.0, 1.4375, 0.75, 4)


def test_run_is_read_as_it_was_written(tmp_path):
    run = run_of(benchmark(), benchmark("llama2-7b-chat-fp16"))
    path = tmp_path / "run.json"
    path.write_text(run_text(run))
    assert read_run(path) == run


def test_entry_pairs_each_document_with_its_tokens_and_seconds():
    found = entry(seconds=(2.0, 3.0), generated_tokens=[100, 7])
    assert (found.name, found.experiment) == (f"test_summarize[{NAME}]", NAME)
    assert list(found.timings.items()) == [
        ("document 1", Timing(tokens=100, seconds=2.0)),
        ("document 2", Timing(tokens=7, seconds=3.0)),
    ]


def test_figure_that_json_lacks_is_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        run_text(run_of(benchmark(rouge1=float("nan"))))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, "schema 2, and this version reads 1"),
        ({"generated_tokens": [100] * 7}, "argument 2 is shorter"),
        ({"generated_tokens": [0] * 8}, "0 tokens, 2.0 s"),
        ({"document_ids": None}, "TypeError"),
    ],
)
def test_run_with_an_impossible_experiment_is_refused_by_name(tmp_path, changes, said):
    path = tmp_path / "0001_main.json"
    path.write_text(run_text(run_of(benchmark(**changes))))
    with pytest.raises(InputError, match=r"0001_main\.json is not a run of this suite") as refused:
        read_run(path)
    assert said in str(refused.value)


@pytest.mark.parametrize("key", ["machine_info", "benchmarks", "outcomes"])
def test_run_that_lacks_a_part_is_refused_by_it(tmp_path, key):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({name: part for name, part in run_of(benchmark()).items() if name != key}))
    with pytest.raises(InputError, match=rf"is not a run of this suite \(KeyError: '{key}'\)"):
        read_run(path)
