"""The results folder of a run: its journal, and the files that are made from the journal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from summarybench.core.files import write_atomically
from summarybench.core.outcomes import InputError
from summarybench.documents.document import Document
from summarybench.runs.documents_table import write_documents_table
from summarybench.runs.journal import Journal, read_journal
from summarybench.runs.journal_lines import Record
from summarybench.runs.run_file import build_run, empty_run, run_text

FOLDER_FILE = "SUMMARIZATION_FOLDER_FILE"
"""The environment variable with a file. A session writes the path of its results folder into it, for the process that started
it."""


class Results:
    """A new folder results/<UTC time>-<slug>. Until `close`, other processes see that its run has not ended.

    Raises InputError if the folder, or later a file, cannot be written. The records in the journal by then are kept.
    `is_saved` says whether the session has stored this run as a baseline.
    """

    def __init__(self, parent: Path, slug: str) -> None:
        self.folder = _new_results_folder(parent, slug)
        self.journal = Journal(self.folder / "journal.jsonl")
        self.run = empty_run()
        self.is_saved = False

    def begin(self, session: Mapping[str, Any], carried: Sequence[tuple[str, Record]] = ()) -> None:
        """Begin the journal with the session's record and those taken over from an earlier run.

        Whenever the process is killed, the folder can be resumed, and its run.json states that the run was cut short.
        """
        try:
            self.journal.begin(session, carried)
            self.journal.hold()
            self.write_run()
        except OSError as error:
            raise _no_folder_in(self.folder.parent, error) from error

    def write_run(self) -> None:
        """Write run.json from the journal. The file is whole at any moment."""
        self.run = build_run(read_journal(self.journal.path))
        self.write(self.folder / "run.json", run_text(self.run))

    def become_latest(self) -> str:
        """Let results/latest point to this run if it measured anything. Return one line if that is impossible."""
        if not read_journal(self.journal.path).documents:
            return ""
        latest = self.folder.parent / "latest"
        try:
            _point_to(self.folder, latest)
        except OSError as error:
            return f"{latest} does not point to this run: {error.strerror}"
        return ""

    def close(self) -> None:
        """Show other processes that the run has ended."""
        self.journal.close()

    def name_folder_in(self, folder_file: Path) -> None:
        """Write the absolute path of the folder into a file that another process reads."""
        self.write(folder_file, f"{self.folder.absolute()}\n")

    def write_exit_code(self, exit_code: int) -> None:
        """Write the session's exit code, for callers through make, which turns every failure into 2."""
        self.write(self.folder / "exit_code", f"{exit_code}\n")

    def write_documents(self, documents: Iterable[Document]) -> None:
        """Write documents.parquet. `documents` are the drawn ones."""
        path = self.folder / "documents.parquet"
        try:
            write_documents_table(path, read_journal(self.journal.path), documents)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error}; the summaries are in {self.journal.path}") from error

    def write(self, path: Path, text: str) -> None:
        """Write a file whole or not at all, and make its folder if necessary."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror}; {self.journal.path} has everything that was measured"
            ) from error


def environment_with(folder_file: Path | None) -> dict[str, str]:
    """The environment of a session that this process starts, which writes its results folder into `folder_file`."""
    others = {name: value for name, value in os.environ.items() if name != FOLDER_FILE}
    return others if folder_file is None else {**others, FOLDER_FILE: str(folder_file)}


def take_folder_file() -> Path | None:
    """The file for the path of the results folder, if one was asked for. It is removed from the environment."""
    asked = os.environ.pop(FOLDER_FILE, None)
    return Path(asked) if asked else None


def read_folder_file(path: Path) -> Path | None:
    """The results folder that a session wrote into the file; None if it has none."""
    try:
        return Path(path.read_text(encoding="utf-8").removesuffix("\n"))
    except FileNotFoundError:
        return None


class _SilentJournal(Journal):
    def append(self, kind: str, fields: Mapping[str, Any]) -> None: ...


class SilentResults(Results):
    """The results of a process that writes none, because another process reports."""

    def __init__(self) -> None:
        self.folder = Path(os.devnull)
        self.journal = _SilentJournal(self.folder)
        self.run = empty_run()
        self.is_saved = False

    def write_run(self) -> None: ...


def read_exit_code(folder: Path) -> int | None:
    """The exit code in a results folder; None if the session was killed or is still running."""
    try:
        return int((folder / "exit_code").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def shown(path: Path) -> Path:
    """A path as the user would type it: relative inside the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _new_results_folder(results: Path, slug: str) -> Path:
    """Make results/<UTC time>-<slug>, or one with a number at its end. Raises InputError."""
    base = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{slug}"
    try:
        results.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, 100):
            folder = results / (base if attempt == 1 else f"{base}-{attempt}")
            try:
                folder.mkdir()
                break
            except FileExistsError:  # another session began in the same second
                continue
    except OSError as error:
        raise _no_folder_in(results, error) from error
    return folder


def _point_to(folder: Path, link: Path) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # a killed process with the same id may have left it
    try:
        temporary.symlink_to(folder.name)
        temporary.replace(link)
    finally:
        temporary.unlink(missing_ok=True)


def _no_folder_in(results: Path, error: OSError) -> InputError:
    return InputError(f"cannot make a folder in {results}: {error.strerror}; name a writable one with --results-dir")
