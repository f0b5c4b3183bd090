"""The lines of a journal: one JSON object each, with a checksum as its last key."""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from summarybench.core.inert_text import inert_record
from summarybench.core.strict_json import InvalidValueError, parse_json
from summarybench.runs.kind_facts import LINE_BREAKS_IN

Record = dict[str, Any]

DOCUMENTS = frozenset({"document", "superseded_document"})
"""The kinds of records with a summary, which is kept as it was generated: its digest and its scores belong to it."""
CHECKED = re.compile(rb'(?P<record>\{.*), "crc32": "(?P<checksum>[0-9a-f]{8})"\}', re.DOTALL)


def line_of(kind: str, fields: Mapping[str, Any]) -> str:
    """The line of a record, with its checksum and a line break. Texts other than summaries are made inert."""
    safe = fields if kind in DOCUMENTS else inert_record(dict(fields), line_breaks_in=LINE_BREAKS_IN)
    record = json.dumps({"kind": kind, **safe}, ensure_ascii=False, allow_nan=False)
    return f'{record[:-1]}, "crc32": "{_checksum(record.encode())}"}}\n'


def _checksum(record: bytes) -> str:
    """CRC-32 of the record as it stands in the line, without this key: eight hexadecimal digits."""
    return f"{zlib.crc32(record):08x}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line that was read. `record` is None if it is no record; `fault` says what is wrong with it, if anything is."""

    number: int
    record: Record | None
    fault: str = ""
    is_checked: bool = False
    """Whether it has a checksum, right or wrong."""


def lines_in(path: Path) -> Iterator[Line]:
    """The lines of a journal. Raises OSError.

    Older versions wrote no checksums. Where one line has a checksum, a line without one is damaged.
    """
    has_checksums = any(CHECKED.fullmatch(line) for line in _raw_lines(path))
    for number, line in enumerate(_raw_lines(path), start=1):
        match = CHECKED.fullmatch(line)
        if match is None:
            yield _parsed(number, line, "has no checksum" if has_checksums else "")
        else:
            record = match["record"] + b"}"
            is_whole = _checksum(record) == match["checksum"].decode()
            found = _parsed(number, record, "" if is_whole else "does not fit its checksum")
            yield replace(found, is_checked=True)


def _raw_lines(path: Path) -> Iterator[bytes]:
    """One line after the other, without line breaks: a long journal in one piece would take as much memory as its records."""
    with path.open("rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def _parsed(number: int, text: bytes, fault: str) -> Line:
    try:
        record = parse_json(text)
    except InvalidValueError as error:
        return Line(number, None, str(error))
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return Line(number, None, "is not a record")
    # The parser makes new strings for the same keys in each line.
    return Line(number, {sys.intern(name): value for name, value in record.items()}, fault)
