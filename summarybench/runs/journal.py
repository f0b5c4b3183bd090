"""The durable record of a run: one JSON object per line, on disk as soon as it is known. schema.py declares the keys."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from summarybench.core.files import write_atomically
from summarybench.core.inert_text import inert_record
from summarybench.core.outcomes import InputError, outcome_as_record, outcome_not_run
from summarybench.runs.kind_facts import LINE_BREAKS_IN
from summarybench.runs.schema import (
    DocumentRecord,
    ExperimentRecord,
    OutcomeRecord,
    SessionRecord,
    SessionSecondsRecord,
)

Record = dict[str, Any]

DOCUMENTS = frozenset({"document", "superseded_document"})
"""The kinds of records with a summary, which is kept as it was generated: its digest and its scores belong to it."""
SELECTED = "selected"
"""The key of the session's record with the selected tests: nodeid → experiment."""


class Journal:
    """Appends records to `path`. Each record is with the operating system before `append` returns.

    Kinds: `session` (first), `document` (one per timed document), `experiment` (one per measured experiment), `outcome`
    (one per selected test), `superseded_document` (of an attempt whose experiment is measured again) and `session_seconds`
    (once, at the end). Raises InputError if a record cannot be written; the records before it stay readable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, session: Mapping[str, Any], records: Iterable[tuple[str, Mapping[str, Any]]] = ()) -> None:
        """Write the session's record and records of an earlier run (kind, fields): all or none. Raises OSError."""
        write_atomically(self.path, "".join(_line(*each) for each in (("session", session), *records)))

    def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        line = _line(kind, fields)
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


def _line(kind: str, fields: Mapping[str, Any]) -> str:
    safe = fields if kind in DOCUMENTS else inert_record(dict(fields), line_breaks_in=LINE_BREAKS_IN)
    return json.dumps({"kind": kind, **safe}, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContents:
    """The records of a journal as they were written; one of an older version can lack keys.

    `outcomes` has one record for every selected test; a test without an end counts as not run. `dropped_lines` counts last
    lines that a crash cut off, including those of the runs that it was resumed from.
    """

    session: SessionRecord
    documents: tuple[DocumentRecord, ...]
    experiments: tuple[ExperimentRecord, ...]
    outcomes: tuple[OutcomeRecord, ...]
    superseded_documents: tuple[DocumentRecord, ...] = ()
    dropped_lines: int
    session_seconds: SessionSecondsRecord | None = None


def read_journal(path: Path) -> JournalContents:
    """Everything that was finished when the run ended, however it ended.

    Raises InputError if the file is missing or a line other than the last is not a record.
    """
    records, dropped = _records(path)
    by_kind: dict[str, list[Any]] = {"session": [], "document": [], "experiment": [], "outcome": []}
    by_kind |= {"superseded_document": [], "session_seconds": []}
    for record in records:
        by_kind.setdefault(str(record.pop("kind", "")), []).append(record)
    if not by_kind["session"]:
        raise InputError(f"{path} has no session record: it is not a journal of this suite")
    session: SessionRecord = by_kind["session"][-1]
    return JournalContents(
        session=session,
        documents=tuple(by_kind["document"]),
        experiments=tuple(by_kind["experiment"]),
        outcomes=(*by_kind["outcome"], *_not_run(session, by_kind["outcome"])),
        superseded_documents=tuple(by_kind["superseded_document"]),
        session_seconds=by_kind["session_seconds"][-1] if by_kind["session_seconds"] else None,
        dropped_lines=dropped + session.get("dropped_lines", 0),
    )


def _not_run(session: SessionRecord, outcomes: Iterable[OutcomeRecord]) -> Iterator[OutcomeRecord]:
    """The outcomes of the selected tests that have none. Older journals do not record which tests were selected."""
    ended = {record.get("nodeid") for record in outcomes}
    for nodeid, experiment in session.get("selected", {}).items():
        if nodeid not in ended:
            yield cast(OutcomeRecord, outcome_as_record(outcome_not_run(nodeid, experiment)))


def _records(path: Path) -> tuple[list[Record], int]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
    except OSError as error:
        raise InputError(f"cannot read the journal {path}: {error.strerror}") from error
    records: list[Record] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = dict(json.loads(line))
        except (TypeError, ValueError) as error:
            if number == len(lines):
                return records, 1
            raise InputError(f"{path}, line {number}: {error}; the journal was changed by something else") from error
        records.append(record)
    return records, 0
