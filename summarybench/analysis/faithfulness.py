"""How far a summary keeps to its document, without a model: what it has that the document does not, and how much it copies.

The document is its whole text, and not the part that the prompt had room for: a number that the model could not have read is
right all the same where the document has it. Figures that a text does not have, such as the share of new words among none, are
None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import cast

from summarybench.analysis.dates_in_text import Day, dates_in
from summarybench.analysis.names_in_text import has_names, name_words, names_in
from summarybench.analysis.numbers_in_text import Values, numbers_in
from summarybench.analysis.spans import Span, outside, places_of
from summarybench.documents.languages import ENGLISH, Language
from summarybench.documents.words import is_ascii_in_letters
from summarybench.runs.faithfulness_record import FAITHFULNESS_LISTS, FaithfulnessRecord

LENGTH_BAND = (0.9, 1.1)
"""MLPerf Inference accepts a run whose outputs are 0.9 to 1.1 times as long as those of its reference implementation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A number, a date or a name at `summary[start:end]`. `is_novel` says that the document does not have it."""

    kind: str
    start: int
    end: int
    key: object
    is_novel: bool


NUMBER, DATE, NAME = "number", "date", "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faithfulness:
    """The figures of one summary. Shares are 0 to 1.

    The shares of novel n-grams and the counts are of distinct ones: what is repeated counts once. Names are None where
    the document's language does not mark them by capital letters. `coverage`, `density` and `compression` are those of Grusky,
    Naaman and Artzi (NAACL 2018), in words without punctuation. `length_ratio` is the summary's words ÷ the reference's.
    """

    novel_words: float | None
    novel_bigrams: float | None
    novel_trigrams: float | None
    numbers: int
    novel_numbers: int
    dates: int
    novel_dates: int
    names: int | None
    novel_names: int | None
    coverage: float | None
    density: float | None
    compression: float | None
    length_ratio: float | None


def faithfulness_of(summary: str, document: str, reference: str = "", language: Language = ENGLISH) -> Faithfulness:
    """Compare a summary with its document, and its length with the reference's where there is one."""
    found, source = language.words(summary), language.words(document)
    all_marks = marks_in(summary, document, language)
    marks = {kind: [each for each in all_marks if each.kind == kind] for kind in (NUMBER, DATE, NAME)}
    is_named = _has_names(document, language)
    fragments = extractive_fragments(found, source)
    reference_words = len(language.words(reference))
    return Faithfulness(
        novel_words=novel_share(found, source, 1),
        novel_bigrams=novel_share(found, source, 2),
        novel_trigrams=novel_share(found, source, 3),
        numbers=_distinct(marks[NUMBER]),
        novel_numbers=_distinct(each for each in marks[NUMBER] if each.is_novel),
        dates=_distinct(marks[DATE]),
        novel_dates=_distinct(each for each in marks[DATE] if each.is_novel),
        names=_distinct(marks[NAME]) if is_named else None,
        novel_names=_distinct(each for each in marks[NAME] if each.is_novel) if is_named else None,
        coverage=sum(fragments) / len(found) if found else None,
        density=sum(each**2 for each in fragments) / len(found) if found else None,
        compression=len(source) / len(found) if found else None,
        length_ratio=len(found) / reference_words if reference_words else None,
    )


def as_record(found: Sequence[Faithfulness]) -> FaithfulnessRecord | None:
    """The key `faithfulness` of the run file; None for no summaries."""
    if not found:
        return None
    return cast(FaithfulnessRecord, {name: [getattr(each, name) for each in found] for name in FAITHFULNESS_LISTS})


def _distinct(marks: Iterable[Mark]) -> int:
    return len({each.key for each in marks})


def marks_in(summary: str, document: str, language: Language = ENGLISH) -> list[Mark]:
    """The numbers, dates and names of a summary in their order. Spans do not overlap within a kind."""
    found = [*_counts_in(summary, document, language), *_names_in(summary, document, language)]
    return sorted(found, key=lambda each: (each.start, each.end))


def _counts_in(summary: str, document: str, language: Language) -> Iterator[Mark]:
    """The numbers and dates. The document is only searched if there are any: it may be long."""
    has_number_words = language.is_english and is_ascii_in_letters(summary) and _is_ascii(document)
    dates = dates_in(summary)
    numbers = numbers_in(summary, has_number_words=has_number_words, without=places_of(dates))
    if not dates and not numbers:
        return
    days, values = _counts_of(document, has_number_words=has_number_words)
    for date in dates:
        yield _mark(DATE, date, date.readings, is_novel=not date.is_among(days, values))
    for number in numbers:
        if number.is_claim:
            yield _mark(NUMBER, number, number.readings, is_novel=not number.is_among(values))


# A report asks about all summaries of a document, one after the other.
@lru_cache(maxsize=1)
def _counts_of(document: str, *, has_number_words: bool) -> tuple[frozenset[Day], Values]:
    """The days and the numbers of a document."""
    dates = dates_in(document)
    numbers = numbers_in(document, has_number_words=has_number_words, without=places_of(dates))
    days = frozenset(day for each in dates for day in each.readings)
    return days, frozenset[Fraction | str]().union(*(each.values for each in numbers), *(each.values for each in dates))


def _names_in(summary: str, document: str, language: Language) -> Iterator[Mark]:
    if not _has_names(document, language) or not (names := names_in(summary)):
        return
    known = _name_words(document)
    for name in outside(names, places_of(dates_in(summary))):  # no name: the month of a date
        yield _mark(NAME, name, name.key, is_novel=not name.is_among(known))


_name_words = lru_cache(maxsize=1)(name_words)
_is_ascii = lru_cache(maxsize=1)(is_ascii_in_letters)


@lru_cache(maxsize=1)
def _has_names(document: str, language: Language) -> bool:
    return language.code != "de" and has_names(document)


def _mark(kind: str, found: Span, key: object, *, is_novel: bool) -> Mark:
    return Mark(kind=kind, start=found.start, end=found.end, key=key, is_novel=is_novel)


def novel_share(summary: Sequence[str], document: Sequence[str], size: int) -> float | None:
    """The share of the summary's distinct n-grams of this size that the document does not have; None without any."""
    found = set(_n_grams(summary, size))
    return len(found - set(_n_grams(document, size))) / len(found) if found else None


def _n_grams(tokens: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(tokens[place:] for place in range(size)), strict=False)


def extractive_fragments(summary: Sequence[str], document: Sequence[str]) -> list[int]:
    """The lengths in words of the fragments that the summary shares with the document.

    The greedy algorithm of Grusky, Naaman and Artzi (figure 2): from each word on, the longest run of words that the document
    has as well, where the search in the document goes on behind each run that matched. Words without a match are no fragment.
    """
    known = frozenset(document)
    # A match of one word skips nothing in the document, so that only pairs of words have to be looked up.
    places: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(pairwise(document)):
        places.setdefault(pair, []).append(place)
    found: list[int] = []
    at = 0
    while at < len(summary):
        longest, next_place, left = int(summary[at] in known), 0, len(summary) - at
        for place in places.get((summary[at], summary[at + 1]), ()) if left > 1 else ():
            if place < next_place:
                continue
            length = _common_length(summary, at, document, place)
            longest, next_place = max(longest, length), place + length
            if longest == left:
                break
        if longest:
            found.append(longest)
        at += max(longest, 1)
    return found


def _common_length(summary: Sequence[str], at: int, document: Sequence[str], place: int) -> int:
    length = 0
    while (
        at + length < len(summary)
        and place + length < len(document)
        and summary[at + length] == document[place + length]
    ):
        length += 1
    return length
