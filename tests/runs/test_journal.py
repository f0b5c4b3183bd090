import os
import resource
from contextlib import contextmanager

import pytest

from summarybench.core.files import write_atomically, write_exclusively
from summarybench.core.outcomes import InputError, outcome_not_run, outcome_of_record
from summarybench.runs.journal import Journal, read_journal

SESSION = {"started": "2026-01-01T00:00:00+00:00"}


@contextmanager
def files_at_most(size_bytes):
    """The operating system lets no file grow beyond this: a write in progress is cut off, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def journal(tmp_path):
    started = Journal(tmp_path / "journal.jsonl")
    started.append("session", SESSION)
    return started


def test_what_is_appended_is_read_back_by_kind_and_in_order(journal):
    journal.append("document", {"summary": "first"})
    journal.append("experiment", {"name": "x"})
    journal.append("document", {"summary": "second"})
    journal.append("outcome", {"outcome": "passed"})
    contents = read_journal(journal.path)
    assert contents.session == SESSION
    assert [record["summary"] for record in contents.documents] == ["first", "second"]
    assert contents.experiments == ({"name": "x"},)
    assert contents.outcomes == ({"outcome": "passed"},)
    assert contents.dropped_lines == 0


def test_selected_test_without_an_outcome_was_not_run(tmp_path):
    started = Journal(tmp_path / "journal.jsonl")
    started.begin({**SESSION, "selected": {"a": "experiment a", "b": "experiment b", "c": "experiment c"}})
    started.append("outcome", {"nodeid": "b", "outcome": "passed"})
    ended, *others = read_journal(started.path).outcomes
    assert ended == {"nodeid": "b", "outcome": "passed"}
    assert [outcome_of_record(each) for each in others] == [
        outcome_not_run("a", "experiment a"),
        outcome_not_run("c", "experiment c"),
    ]
    assert not any(each["is_final"] for each in others)


@pytest.mark.parametrize("text", ["two\nlines\r\n", "a\u2028b\u2029c\x85d\x0be", 'a "quote" \\', "Καλημέρα 🎉", ""])
def test_any_text_survives_the_journal(journal, text):
    journal.append("document", {"summary": text})
    journal.append("document", {"summary": "next"})
    assert [record["summary"] for record in read_journal(journal.path).documents] == [text, "next"]


@pytest.mark.parametrize("lost_bytes", [2, 4, 20])
def test_a_last_line_that_a_crash_cut_off_is_dropped_and_counted(journal, lost_bytes):
    journal.append("document", {"summary": "whole"})
    journal.append("document", {"summary": "cut off within é"})
    journal.path.write_bytes(journal.path.read_bytes()[:-lost_bytes])
    contents = read_journal(journal.path)
    assert contents.documents == ({"summary": "whole"},)
    assert contents.dropped_lines == 1


@pytest.mark.parametrize("bad", ['{"kind": "docu', "", "[1, 2]", "5"])
def test_a_bad_line_in_the_middle_of_a_journal_without_checksums_is_refused_by_number(tmp_path, bad):
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{{"kind": "session"}}\n{bad}\n{{"kind": "document"}}\n')
    with pytest.raises(InputError, match=r"journal\.jsonl, line 2: "):
        read_journal(path)


def test_journal_of_an_older_version_without_checksums_is_read(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"kind": "session", "a": 1}\n{"kind": "document", "summary": "x"}\n')
    contents = read_journal(path)
    assert (contents.session, contents.documents, contents.damaged_lines) == ({"a": 1}, ({"summary": "x"},), ())


def finished_test(journal, nodeid, ids):
    for each in ids:
        journal.append("document", {"nodeid": nodeid, "document_id": each, "summary": f"of {each}"})
    journal.append("experiment", {"name": nodeid, "fullname": nodeid, "extra_info": {"document_ids": list(ids)}})
    journal.append("outcome", {"nodeid": nodeid, "outcome": "passed"})


def what_is_left(journal):
    """The finished tests, and the numbers of the damaged lines."""
    contents = read_journal(journal.path)
    ended = [each["nodeid"] for each in contents.outcomes if each["outcome"] == "passed"]
    assert set(ended) <= {each["fullname"] for each in contents.experiments}
    return ended, contents.damaged_lines


def test_every_flipped_bit_of_a_record_is_found_and_its_test_is_not_finished_any_more(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.begin({"selected": {"a": "a", "b": "b"}})
    finished_test(journal, "a", "xy")
    finished_test(journal, "b", "xy")
    whole = journal.path.read_bytes()
    assert what_is_left(journal) == (["a", "b"], ())
    first = whole.index(b'{"kind": "document"')
    lines_of_a = range(2, 6)
    for position in range(first, whole.index(b'{"kind": "document", "nodeid": "b"')):
        if whole[position : position + 1] == b"\n":
            continue  # two lines become one, which is two damaged records in one line
        flipped = bytes([whole[position] ^ 1])
        if flipped == b"\n":
            continue
        journal.path.write_bytes(whole[:position] + flipped + whole[position + 1 :])
        ended, damaged = what_is_left(journal)
        assert ended == ["b"], position
        assert len(damaged) == 1, position
        assert damaged[0] in lines_of_a


def test_second_session_record_is_refused(journal):
    journal.append("session", SESSION)
    with pytest.raises(InputError, match=r"journal\.jsonl has 2 session records"):
        read_journal(journal.path)


def test_damaged_session_record_is_refused(journal):
    journal.append("document", {"summary": "x"})
    journal.path.write_text(journal.path.read_text().replace("2026", "2027"))
    with pytest.raises(InputError, match=r"has no session record: .* or its first line is damaged"):
        read_journal(journal.path)


@pytest.mark.parametrize("content", ["", '{"kind": "document"}\n', "{}\n", "a text\n"])
def test_a_journal_without_a_session_is_refused(tmp_path, content):
    path = tmp_path / "other.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=r"other\.jsonl has no session record"):
        read_journal(path)


def test_a_missing_journal_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the journal .*absent\.jsonl"):
        read_journal(tmp_path / "absent.jsonl")


def test_what_was_written_before_the_disk_filled_up_stays_readable(journal):
    journal.append("document", {"summary": "before"})
    with (
        files_at_most(journal.path.stat().st_size + 10),
        pytest.raises(InputError, match=r"cannot write .*journal\.jsonl"),
    ):
        journal.append("document", {"summary": "does not fit"})
    journal.append("document", {"summary": "after"})
    contents = read_journal(journal.path)
    assert [record["summary"] for record in contents.documents] == ["before", "after"]
    assert contents.dropped_lines == 0


@pytest.mark.parametrize("write", [write_atomically, write_exclusively])
def test_a_whole_file_is_written_and_no_temporary_left(tmp_path, write):
    path = tmp_path / "run.json"
    write(path, "é\n")
    assert path.read_text(encoding="utf-8") == "é\n"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_atomically_replaces_what_was_there(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_the_old_content_stays_when_writing_fails(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with files_at_most(10), pytest.raises(OSError, match="File too large"):
        write_atomically(path, "new and much too long")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_when_writing_exclusively_fails(tmp_path):
    with files_at_most(10), pytest.raises(OSError, match="File too large"):
        write_exclusively(tmp_path / "run.json", "much too long for that")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_atomically, write_exclusively])
def test_what_a_killed_process_of_the_same_id_left_linked_to_its_file_is_not_written_into(tmp_path, write):
    stored = tmp_path / "stored.json"
    stored.write_text("whole")
    (tmp_path / f".run.json.{os.getpid()}").hardlink_to(stored)
    write(tmp_path / "run.json", "new")
    assert stored.read_text() == "whole"


def test_writing_exclusively_never_replaces_a_file(tmp_path):
    path = tmp_path / "0001_nightly.json"
    path.write_text("old")
    with pytest.raises(FileExistsError):
        write_exclusively(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
