"""Checks that the readers of the catalogue's tables share."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from summarybench.core.outcomes import InputError
from summarybench.core.tables import read_table, shown


def entries_in(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    """Each entry of the array [[name]], with its name for messages.

    Raises InputError if the file has no such array.
    """
    entries = read_table(path).get(name)
    if not isinstance(entries, list):
        raise InputError(f"{shown(path)}: has no [[{name}]]")
    for number, values in enumerate(entries, start=1):
        yield f"{shown(path)}: [[{name}]] number {number}", values


def named(values: object, name: str) -> object:
    """Add an entry's name to its values; leave anything but a table unchanged."""
    return {**values, "name": name} if isinstance(values, Mapping) else values


def check_known(name: str, known: Collection[str], where: str) -> None:
    """Raise InputError for a name that is not one of `known`."""
    if name not in known:
        raise InputError(f"{where}: {name!r} is not one of {', '.join(sorted(known))}")
