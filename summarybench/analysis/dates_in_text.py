"""Dates in a text, normalized so that `5 March 2020`, `March 5th, 2020`, `2020-03-05` and `2020年3月5日` are equal.

A date has a month, and a day or a year or both. The names of months are known in Arabic, Dutch, English, French, German,
Indonesian, Italian, Portuguese, Russian and Spanish.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import regex

from summarybench.analysis.numbers_in_text import Values, with_ascii_digits
from summarybench.analysis.spans import outside, places_of

_MONTHS = (
    "january|jan|januar|janvier|enero|gennaio|janeiro|januari|января|يناير",
    "february|feb|februar|février|febrero|febbraio|fevereiro|februari|февраля|فبراير",
    "march|mar|märz|mars|marzo|março|maart|maret|марта|مارس",
    "april|apr|avril|abril|aprile|апреля|أبريل",
    "may|mai|mayo|maggio|maio|mei|мая|مايو",
    "june|jun|juni|juin|junio|giugno|junho|июня|يونيو",
    "july|jul|juli|juillet|julio|luglio|julho|июля|يوليو",
    "august|aug|août|agosto|augustus|agustus|августа|أغسطس",
    "september|sept|sep|septembre|septiembre|settembre|setembro|сентября|سبتمبر",
    "october|oct|okt|oktober|octobre|octubre|ottobre|outubro|октября|أكتوبر",
    "november|nov|novembre|noviembre|novembro|ноября|نوفمبر",
    "december|dec|dez|dezember|décembre|diciembre|dicembre|dezembro|desember|декабря|ديسمبر",
)
_MONTH_OF = {name: number for number, names in enumerate(_MONTHS, start=1) for name in names.split("|")}
_ALSO_VERBS = ("may", "march", "mar")
"""Words of other meanings: in English a month has a capital letter."""

_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTH_OF, key=len, reverse=True))})\b\.?"
_DAY = r"(?P<day>\d{1,2})(?!\d)(?:st|nd|rd|th|er|º)?"
_YEAR = r"(?P<year>[12]\d{3})(?!\d)"
_PATTERNS = tuple(
    regex.compile(rf"(?<![\p{{L}}\p{{M}}\d]){pattern}", flags=regex.IGNORECASE)
    for pattern in (
        rf"{_DAY}\.?\s+(?:of\s+|de\s+)?{_MONTH}(?:,?\s+(?:de\s+|del\s+)?{_YEAR})?",
        rf"{_MONTH}\s+{_DAY}(?:,?\s+{_YEAR})?",
        rf"{_MONTH},?\s+(?:of\s+|de\s+|del\s+)?{_YEAR}",
        r"(?P<year>[12]\d{3})(?P<iso>[-/.])(?P<number>\d{1,2})(?P=iso)(?P<day>\d{1,2})(?!\d)",
        r"(?P<day>\d{1,2})(?P<mark>[-/.])(?P<number>\d{1,2})(?P=mark)(?P<year>[12]\d{3})(?!\d)",
        r"(?P<day>\d{1,2})/(?P<number>\d{1,2})/(?P<year>\d{2})(?![\d/])",
        r"(?:(?P<year>[12]\d{3})\s?[年년]\s?)?(?P<number>\d{1,2})\s?[月월]\s?(?P<day>\d{1,2})\s?[日일]",
        r"(?P<year>[12]\d{3})\s?[年년]\s?(?P<number>\d{1,2})\s?[月월]",
    )
)


_DIGIT = regex.compile("[0-9]")


@dataclass(frozen=True, slots=True)
class Day:
    """A day, or a month of a year. `year` and `day` are None where the text does not name them."""

    year: int | None
    month: int
    day: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Date:
    """A date in a text, at `text[start:end]`. `readings` has two days where day and month can be exchanged."""

    start: int
    end: int
    readings: tuple[Day, ...]

    @property
    def values(self) -> Values:
        """Its days and years as numbers."""
        return frozenset(
            Fraction(number) for each in self.readings for number in (each.day, each.year) if number is not None
        )

    def is_among(self, days: frozenset[Day], values: Values) -> bool:
        """Whether one of these days agrees with a reading.

        They agree if the months are equal, and the parts that this date names are the other's or, where the other does not name
        them, among `values`.
        """
        return any(
            _agrees(mine, other, values) for mine in self.readings for other in days if mine.month == other.month
        )


def _agrees(mine: Day, other: Day, values: Values) -> bool:
    pairs = ((mine.year, other.year), (mine.day, other.day))
    return all(part is None or part == known or (known is None and Fraction(part) in values) for part, known in pairs)


def dates_in(text: str) -> list[Date]:
    """The dates of a text in their order."""
    plain = with_ascii_digits(text)
    if _DIGIT.search(plain) is None:  # there are many such texts, and the patterns take long
        return []
    found: list[Date] = []
    for pattern in _PATTERNS:
        found += list(outside(_matches(pattern, plain), places_of(found)))
    return sorted(found, key=lambda each: each.start)


def _matches(pattern: regex.Pattern[str], text: str) -> Iterator[Date]:
    for match in pattern.finditer(text):
        if readings := tuple(_readings(match.groupdict())):
            yield Date(start=match.start(), end=match.end(), readings=readings)


def _readings(parts: dict[str, str | None]) -> Iterator[Day]:
    """The days that exist. Two digits of a year may be of this century or of the last."""
    name, day, year = parts.get("month"), _number(parts.get("day")), parts.get("year")
    if name in _ALSO_VERBS:
        return
    month = _MONTH_OF[name.lower()] if name else _number(parts.get("number"))
    is_exchangeable = parts.get("mark") in ("/", "-") or (year is not None and len(year) == 2)
    years = [_number(year)] if year is None or len(year) == 4 else [1900 + int(year), 2000 + int(year)]
    for a_year in years:
        for a_month, a_day in dict.fromkeys([(month, day), *([(day, month)] if is_exchangeable and not name else [])]):
            if a_month is not None and 1 <= a_month <= 12 and (a_day is None or 1 <= a_day <= 31):
                yield Day(a_year, a_month, a_day)


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(digits)
