"""The durable record of a run: one JSON object per line, on disk as soon as it is known. schema.py declares the keys."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from summarybench.core.files import write_atomically
from summarybench.core.outcomes import InputError, Outcome, outcome_as_record, outcome_not_run
from summarybench.runs.journal_lines import Line, line_of, lines_in
from summarybench.runs.journal_lines import Record as Record
from summarybench.runs.schema import (
    DocumentRecord,
    ExperimentRecord,
    OutcomeRecord,
    ScoresRecord,
    SessionRecord,
    SessionSecondsRecord,
)

SELECTED = "selected"
"""The key of the session's record with the selected tests: nodeid → experiment."""


class Journal:
    """Appends records to `path`. Each record is with the operating system before `append` returns.

    Kinds: `session` (first), `document` (one per timed document), `experiment` (one per measured experiment), `outcome` (one
    per selected test), `scores` (one per measured experiment and --scorer), `superseded_document` (of an attempt whose
    experiment is measured again) and `session_seconds` (once, at the end). Raises InputError if a record cannot be written;
    the records before it stay readable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._locked: int | None = None

    def begin(self, session: Mapping[str, Any], records: Iterable[tuple[str, Mapping[str, Any]]] = ()) -> None:
        """Write the session's record and records of an earlier run (kind, fields): all or none. Raises OSError."""
        write_atomically(self.path, "".join(line_of(*each) for each in (("session", session), *records)))

    def hold(self) -> None:
        """Let `is_being_written` be true of the file until `close`, or the end of the process."""
        self._locked = os.open(self.path, os.O_RDONLY)
        with contextlib.suppress(OSError):  # of a file system without locks
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        line = line_of(kind, fields)
        finished_bytes = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line inside the file would make the rest unreadable
                os.truncate(self.path, finished_bytes)
            raise InputError(
                f"cannot write {self.path}: {error.strerror}; free some space or name another --results-dir"
            ) from error


def is_being_written(path: Path) -> bool:
    """Whether a session is still running that writes this journal."""
    try:
        with path.open("rb") as journal:
            fcntl.flock(journal, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no journal, or its file system knows no locks
        return False
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContents:
    """The records of a journal as they were written; one of an older version can lack keys.

    `outcomes` has one record for every selected test; a test without an end counts as not run. `dropped_lines` counts last
    lines that a crash cut off, including those of the runs that it was resumed from. `damaged_lines` are the numbers of
    the lines that do not fit their checksums: they are left out, and so are the experiments and outcomes that need them.
    """

    session: SessionRecord
    documents: tuple[DocumentRecord, ...]
    experiments: tuple[ExperimentRecord, ...]
    outcomes: tuple[OutcomeRecord, ...]
    superseded_documents: tuple[DocumentRecord, ...] = ()
    dropped_lines: int
    damaged_lines: tuple[int, ...] = ()
    session_seconds: SessionSecondsRecord | None = None
    scores: tuple[ScoresRecord, ...] = ()

    def scores_of(self, nodeid: str) -> dict[str, Any]:
        """The key `model_scores` of an experiment, with what the models of --scorer gave it; empty without scorers."""
        scores = {each["scorer"]: each["model_scores"] for each in self.scores if each["nodeid"] == nodeid}
        return {"model_scores": scores} if scores else {}


def read_journal(path: Path) -> JournalContents:
    """Everything that was finished when the run ended, however it ended.

    Raises InputError if the file is missing, has no session record or two, or a line of a journal without checksums is no
    record, the last line apart.
    """
    lines, dropped = _whole_lines(path)
    by_kind: dict[str, list[Any]] = {"session": [], "document": [], "experiment": [], "outcome": []}
    by_kind |= {"superseded_document": [], "session_seconds": []}
    for line in lines:
        if line.record is not None and not line.fault:
            by_kind.setdefault(line.record.pop("kind"), []).append(line.record)
    if not by_kind["session"]:
        raise InputError(
            f"{path} has no session record: it is not a journal of this suite, or its first line is damaged"
        )
    if len(by_kind["session"]) > 1:
        raise InputError(
            f"{path} has {len(by_kind['session'])} session records; the journal was changed by something else"
        )
    damaged = tuple(line.number for line in lines if line.fault)
    if damaged:
        try:
            by_kind |= _without_what_is_damaged(by_kind)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged in lines {', '.join(map(str, damaged))}, and lacks {error}") from error
    (session,) = by_kind["session"]
    return JournalContents(
        session=session,
        documents=tuple(by_kind["document"]),
        experiments=tuple(by_kind["experiment"]),
        outcomes=(*by_kind["outcome"], *_not_run(session, by_kind["outcome"])),
        superseded_documents=tuple(by_kind["superseded_document"]),
        scores=tuple(by_kind.get("scores", ())),
        session_seconds=by_kind["session_seconds"][-1] if by_kind["session_seconds"] else None,
        dropped_lines=dropped + session.get("dropped_lines", 0),
        damaged_lines=damaged,
    )


def _without_what_is_damaged(by_kind: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The experiments whose documents are all there, and the outcomes that do not lack their experiment.

    A test that passed or failed without a measured experiment may have lost it: it is not finished, so it is measured anew.
    """
    documents = {(each["nodeid"], each["document_id"]) for each in by_kind["document"]}
    experiments = [
        each
        for each in by_kind["experiment"]
        if all((each["fullname"], document_id) in documents for document_id in each["extra_info"]["document_ids"])
    ]
    measured = {each["fullname"] for each in experiments}
    ended = (Outcome.PASSED, Outcome.FAILED)
    outcomes = [each for each in by_kind["outcome"] if each["outcome"] not in ended or each["nodeid"] in measured]
    return {"experiment": experiments, "outcome": outcomes}


def _not_run(session: SessionRecord, outcomes: Iterable[OutcomeRecord]) -> Iterator[OutcomeRecord]:
    """The outcomes of the selected tests that have none. Older journals do not record which tests were selected."""
    ended = {record.get("nodeid") for record in outcomes}
    for nodeid, experiment in session.get("selected", {}).items():
        if nodeid not in ended:
            yield cast(OutcomeRecord, outcome_as_record(outcome_not_run(nodeid, experiment)))


def _whole_lines(path: Path) -> tuple[list[Line], int]:
    """The lines, and how many last lines a crash cut off: 0 or 1."""
    try:
        lines = list(lines_in(path))
    except OSError as error:
        raise InputError(f"cannot read the journal {path}: {error.strerror}") from error
    is_cut_off = not lines or lines[-1].record is None
    lines = lines[:-1] if is_cut_off else lines
    if not any(line.is_checked for line in lines):
        for line in lines:
            if line.record is None:
                raise InputError(f"{path}, line {line.number}: {line.fault}; the journal was changed by something else")
    return lines, int(is_cut_off)
