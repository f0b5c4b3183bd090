"""ROUGE floors: floors.toml has each with the origin of its figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from summarybench.catalogue.entries import check_known, entries_in
from summarybench.catalogue.models import LOADERS, MODELS
from summarybench.core.outcomes import InputError
from summarybench.core.tables import entry_of, read_table
from summarybench.documents.sources import DocumentSource

FLOORS_FILE = Path(__file__).with_name("floors.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The lowest mean ROUGE-1 F1 (stemmed) that is still acceptable, and where the figure comes from."""

    rouge1: float
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _FloorEntry:
    """A floor as the file has it; `origin` names an entry of [origins]."""

    model: str
    loader: str
    documents: str
    max_new_tokens: int
    rouge1: float
    origin: str


FloorKey = tuple[str, str, DocumentSource, int]
"""Model, loader, document source, new tokens."""


def read_floors(path: Path = FLOORS_FILE) -> dict[FloorKey, Floor]:
    """The floors. Raises InputError that names the file and the entry at fault."""
    origins = read_table(path).get("origins", {})
    found: dict[FloorKey, Floor] = {}
    for where, values in entries_in(path, "floors"):
        entry = entry_of(_FloorEntry, values, where)
        check_known(entry.model, MODELS, f"{where}: model")
        check_known(entry.loader, LOADERS, f"{where}: loader")
        check_known(entry.documents, list(DocumentSource), f"{where}: documents")
        check_known(entry.origin, origins, f"{where}: origin")
        if not 0 < entry.rouge1 < 1:
            raise InputError(f"{where}: rouge1: {entry.rouge1} must lie between 0 and 1")
        key = (entry.model, entry.loader, DocumentSource(entry.documents), entry.max_new_tokens)
        if key in found:
            raise InputError(f"{where}: there is a floor for this experiment already")
        found[key] = Floor(rouge1=entry.rouge1, origin=str(origins[entry.origin]))
    return found


FLOORS: Mapping[FloorKey, Floor] = read_floors()
"""What is not here has no floor, and the table of quality says so."""
