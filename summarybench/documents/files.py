"""Reads rows from files of many formats: JSON Lines, a JSON array, CSV, TSV, parquet, and folders saved by `datasets`."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from summarybench.core.numbers import counted
from summarybench.core.outcomes import InputError, first_line
from summarybench.documents.rows import Located, TableRow

Reader = Callable[[str, bytes], Iterator[Located]]
"""Reads the rows in a file's content. The first argument names the file in messages."""

DELIMITERS = ",;\t|"
OTHER_FILES = "a file that does not end in .json, .csv, .tsv or .parquet"
UTF_16 = "is UTF-16; save it as UTF-8"
MAGICS = {
    b"\x1f\x8b": ((), "is compressed with gzip; let its name end in .gz, such as articles.jsonl.gz"),
    b"PK\x03\x04": ((), "is a zip archive or a spreadsheet; unpack it, or save the table as CSV in UTF-8"),
    b"PAR1": ((".parquet",), "is a parquet file; let its name end in .parquet"),
    b"\xff\xfe": ((), UTF_16),
    b"\xfe\xff": ((), UTF_16),
}
"""The first bytes of formats, the endings that state them, and what to do about a file with another ending."""


def rows_of_file(path: Path) -> tuple[Iterator[Located], str]:
    """The rows of a file, and a digest of its content. A `.gz` file counts as the file in it.

    Raises InputError, also while the rows are read, if the file cannot be read or is not what its name says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"--documents-file {path}: cannot be read ({error.strerror})") from error
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        content = _unzipped(path, content)
        suffixes.pop()
    ending = suffixes[-1] if suffixes else ""
    _check_is_text(path, content, ending)
    read = READERS.get(ending) or partial(_rows_of_json_lines, hint=f"; {OTHER_FILES} is read as JSON Lines")
    return read(str(path), content), hashlib.sha256(content).hexdigest()[:16]


def _check_is_text(path: Path, content: bytes, ending: str) -> None:
    """Raise InputError for a file whose first bytes are those of a format that its name does not state."""
    for magic, (endings, remedy) in MAGICS.items():
        if content.startswith(magic) and ending not in endings:
            raise InputError(f"{path}: {remedy}")


def rows_of_saved_dataset(folder: Path, split: str | None) -> tuple[Iterator[Located], str]:
    """The rows of a folder written by `save_to_disk` of the package datasets, and a digest of its data files.

    Raises InputError if the folder is not one, or if `split` is needed or does not exist.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # pyarrow and datasets raise whatever a damaged file leads to
        raise InputError(
            f"--documents-file {folder}: not a folder saved by datasets ({type(error).__name__}: {first_line(error)}); "
            "name a file, or save the dataset with save_to_disk"
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        loaded = loaded[_split_of(folder, list(loaded), split)]
    files = sorted(Path(each["filename"]) for each in loaded.cache_files)
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return located_rows(str(folder), loaded), digest.hexdigest()[:16]


def located_rows(name: str, rows: Any) -> Iterator[Located]:
    """Rows with their number, counted from 1."""
    return ((f"{name}, row {number}", row) for number, row in enumerate(rows, start=1))


def _split_of(folder: Path, splits: list[str], asked: str | None) -> str:
    """The split to read: the one asked for, or `test`, or the only one."""
    if asked in splits:
        return str(asked)
    if asked is None and ("test" in splits or len(splits) == 1):
        return "test" if "test" in splits else splits[0]
    problem = (
        f"--split {asked}: {folder} has no such split" if asked else f"--documents-file {folder} has several splits"
    )
    raise InputError(f"{problem}; choose one with --split: {', '.join(splits)}")


def _unzipped(path: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a whole gzip file ({first_line(error)})") from error


def _rows_of_json_lines(name: str, content: bytes, hint: str = "") -> Iterator[Located]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        where = f"{name}, line {number}"
        if line.strip():
            yield where, _parsed(where, line, "a JSON object", hint)


def _rows_of_json(name: str, content: bytes) -> Iterator[Located]:
    """The elements of an array, or the lines of a file that is JSON Lines in truth."""
    if not content.lstrip().startswith(b"["):
        yield from _rows_of_json_lines(name, content)
        return
    for number, row in enumerate(_parsed(name, content, "a JSON array"), start=1):
        yield f"{name}, element {number}", row


def _parsed(where: str, content: bytes, expected: str, hint: str = "") -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except ValueError as error:  # bad JSON, or bytes that are not UTF-8
        raise InputError(f"{where}: not {expected} in UTF-8 ({error}){hint}") from error
    except RecursionError as error:
        raise InputError(f"{where}: not {expected}: it is nested too deeply") from error


def _rows_of_csv(name: str, content: bytes) -> Iterator[Located]:
    """Rows of a table whose first line names the columns. The delimiter is the one that the first line has most of."""
    heading = content.partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    delimiter = max(DELIMITERS, key=heading.count)
    return _rows_of_table(name, content, delimiter)


def _rows_of_tsv(name: str, content: bytes) -> Iterator[Located]:
    return _rows_of_table(name, content, "\t")


def _rows_of_table(name: str, content: bytes, delimiter: str) -> Iterator[Located]:
    csv.field_size_limit(sys.maxsize)
    try:
        lines = io.StringIO(content.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}, line {line}: not UTF-8 ({error.reason}); save the table as UTF-8") from error
    reader, header = csv.reader(lines, delimiter=delimiter, strict=True), f"{name}, line 1"
    columns = _next_values(reader, header) or []
    if repeated := sorted({column for column in columns if columns.count(column) > 1}):
        raise InputError(f"{header}: two columns have the name {repeated[0]!r}; rename one of them")
    where = f"{name}, line {reader.line_num + 1}"
    while (values := _next_values(reader, where)) is not None:
        if values and len(values) != len(columns):
            raise InputError(
                f"{where}: {counted(values, 'value')}, but the header has {counted(columns, 'column')}; "
                "check the quotes and delimiters"
            )
        if values:  # a blank line is no row
            yield where, TableRow(dict(zip(columns, values, strict=True)), header)
        where = f"{name}, line {reader.line_num + 1}"


def _next_values(reader: Iterator[list[str]], where: str) -> list[str] | None:
    """The values of the next row, or None at the end. Raises InputError, beginning with `where`, if the row is not valid CSV."""
    try:
        return next(reader, None)
    except csv.Error as error:
        is_of_quotes = "expected after" in str(error) or "unexpected end of data" in str(error)
        problem = (
            "a quoted value is not closed, or is followed by text; check the quotes"
            if is_of_quotes
            else f"not a table of CSV ({error})"
        )
        raise InputError(f"{where}: {problem}") from error


def _rows_of_parquet(name: str, content: bytes) -> Iterator[Located]:
    from pyarrow import ArrowException, BufferReader, parquet

    try:
        rows = parquet.read_table(BufferReader(content)).to_pylist()
    except (ArrowException, OSError, ValueError) as error:  # bytes that are not UTF-8, too
        raise InputError(f"{name}: not a parquet file ({first_line(error)})") from error
    yield from located_rows(name, rows)


READERS: Mapping[str, Reader] = {
    ".jsonl": _rows_of_json_lines,
    ".ndjson": _rows_of_json_lines,
    ".json": _rows_of_json,
    ".csv": _rows_of_csv,
    ".tsv": _rows_of_tsv,
    ".parquet": _rows_of_parquet,
}
"""By the ending of the name, in any case. A file with another ending is read as JSON Lines."""
