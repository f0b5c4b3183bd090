"""Pieces of a text by their places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar


class Span(Protocol):
    """A piece of a text, `text[start:end]`."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...


Piece = TypeVar("Piece", bound=Span)


def places_of(found: Iterable[Span]) -> list[tuple[int, int]]:
    """Start and end of each."""
    return [(each.start, each.end) for each in found]


def outside(found: Iterable[Piece], taken: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    """The pieces that overlap none of these places, in the order of the text."""
    places, number, furthest = sorted(taken), 0, 0
    for each in sorted(found, key=lambda piece: piece.start):
        while number < len(places) and places[number][0] < each.end:
            furthest = max(furthest, places[number][1])
            number += 1
        if furthest <= each.start:
            yield each
