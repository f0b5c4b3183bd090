import os
from pathlib import Path

import pytest

from summarybench.core.outcomes import InputError
from summarybench.runs.journal import read_journal
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


def test_latest_points_to_a_folder_whose_journal_has_begun(tmp_path):
    first = Results(tmp_path, "a-cpu")
    first.begin(SESSION)
    second = Results(tmp_path, "a-cpu")
    assert (tmp_path / "latest").resolve() == first.folder
    second.begin(SESSION)
    assert (tmp_path / "latest").resolve() == second.folder
    assert read_journal(tmp_path / "latest" / "journal.jsonl").session == SESSION


def test_what_is_carried_is_in_the_run_file_at_once(tmp_path):
    results = Results(tmp_path, "a-cpu")
    results.begin(SESSION, [("outcome", {"nodeid": "a", "outcome": "passed"})])
    assert '"nodeid": "a"' in (results.folder / "run.json").read_text()


def test_link_that_a_killed_process_of_the_same_id_left_is_no_obstacle(tmp_path):
    (tmp_path / f".latest.{os.getpid()}").symlink_to("nowhere")
    results = Results(tmp_path, "a-cpu")
    results.begin(SESSION)
    assert (tmp_path / "latest").resolve() == results.folder


def test_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="name a writable one with --results-dir"):
        Results(tmp_path / "file", "a-cpu")
