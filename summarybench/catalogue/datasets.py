"""Datasets of the hub that have a short name, read from datasets.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from summarybench.catalogue.entries import entries_in
from summarybench.core.outcomes import InputError
from summarybench.core.tables import entry_of, read_table, shown

DATASETS_FILE = Path(__file__).with_name("datasets.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry:
    """A dataset as written in the file. `text` and `summary` are the columns of documents and of their references."""

    name: str
    repository: str
    configuration: str | None = None
    revision: str
    split: str
    text: str
    summary: str


def read_datasets(path: Path = DATASETS_FILE) -> dict[str, DatasetEntry]:
    """Read the datasets, by name. Raises InputError that names the file, the entry and the value."""
    if unknown := sorted(read_table(path).keys() - {"datasets"}):
        raise InputError(f"{shown(path)}: unknown table {unknown[0]!r}; use [[datasets]]")
    found: dict[str, DatasetEntry] = {}
    for where, values in entries_in(path, "datasets"):
        entry = entry_of(DatasetEntry, values, where)
        if entry.name in found:
            raise InputError(f"{where}: a dataset named {entry.name!r} exists already; rename one of the two")
        found[entry.name] = entry
    return found


DATASETS: Mapping[str, DatasetEntry] = read_datasets()
