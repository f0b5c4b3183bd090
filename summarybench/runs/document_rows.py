"""The rows of `documents.parquet` for a page, which shows the texts of few of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from summarybench.core.inert_text import inert, inert_record
from summarybench.runs.documents_table import errors_named, opened

TEXTS_KEPT = 256
"""The number of inert texts that are remembered. A page asks for a document's texts once for each of its summaries."""


class DocumentRows(Mapping[tuple[str, str], Mapping[str, Any]]):
    """The rows by experiment and document id. Their texts are inert, and keep their lines.

    Columns are read row group by row group when a value is asked for, so that texts that nobody shows take no memory. Raises
    InputError if the file is missing or cannot be read; damage may also show when a value is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with errors_named(path):
            self._file = opened(path)
        self.column_names: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        self._columns: dict[tuple[int, str], Any] = {}
        self._inert = lru_cache(maxsize=TEXTS_KEPT)(partial(inert, keep="\n\t"))
        self._places = {
            key: (group, place)
            for group in range(self._file.num_row_groups)
            for place, key in enumerate(self._keys(group))
        }

    def _keys(self, group: int) -> Iterator[tuple[str, str]]:
        experiments, ids = (inert_record(self._read(group, name).to_pylist()) for name in ("experiment", "document_id"))
        return zip(experiments, ids, strict=True)

    def __getitem__(self, key: tuple[str, str]) -> Mapping[str, Any]:
        return _Row(self, *self._places[key])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def value(self, group: int, place: int, name: str) -> Any:
        """The value of a column at a place of a row group. Raises KeyError if there is no such column."""
        if (group, name) not in self._columns:
            self._columns[group, name] = self._read(group, name)
        found = self._columns[group, name][place].as_py()
        return self._inert(found) if isinstance(found, str) else found

    def _read(self, group: int, name: str) -> Any:
        with errors_named(self._path):
            return self._file.read_row_group(group, columns=[name], use_threads=False).column(name)


@dataclass(frozen=True, slots=True, eq=False)
class _Row(Mapping[str, Any]):
    rows: DocumentRows
    group: int
    place: int

    def __getitem__(self, name: str) -> Any:
        return self.rows.value(self.group, self.place, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows.column_names)

    def __len__(self) -> int:
        return len(self.rows.column_names)
