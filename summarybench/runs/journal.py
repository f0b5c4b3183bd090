"""The durable record of a run: one JSON object a line, on disk as soon as it is known."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.core.files import write_atomically
from summarybench.core.outcomes import InputError, outcome_as_record, outcome_not_run

Record = dict[str, Any]

SELECTED = "selected"
"""The key of the session's record that has the selected tests: nodeid → experiment."""


class Journal:
    """Appends records to `path`; each is with the operating system before `append` returns.

    Kinds: `session` (first), `document` (one a timed document), `experiment` (one a measured experiment), `outcome`
    (one a selected test), `superseded_document` (of an attempt whose experiment is measured again), `session_seconds`
    (once, at the end: `session` of the run file). Raises InputError where the disk refuses: what was written before stays readable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, session: Mapping[str, Any], records: Iterable[tuple[str, Mapping[str, Any]]] = ()) -> None:
        """Write the session's record and those carried into it (kind, fields), all of them or none. Raises OSError."""
        write_atomically(self.path, "".join(_line(*each) for each in (("session", session), *records)))

    def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        line = _line(kind, fields)
        finished_bytes = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line in the middle of the file would make the rest unreadable
                os.truncate(self.path, finished_bytes)
            raise InputError(
                f"cannot write {self.path}: {error.strerror}; free some space or name another --results-dir"
            ) from error


def _line(kind: str, fields: Mapping[str, Any]) -> str:
    return json.dumps({"kind": kind, **fields}, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContents:
    """What a journal holds.

    `outcomes` has one of every test that the session selected: a run is cut short until its last test has come to an end.
    `dropped_lines` counts last lines that a crash cut off: its own, and those of the runs that it was resumed from.
    """

    session: Record
    documents: tuple[Record, ...]
    experiments: tuple[Record, ...]
    outcomes: tuple[Record, ...]
    superseded_documents: tuple[Record, ...] = ()
    dropped_lines: int
    session_seconds: Record | None = None


def read_journal(path: Path) -> JournalContents:
    """Everything that was finished when the run ended, however it ended.

    Raises InputError where the file is missing or a line other than the last is not a record.
    """
    records, dropped = _records(path)
    by_kind: dict[str, list[Record]] = {"session": [], "document": [], "experiment": [], "outcome": []}
    by_kind |= {"superseded_document": [], "session_seconds": []}
    for record in records:
        by_kind.setdefault(str(record.pop("kind", "")), []).append(record)
    if not by_kind["session"]:
        raise InputError(f"{path} has no session record: it is not a journal of this suite")
    session = by_kind["session"][-1]
    return JournalContents(
        session=session,
        documents=tuple(by_kind["document"]),
        experiments=tuple(by_kind["experiment"]),
        outcomes=(*by_kind["outcome"], *_not_run(session, by_kind["outcome"])),
        superseded_documents=tuple(by_kind["superseded_document"]),
        session_seconds=by_kind["session_seconds"][-1] if by_kind["session_seconds"] else None,
        dropped_lines=dropped + int(session.get("dropped_lines", 0)),
    )


def _not_run(session: Record, outcomes: Iterable[Record]) -> Iterator[Record]:
    """The outcomes of the selected tests that have none; journals of older versions do not say what was selected."""
    ended = {record.get("nodeid") for record in outcomes}
    for nodeid, experiment in session.get(SELECTED, {}).items():
        if nodeid not in ended:
            yield outcome_as_record(outcome_not_run(nodeid, experiment))


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
