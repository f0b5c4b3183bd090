"""The rows of the first published table, of a later one of its author, and of MLPerf's results.

published.toml says where each figure comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from summarybench.catalogue.entries import check_known, entries_in
from summarybench.catalogue.models import LOADERS, MODELS
from summarybench.catalogue.profiles import PROFILES
from summarybench.core.numbers import decimal
from summarybench.core.tables import entry_of
from summarybench.machine.families import GPU_FAMILIES

PUBLISHED_FILE = Path(__file__).with_name("published.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One experiment of the table.

    `rouge1` is for the row's own sample; None if it was not published.
    """

    family: str
    model: str
    loader: str
    documents: int
    max_new_tokens: int
    document_tokens_per_document: float
    seconds_per_document: float
    rouge1_common_documents: float
    rouge1_common_documents_stemmed: float
    rouge1: float | None = None
    rouge1_stemmed: float | None = None

    @property
    def document_tokens_per_second(self) -> float:
        return self.document_tokens_per_document / self.seconds_per_document


Row = TypeVar("Row", "PublishedRow", "PublishedThroughput")


@cache
def published_rows(path: Path = PUBLISHED_FILE) -> tuple[PublishedRow, ...]:
    """Read the rows, in the table's order.

    Raises InputError that names the file, the row and the value.
    """
    rows = _read(path, "rows", PublishedRow)
    for where, row in rows:
        check_known(row.loader, LOADERS, f"{where}: loader")
    return tuple(row for _, row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedThroughput:
    """One row of the later table: how fast one way of running a model was. `rouge1` is unstemmed."""

    family: str
    model: str
    way: str
    documents: int
    max_new_tokens: int
    documents_per_second: float
    rouge1: float | None = None


@cache
def published_throughput(path: Path = PUBLISHED_FILE) -> tuple[PublishedThroughput, ...]:
    """Read the rows of the later table, in its order.

    Raises InputError that names the file, the row and the value.
    """
    return tuple(row for _, row in _read(path, "throughput", PublishedThroughput))


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedByMlperf:
    """One result of MLPerf Inference for a profile of the suite, divided by the number of GPUs."""

    profile: str
    family: str
    model: str
    way: str
    scenario: str
    documents_per_second: float
    round: str
    date: str
    source: str

    def __str__(self) -> str:
        speed = decimal(self.documents_per_second, 1)
        return f"{self.family.upper()}, {self.way}: {speed} documents/s {self.scenario} ({self.model}, {self.round}, {self.date})"


@cache
def published_by_mlperf(path: Path = PUBLISHED_FILE) -> tuple[PublishedByMlperf, ...]:
    """Read MLPerf's rows, in their order.

    Raises InputError that names the file, the row and the value.
    """
    rows = [(where, entry_of(PublishedByMlperf, values, where)) for where, values in entries_in(path, "mlperf")]
    for where, row in rows:
        check_known(row.family, GPU_FAMILIES, f"{where}: family")
        check_known(row.profile, PROFILES, f"{where}: profile")
    return tuple(row for _, row in rows)


def _read(path: Path, table: str, type_: type[Row]) -> list[tuple[str, Row]]:
    """The rows of one table, each after the words that name its place. Raises InputError for an unknown family or model."""
    rows = [(where, entry_of(type_, values, where)) for where, values in entries_in(path, table)]
    for where, row in rows:
        check_known(row.family, GPU_FAMILIES, f"{where}: family")
        check_known(row.model, MODELS, f"{where}: model")
    return rows
