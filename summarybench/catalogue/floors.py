"""ROUGE floors, read from floors.toml with the origin of each figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from summarybench.catalogue.entries import check_known, entries_in
from summarybench.catalogue.models import LOADERS, MODELS
from summarybench.core.outcomes import InputError
from summarybench.core.tables import entry_of, read_table, shown
from summarybench.documents.document import DocumentSource

FLOORS_FILE = Path(__file__).with_name("floors.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The mean ROUGE-1 F1 (stemmed, 0 to 1) that summaries must not fall short of by more than chance, and its origin.

    `documents` is the number of documents that the figure is the mean of. It is None for a figure over all documents of the
    source, which has no sampling error.
    """

    rouge1: float
    origin: str
    documents: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _FloorEntry:
    """A floor as written in the file; `origin` names an entry of [origins]."""

    model: str
    loader: str
    documents: str
    max_new_tokens: int
    rouge1: float
    origin: str
    documents_measured: int | None = None


FloorKey = tuple[str, str, DocumentSource, int]
"""Model, loader, document source, token limit."""


def read_floors(path: Path = FLOORS_FILE) -> dict[FloorKey, Floor]:
    """Read the floors. Raises InputError that names the file, the entry and the value."""
    origins = read_table(path).get("origins", {})
    if not isinstance(origins, dict):
        raise InputError(f"{shown(path)}: [origins]: must be a table of keys and values, not {origins!r}")
    found: dict[FloorKey, Floor] = {}
    for where, values in entries_in(path, "floors"):
        entry = entry_of(_FloorEntry, values, where)
        check_known(entry.model, MODELS, f"{where}: model")
        check_known(entry.loader, LOADERS, f"{where}: loader")
        check_known(entry.documents, list(DocumentSource), f"{where}: documents")
        check_known(entry.origin, origins, f"{where}: origin")
        if not 0 < entry.rouge1 < 1:
            raise InputError(f"{where}: rouge1: {entry.rouge1} must lie between 0 and 1")
        if entry.documents_measured is not None and entry.documents_measured < 1:
            raise InputError(f"{where}: documents_measured: {entry.documents_measured} must be at least 1")
        key = (entry.model, entry.loader, DocumentSource(entry.documents), entry.max_new_tokens)
        if key in found:
            raise InputError(f"{where}: a floor for {', '.join(map(str, key))} exists already; remove one of the two")
        found[key] = Floor(rouge1=entry.rouge1, origin=str(origins[entry.origin]), documents=entry.documents_measured)
    return found


FLOORS: Mapping[FloorKey, Floor] = read_floors()
"""An experiment without an entry has no floor; the quality table says so."""
