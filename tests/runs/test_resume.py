import json
import shutil

import pytest

from summarybench.core.outcomes import InputError, Outcome, TestOutcome
from summarybench.runs.journal import Journal, read_journal
from summarybench.runs.resume import check_same_conditions, read_earlier_run, resumed_records
from summarybench.runs.run_file import build_run
from tests.run_files import benchmark

SETTINGS = {"documents": 2, "seed": 0, "model_folders": {"a-model": "abc"}}
MACHINE = {"device": "a GPU", "host": "0123", "torch": "2.13.0"}
SESSION = {"machine_info": MACHINE}


def document(nodeid, document_id, seconds=1.0):
    times = {"start_seconds": 5.0, "first_token_seconds": 5.25, "end_seconds": 5.0 + seconds}
    counts = {"document_tokens": 500, "prompt_tokens": 550, "generated_tokens": 100}
    facts = {"experiment": nodeid.upper(), "truncated": False, "hit_cap": True, "summary": "A summary."}
    return {"nodeid": nodeid, "document_id": document_id, **times, **counts, **facts}


def experiment(nodeid, *document_ids):
    unscored = {"rouge1": None, "degenerate": None, "degenerate_document_ids": None}
    made = benchmark(seconds=(1.0,) * len(document_ids), document_ids=list(document_ids), **unscored)
    return {"name": nodeid, "fullname": nodeid, "extra_info": made["extra_info"]}


def outcome(nodeid, what="passed", **more):
    return {
        "nodeid": nodeid,
        "experiment": nodeid.upper(),
        "outcome": what,
        "detail": "",
        "quality_only": False,
        **more,
    }


@pytest.fixture
def earlier(tmp_path):
    """Of a run that was killed: `a` is finished, `b` was measured and not judged, `c` was interrupted."""
    folder = tmp_path / "results" / "the run"
    folder.mkdir(parents=True)
    (folder.parent / "latest").symlink_to(folder.name)
    journal = Journal(folder / "journal.jsonl")
    journal.begin(
        {"machine_info": MACHINE, "settings": SETTINGS, "commit_info": {"id": "abc"}, "datetime": "2026-01-01T00:00:00"}
    )
    for nodeid, ids in (("a", "xy"), ("b", "xy"), ("c", "x")):
        for document_id in ids:
            journal.append("document", document(nodeid, document_id))
        if nodeid != "c":
            journal.append("experiment", experiment(nodeid, *ids))
    journal.append("outcome", outcome("a"))
    return read_earlier_run(folder)


@pytest.fixture
def resumed(earlier, tmp_path):
    """The journal of a run that goes on with `earlier`, before anything is measured."""
    journal = Journal(tmp_path / "new.jsonl")
    journal.begin({"machine_info": MACHINE}, resumed_records(earlier, resumed=["a"], again=["b", "c"]))
    return journal


@pytest.mark.parametrize("name", ["the run", "latest", "the run/run.json", "latest/journal.jsonl"])
def test_a_run_is_named_by_its_folder_or_a_file_in_it(earlier, tmp_path, name):
    (tmp_path / "results" / "the run" / "run.json").touch()
    assert read_earlier_run(tmp_path / "results" / name) == earlier


@pytest.mark.parametrize("name", ["0001_main.json", "absent"])
def test_what_is_not_a_run_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=f"{name} is not a run; give a results folder"):
        read_earlier_run(tmp_path / name)


def test_a_folder_without_a_journal_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the journal .*journal\.jsonl"):
        read_earlier_run(tmp_path)


@pytest.mark.parametrize(
    ("what", "more", "is_finished"),
    [
        ("passed", {}, True),
        ("failed", {"quality_only": True}, True),
        ("out_of_memory", {}, True),
        ("failed", {"is_final": False}, False),
        ("invalid", {}, False),
        ("unavailable", {}, False),
        ("skipped", {}, False),
    ],
)
def test_finished_is_what_came_to_its_own_end(tmp_path, what, more, is_finished):
    Journal(tmp_path / "journal.jsonl").begin(SESSION, [("outcome", outcome("a", what, **more))])
    expected = {
        "a": TestOutcome(nodeid="a", experiment="A", outcome=Outcome(what), quality_only="quality_only" in more)
    }
    assert read_earlier_run(tmp_path).finished == (expected if is_finished else {})


def test_an_outcome_with_a_key_of_a_newer_version_is_read(tmp_path):
    Journal(tmp_path / "journal.jsonl").begin(SESSION, [("outcome", outcome("a", unheard_of=1))])
    assert read_earlier_run(tmp_path).finished.keys() == {"a"}


def test_resumed_records_come_first_and_say_where_they_were_measured(resumed):
    contents = read_journal(resumed.path)
    assert contents.documents == tuple({"carried_from": "the run", **document("a", name)} for name in "xy")
    assert contents.experiments == ({"carried_from": "the run", **experiment("a", *"xy")},)
    assert contents.outcomes == ({"carried_from": "the run", **outcome("a")},)


def test_documents_of_what_is_measured_again_never_mix_with_the_new_ones(resumed):
    for name in "xy":
        resumed.append("document", document("c", name, seconds=4.0))
    resumed.append("experiment", experiment("c", *"yx"))
    contents = read_journal(resumed.path)
    superseded = [(each["nodeid"], each["document_id"]) for each in contents.superseded_documents]
    assert superseded == [("b", "x"), ("b", "y"), ("c", "x")]
    seconds = {each["name"]: each["stats"]["data"] for each in build_run(contents)["benchmarks"]}
    assert seconds == {"a": [1.0, 1.0], "c": [4.0, 4.0]}


def test_the_run_file_says_of_a_benchmark_where_it_was_carried_from(resumed):
    (carried,) = build_run(read_journal(resumed.path))["benchmarks"]
    assert carried["extra_info"]["carried_from"] == "the run"
    assert "carried_from" not in carried


def test_a_run_that_was_resumed_can_be_resumed_and_keeps_the_first_origin(resumed, tmp_path):
    resumed.append("document", document("c", "y"))
    folder = tmp_path / "second"
    folder.mkdir()
    resumed.path.rename(folder / "journal.jsonl")
    again = Journal(tmp_path / "third.jsonl")
    again.begin({}, resumed_records(read_earlier_run(folder), resumed=["a"], again=["b", "c"]))
    contents = read_journal(again.path)
    assert {each["carried_from"] for each in (*contents.documents, *contents.outcomes)} == {"the run"}
    origins = [(each["nodeid"], each["carried_from"]) for each in contents.superseded_documents]
    assert origins == [("b", "the run"), ("b", "the run"), ("c", "the run"), ("c", "second")]


@pytest.mark.parametrize(
    ("kind", "record", "said"),
    [
        ("document", {"nodeid": "a", "document_id": "z"}, "document[3].experiment is missing"),
        (
            "document",
            document("a", "z") | {"end_seconds": "late"},
            'document[3].end_seconds is "late", and must be a number',
        ),
        ("experiment", {"name": "a"}, "benchmarks[1].extra_info is missing"),
        ("experiment", experiment("a", "w"), "it lacks ('a', 'w')"),
        ("outcome", outcome("a", "exploded"), 'outcomes[0].outcome is "exploded", and must be one of passed, failed'),
    ],
)
def test_a_damaged_record_is_named_and_nothing_is_continued(tmp_path, kind, record, said):
    path = tmp_path / "journal.jsonl"
    whole = [*(("document", document("b", name)) for name in "xyz"), ("experiment", experiment("b", *"xyz"))]
    Journal(path).begin(SESSION, [*whole, (kind, record)])
    with pytest.raises(InputError) as refused:
        read_earlier_run(tmp_path)
    assert str(refused.value).startswith(f"{path} cannot be continued: {said}")


def test_cut_off_lines_are_counted_over_all_runs(earlier, tmp_path):
    journal = Journal(tmp_path / "new.jsonl")
    journal.begin({"dropped_lines": 2})
    journal.append("document", document("a", "x"))
    journal.path.write_bytes(journal.path.read_bytes()[:-5])
    assert read_journal(journal.path).dropped_lines == 3


def test_a_journal_begins_whole_or_not_at_all(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Journal(tmp_path / "journal.jsonl").begin({}, [("document", {"seconds": float("nan")})])
    assert list(tmp_path.iterdir()) == []


def test_equal_conditions_are_accepted(earlier):
    check_same_conditions(earlier, machine_info=json.loads(json.dumps(MACHINE)), settings=SETTINGS)


@pytest.mark.parametrize(
    ("machine", "settings", "named"),
    [
        ({}, {"documents": 3}, "other settings: --documents 3 here, 2 there;"),
        ({}, {"model_folders": {"a-model": "def"}}, "other settings: the files of a-model changed;"),
        ({"torch": "2.11.0"}, {}, "other environment: torch 2.11.0 here, 2.13.0 there;"),
        ({"host": "4567"}, {}, "other environment: host host-4567 here, host-0123 there;"),
    ],
)
def test_other_conditions_are_refused_by_name(earlier, machine, settings, named):
    with pytest.raises(InputError, match=f"the run was measured with {named}"):
        check_same_conditions(earlier, machine_info=MACHINE | machine, settings=SETTINGS | settings)


def test_the_folder_of_a_model_that_was_not_measured_may_have_changed(earlier):
    changed = SETTINGS | {"model_folders": {"a-model": "def"}}
    check_same_conditions(earlier, machine_info=MACHINE, settings=changed, unmeasured={"a-model", "another"})
    more = SETTINGS | {"model_folders": {"a-model": "abc", "another": "def"}}
    with pytest.raises(InputError, match="other settings"):
        check_same_conditions(earlier, machine_info=MACHINE, settings=more, unmeasured={"another"})


def test_tests_with_documents_or_an_outcome_have_begun(earlier):
    assert earlier.begun == {"a", "b", "c"}


def test_a_run_that_does_not_say_its_settings_is_refused(tmp_path):
    Journal(tmp_path / "journal.jsonl").begin({"machine_info": MACHINE})
    with pytest.raises(InputError, match="does not say with which settings"):
        check_same_conditions(read_earlier_run(tmp_path), machine_info=MACHINE, settings=SETTINGS)


def test_run_that_is_still_running_is_refused(earlier, tmp_path):
    folder = tmp_path / "results" / "the run"
    running = Journal(folder / "journal.jsonl")
    running.hold()
    with pytest.raises(InputError, match="the run is still running: wait for its end, or interrupt it"):
        read_earlier_run(folder)
    running.close()
    assert read_earlier_run(folder).name == "the run"


@pytest.mark.parametrize(
    ("ended", "is_running", "found"),
    [(False, False, "the second run"), (True, False, "the run"), (False, True, "the run")],
    ids=["killed", "ended", "running"],
)
def test_latest_stands_for_a_run_that_was_killed_after_it(earlier, tmp_path, ended, is_running, found):
    second = tmp_path / "results" / "the second run"
    shutil.copytree(tmp_path / "results" / "the run", second)
    if ended:
        (second / "exit_code").write_text("2\n")
    journal = Journal(second / "journal.jsonl")
    if is_running:
        journal.hold()
    assert read_earlier_run(tmp_path / "results" / "latest").name == found
    journal.close()


def test_damaged_line_is_named_and_its_test_is_not_finished(earlier, tmp_path):
    assert (list(earlier.finished), earlier.warning) == (["a"], "")
    path = tmp_path / "results" / "the run" / "journal.jsonl"
    path.write_text(path.read_text().replace('"document_id": "x"', '"document_id": "X"', 1))
    damaged = read_earlier_run(path)
    assert list(damaged.finished) == []
    assert damaged.warning.startswith("warning: the journal of the run is damaged in 1 line (2); the tests that need ")


def test_journal_of_another_schema_is_refused_before_it_can_be_saved(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    other = experiment("a", "x")
    journal.begin({"machine_info": MACHINE, "settings": SETTINGS})
    journal.append("document", document("a", "x"))
    journal.append("experiment", {**other, "extra_info": {**other["extra_info"], "schema": 2}})
    with pytest.raises(InputError, match=r"extra_info\.schema is 2, and this version reads 1; measure anew"):
        read_earlier_run(tmp_path)
