"""Stored runs: their numbers, and which of them are the baseline of an experiment; and the run file itself."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_benchmark.stats import Stats

from summarybench.analysis.device_noise import measures_gpu
from summarybench.analysis.noise import ProbeNoise, read_probe_noise
from summarybench.core.outcomes import InputError
from summarybench.machine.environment import VERSIONS
from summarybench.runs.baselines import (
    Baselines,
    StoredRun,
    SuperfluousError,
    _alone_in,
    find_anchor,
    find_baseline,
    pick_run,
    read_baselines,
    save_baseline,
)
from summarybench.runs.journal import JournalContents
from summarybench.runs.run_file import build_run, entries_of, read_run, run_text
from summarybench.stats.timings import Timing
from tests.run_files import A100, MACHINE, benchmark, run_of

NAME = "llama2-7b-chat-4-bit"
OTHER = {"workload": "another workload", "workload_settings": {"max_new_tokens": 50}}


def entry(**changes):
    return entries_of(run_of(benchmark(**changes)))[0]


def stored(file, *benchmarks, **machine):
    return StoredRun(path=Path("baselines/an-a100", file), run=run_of(*(benchmarks or [benchmark()]), **machine))


def files(runs):
    return [each.path.name for each in runs]


def baselines(*files):
    return Baselines(folder=Path("there"), runs=tuple(map(stored, files)))


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
        (tmp_path / name).write_text(run_text(run_of()))
    path = save_baseline(tmp_path, "main", run_of(benchmark()))
    assert path == tmp_path / next_file
    assert read_run(path) == run_of(benchmark())
    assert len(list(tmp_path.iterdir())) == len(there) + 1


def test_stored_run_is_readable_by_all_whatever_the_umask(tmp_path):
    kept = os.umask(0o077)
    try:
        path = save_baseline(tmp_path, "main", run_of(benchmark()))
    finally:
        os.umask(kept)
    assert stat.filemode(path.stat().st_mode) == "-rw-r--r--"


def test_temporaries_of_a_killed_process_are_neither_read_nor_kept(tmp_path):
    stored = save_baseline(tmp_path, "main", run_of(benchmark()))
    (tmp_path / ".0001_main.json.123").hardlink_to(stored)
    (tmp_path / ".0002_half.json.124").write_text("{")
    assert [each.path for each in read_baselines(tmp_path).runs] == [stored]
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


def test_one_measurement_becomes_one_stored_run_however_many_processes_save_it(tmp_path):
    context = multiprocessing.get_context("fork")

    def save():
        with contextlib.suppress(SuperfluousError):
            save_baseline(tmp_path, "main", run_of(benchmark()))

    writers = [context.Process(target=save) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [path.name for path in tmp_path.iterdir()] == ["0001_main.json"]


def test_run_whose_measurements_are_all_stored_is_refused_and_one_with_a_new_one_is_not(tmp_path):
    one, other, third = (benchmark(seconds=(seconds,) * 8) for seconds in (2.0, 2.5, 3.0))
    other["name"] = "test_summarize[another]"
    save_baseline(tmp_path, "main", run_of(one))
    save_baseline(tmp_path, "main", run_of(other))
    with pytest.raises(
        SuperfluousError, match=r"0001_main\.json and 0002_main\.json already have all of its measurements"
    ):
        save_baseline(tmp_path, "main", run_of(one, other))
    assert save_baseline(tmp_path, "anchor", run_of(one)).name == "0003_anchor.json"
    assert save_baseline(tmp_path, "main", run_of(third)).name == "0004_main.json"


def test_measurement_that_several_stored_runs_have_counts_once(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / f"{number:04}_main.json").write_text(run_text(run_of(benchmark())))
    (tmp_path / "0004_main.json").write_text(run_text(run_of(benchmark(seconds=(2.5,) * 8))))
    found = read_baselines(tmp_path)
    assert [each.seconds[0] for each in found.entries(f"test_summarize[{NAME}]")] == [2.0, 2.5]
    assert files(find_baseline(entry(), found.runs, 4, MACHINE)) == ["0004_main.json", "0001_main.json"]


def test_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot store a baseline in .*/file: File exists"):
        save_baseline(tmp_path / "file", "main", run_of())


def test_anchor_is_stored_once_and_a_second_one_is_refused_by_the_first_s_name(tmp_path):
    save_baseline(tmp_path, "main", run_of(benchmark()))
    first = save_baseline(tmp_path, "anchor", run_of(benchmark()))
    with pytest.raises(InputError) as refused:
        save_baseline(tmp_path, "anchor", run_of())
    assert str(refused.value).startswith(f"{first} is the anchor, and an anchor is never replaced; ")
    assert "\n" not in str(refused.value)
    assert (read_run(first), len(list(tmp_path.iterdir()))) == (run_of(benchmark()), 2)


def test_names_that_hold_the_anchor_s_are_others(tmp_path):
    for name in ("anchor_2", "my_anchor", "anchor"):
        assert save_baseline(tmp_path, name, run_of()).exists()


def test_of_processes_that_save_an_anchor_at_once_one_does(tmp_path):
    # The lock is held until all of them wait for it: a check before the lock would let them all pass.
    context = multiprocessing.get_context("fork")
    may_begin, codes = context.Event(), context.Queue()

    def save_an_anchor():
        may_begin.wait(60)
        try:
            save_baseline(tmp_path, "anchor", run_of())
            codes.put("stored")
        except InputError:
            codes.put("refused")

    writers = [context.Process(target=save_an_anchor) for _ in range(4)]
    for writer in writers:
        writer.start()
    with _alone_in(tmp_path):
        may_begin.set()
        deadline = time.monotonic() + 60
        while waiting_for_a_lock({writer.pid for writer in writers}) < len(writers) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sorted(codes.get(timeout=60) for _ in writers) == ["refused", "refused", "refused", "stored"]
    for writer in writers:
        writer.join()
    assert files_in(tmp_path) == ["0001_anchor.json"]


def waiting_for_a_lock(pids):
    """How many of these processes the kernel keeps waiting (proc_locks(5): '->' marks who waits)."""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sum(fields[1] == "->" and int(fields[5]) in pids for fields in lines)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


# Reading --------------------------------------------------------------------------------------------------------------


def test_runs_are_read_oldest_first(tmp_path):
    for number in (2, 10_000, 9_999, 1):
        (tmp_path / f"{number:04}_main.json").write_text(run_text(run_of()))
    found = read_baselines(tmp_path)
    assert [int(each.number) for each in found.runs] == [1, 2, 9_999, 10_000]


def test_absent_folder_holds_nothing_and_no_noise(tmp_path):
    found = read_baselines(tmp_path / "absent")
    assert found.runs == ()
    assert read_probe_noise(found.folder) == ProbeNoise()


@pytest.mark.parametrize("name", ["0001.json", "001_main.json", "main.json", "0001_.json", "x0001_main.json"])
def test_json_that_is_no_stored_run_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text(run_text(run_of()))
    with pytest.raises(InputError, match=rf"{name} is not a stored run \(NNNN_NAME\.json\)"):
        read_baselines(tmp_path)


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
def test_stored_run_without_a_commit_is_of_an_unknown_one(tmp_path, commit_info, commit):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(run_of() | {"commit_info": commit_info}))
    assert StoredRun(path=path, run=read_run(path)).commit == commit


# Choosing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["2", "02", "0002", "0002_main", "0002_main.json"])
def test_run_is_picked_by_its_number_or_name(number):
    there = baselines("0001_main.json", "0002_main.json", "0012_main.json")
    assert pick_run(there, number) is there.runs[1]


def test_a_name_alone_is_the_newest_run_of_that_name():
    there = baselines("0001_main.json", "0002_main.json", "0003_other.json")
    assert pick_run(there, "main") is there.runs[1]


@pytest.mark.parametrize("number", ["3", "0", "other", "0002_other", "", "-2", "2.0", "²"])
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
    assert files(find_baseline(entry(), runs, 1, MACHINE)) == [chosen]


@pytest.mark.parametrize(
    "runs", [[], [stored("0001_anchor.json")], [stored("0001_a.json", benchmark("llama2-7b-chat-fp16"))]]
)
def test_without_a_run_of_the_experiment_there_is_no_baseline(runs):
    assert find_baseline(entry(), runs, 3, MACHINE) == ()


def test_runs_before_the_newest_that_measured_alike_are_pooled_newest_first():
    runs = [stored(f"000{number}_main.json") for number in (1, 2, 3, 4)]
    assert files(find_baseline(entry(), runs, 3, MACHINE)) == ["0004_main.json", "0003_main.json", "0002_main.json"]
    assert len(find_baseline(entry(), runs, 9, MACHINE)) == 4


@pytest.mark.parametrize(
    "other",
    [
        stored("0002_anchor.json"),
        stored("0002_main.json", benchmark(**OTHER)),
        stored("0002_main.json", benchmark("llama2-7b-chat-fp16")),
        stored("0002_main.json", benchmark(seconds=(2.0,) * 7)),
        *(stored("0002_main.json", **{name: "another"}) for name in VERSIONS),
    ],
    ids=["anchor", "workload", "experiment", "lacks-a-document", *VERSIONS],
)
def test_run_that_measured_something_else_is_passed_over_and_those_before_it_are_not(other):
    runs = [stored("0001_main.json"), other, stored("0003_main.json")]
    assert files(find_baseline(entry(), runs, 3, MACHINE)) == ["0003_main.json", "0001_main.json"]


TWO = (2.0,) * 2


def with_options(name, *, seconds=(2.0,) * 8, **settings):
    return stored(name, benchmark(seconds=seconds, workload=str(settings), workload_settings=settings))


@pytest.mark.parametrize(
    ("runs", "chosen"),
    [
        ([stored("0001_a.json"), stored("0002_b.json", benchmark(seconds=TWO))], "0001_a.json"),
        ([stored("0001_a.json", host="another"), stored("0002_b.json", benchmark(seconds=TWO))], "0001_a.json"),
        (
            [
                with_options("0001_a.json", seed=1, max_new_tokens=8),
                with_options("0002_b.json", seed=1, max_new_tokens=9),
            ],
            "0002_b.json",
        ),
        (
            [
                with_options("0001_a.json", seed=0, max_new_tokens=9),
                with_options("0002_b.json", seed=1, max_new_tokens=9),
            ],
            "0001_a.json",
        ),
        (
            [with_options("0001_a.json", max_new_tokens=9), with_options("0002_b.json", max_new_tokens=8, seconds=TWO)],
            "0001_a.json",
        ),
        ([with_options("0001_a.json", max_new_tokens=9), stored("0002_b.json", benchmark(seconds=TWO))], "0001_a.json"),
        (
            [stored("0001_a.json", benchmark(seconds=TWO)), stored("0002_b.json", benchmark(seconds=TWO[:1]))],
            "0001_a.json",
        ),
    ],
    ids=[
        "few-documents-are-passed-over",
        "even-for-another-host",
        "newest-of-as-many-differences",
        "fewest-differences",
        "few-documents-of-another-workload",
        "few-documents-of-this-workload",
        "few-documents-alone",
    ],
)
def test_run_that_differs_least_is_chosen_and_one_of_few_documents_last(runs, chosen):
    now = entry(workload_settings={"seed": 0, "max_new_tokens": 100})
    assert files(find_baseline(now, runs, 1, MACHINE)) == [chosen]


def test_runs_of_this_host_come_first_even_if_another_s_are_newer():
    runs = [stored("0001_main.json"), stored("0002_main.json", host="another")]
    assert files(find_baseline(entry(), runs, 3, MACHINE)) == ["0001_main.json"]


def test_runs_of_another_host_are_the_baseline_where_this_one_has_none_of_the_workload():
    runs = [stored("0001_main.json", host="another"), stored("0002_main.json", benchmark(**OTHER))]
    assert files(find_baseline(entry(), runs, 3, MACHINE)) == ["0001_main.json"]


def test_a_run_that_does_not_know_its_host_is_of_no_host():
    runs = [stored("0001_main.json", host=None), stored("0002_main.json", host="another")]
    assert files(find_baseline(entry(), runs, 1, MACHINE | {"host": None})) == ["0002_main.json"]


def test_document_that_only_the_newest_run_has_keeps_no_run_from_the_pool():
    nine = benchmark(seconds=(2.0,) * 9)
    runs = [stored("0001_main.json"), stored("0002_main.json", nine)]
    assert files(find_baseline(entry(), runs, 3, MACHINE)) == ["0002_main.json", "0001_main.json"]
    assert files(find_baseline(entry(seconds=(2.0,) * 9), runs, 3, MACHINE)) == ["0002_main.json"]


@pytest.mark.parametrize(
    ("runs", "found"),
    [
        ([], None),
        ([stored("0001_main.json"), stored("0002_anchor.json"), stored("0003_main.json")], "0002_anchor.json"),
        ([stored("0001_main.json")], None),
        ([stored("0001_anchor_2.json")], None),
        ([stored("0001_anchor.json", benchmark(**OTHER))], None),
        ([stored("0001_anchor.json", benchmark("llama2-7b-chat-fp16"))], None),
    ],
    ids=["empty", "among-others", "none", "another-name", "another-workload", "another-experiment"],
)
def test_anchor_is_found_where_it_measured_this(runs, found):
    anchor = find_anchor(entry(), runs)
    assert (anchor and anchor.path.name) == found


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
    session = {"machine_info", "version", "commit_info", "datetime", "device"}
    assert built.keys() == session | {"benchmarks", "outcomes", "dropped_lines"}
    assert [each["name"] for each in built["benchmarks"]] == ["one", "two"]
    assert [(each["nodeid"], each["outcome"]) for each in built["outcomes"]] == [("a", "passed")]
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
        ({"schema": 2}, "benchmarks[0].extra_info.schema is 2, and this version reads 1"),
        ({"generated_tokens": [100] * 7}, "extra_info.generated_tokens has 7 items, and must have one per document: 8"),
        ({"generated_tokens": [0] * 8}, "extra_info.generated_tokens[0] is 0, and must be at least 1"),
        ({"document_ids": None}, "extra_info.document_ids is null, and must be a list"),
    ],
)
def test_run_with_an_impossible_experiment_is_refused_by_name(tmp_path, changes, said):
    path = tmp_path / "0001_main.json"
    path.write_text(json.dumps(run_of() | {"benchmarks": [benchmark(**changes)]}))
    with pytest.raises(InputError, match=r"0001_main\.json is not a run of this suite") as refused:
        read_run(path)
    assert said in str(refused.value)


@pytest.mark.parametrize("key", ["machine_info", "benchmarks", "outcomes"])
def test_run_that_lacks_a_part_is_refused_by_it(tmp_path, key):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({name: part for name, part in run_of(benchmark()).items() if name != key}))
    with pytest.raises(InputError, match=rf"is not a run of this suite: {key} is missing; "):
        read_run(path)


@pytest.mark.parametrize(
    ("is_remote", "kind", "driver", "is_gpu"),
    [
        (True, "cpu", "580.95.05", True),
        (True, "cuda", None, False),
        (False, "cpu", "580.95.05", False),
        (False, "cuda", None, True),
    ],
)
def test_stored_runs_show_whether_another_machines_device_is_a_gpu(tmp_path, is_remote, kind, driver, is_gpu):
    stored = StoredRun(path=tmp_path / "0001_main.json", run=run_of(benchmark(), driver=driver))
    device = replace(A100, kind=kind, is_remote=is_remote)
    assert measures_gpu(device, Baselines(folder=tmp_path, runs=(stored,))) is is_gpu
