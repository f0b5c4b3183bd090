import os
from pathlib import Path

import pytest

from summarybench.core.outcomes import InputError
from summarybench.runs.journal import is_being_written
from summarybench.runs.run_folder import FOLDER_FILE, Results, environment_with, read_folder_file, take_folder_file

SESSION = {"machine_info": {}}


def test_two_sessions_never_share_a_folder(tmp_path):
    folders = {Results(tmp_path, "a-cpu").folder for _ in range(5)}
    assert len(folders) == 5


def test_session_names_its_folder_in_the_file_that_it_was_asked_for_and_only_once(tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    for name, value in environment_with(asked).items():
        monkeypatch.setenv(name, value)
    assert (take_folder_file(), take_folder_file()) == (asked, None)
    assert read_folder_file(asked) is None
    monkeypatch.chdir(tmp_path)
    results = Results(Path("results"), "a-device")
    results.name_folder_in(asked)
    assert read_folder_file(asked) == tmp_path / "results" / results.folder.name


def test_session_that_nobody_asks_inherits_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_FILE, str(tmp_path / "of another"))
    assert FOLDER_FILE not in environment_with(None)


DOCUMENT = ("document", {"nodeid": "a", "document_id": "x", "start_seconds": 0.0, "end_seconds": 1.0})


def test_latest_is_the_last_run_that_ended_with_anything_measured(tmp_path):
    first, second, third = (Results(tmp_path, "a-cpu") for _ in range(3))
    for results in (first, second, third):
        results.begin(SESSION)
    first.journal.append(*DOCUMENT)
    second.journal.append(*DOCUMENT)
    assert not (tmp_path / "latest").exists()
    first.become_latest()
    assert (tmp_path / "latest").resolve() == first.folder
    third.become_latest()  # it has measured nothing
    assert (tmp_path / "latest").resolve() == first.folder
    second.become_latest()
    assert (tmp_path / "latest").resolve() == second.folder


def test_run_is_being_written_until_it_is_closed(tmp_path):
    results = Results(tmp_path, "a-cpu")
    assert not is_being_written(results.journal.path)
    results.begin(SESSION)
    assert is_being_written(results.journal.path)
    results.close()
    assert not is_being_written(results.journal.path)


def test_what_is_carried_is_in_the_run_file_at_once(tmp_path):
    results = Results(tmp_path, "a-cpu")
    results.begin(SESSION, [("outcome", {"nodeid": "a", "outcome": "passed"})])
    assert '"nodeid": "a"' in (results.folder / "run.json").read_text()


def test_link_that_a_killed_process_of_the_same_id_left_is_no_obstacle(tmp_path):
    (tmp_path / f".latest.{os.getpid()}").symlink_to("nowhere")
    results = Results(tmp_path, "a-cpu")
    results.begin(SESSION, [DOCUMENT])
    results.become_latest()
    assert (tmp_path / "latest").resolve() == results.folder


def test_nothing_is_left_of_a_link_that_cannot_be_put_in_its_place(tmp_path):
    (tmp_path / "latest").mkdir()
    results = Results(tmp_path, "a-cpu")
    results.begin(SESSION, [DOCUMENT])
    assert results.become_latest() == f"{tmp_path / 'latest'} does not point to this run: Is a directory"
    assert sorted(path.name for path in tmp_path.iterdir()) == [results.folder.name, "latest"]


def test_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="name a writable one with --results-dir"):
        Results(tmp_path / "file", "a-cpu")
