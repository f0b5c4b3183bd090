"""What the catalogue's readers share: lists of entries, and references from one table to another."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from summarybench.core.outcomes import InputError
from summarybench.core.tables import read_table, shown


def entries_in(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    """Each table of the array [[name]], with what an error message calls it. Raises InputError where there is none."""
    entries = read_table(path).get(name)
    if not isinstance(entries, list):
        raise InputError(f"{shown(path)}: has no [[{name}]]")
    for number, values in enumerate(entries, start=1):
        yield f"{shown(path)}: [[{name}]] number {number}", values


def check_known(name: str, known: Collection[str], where: str) -> None:
    """Raises InputError for a name that is not in another table."""
    if name not in known:
        raise InputError(f"{where}: {name!r} is not one of {', '.join(sorted(known))}")
