"""Numbers in a text, normalized so that the same number is equal however it is written.

`1,000`, `1 000` and `1000` are equal, and so are `3.50`, `3,5` and `3½`, or `50%` and `50 percent`: units are left out, because
in `10 to 15%` only one of two percentages has its sign. Digits of every script count. Where a number can be read in two ways, as
`1.000` can, it has both readings.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import regex

from summarybench.analysis.spans import outside

Values = frozenset[Fraction | str]
"""Numbers, and strings for version numbers such as `1.2.3`."""

LONGEST_NUMBER = 40
"""Characters. Longer digits are compared as they are written: Python reads no number of thousands of digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number in a text, at `text[start:end]`.

    `readings` are what it may mean; each is a set of values that belong together. `is_claim` is False for words such as `one`
    and `first`, which mostly count nothing.
    """

    start: int
    end: int
    readings: tuple[Values, ...]
    is_claim: bool = True

    @property
    def values(self) -> Values:
        """All values of all readings."""
        return frozenset().union(*self.readings)

    def is_among(self, values: Values) -> bool:
        """Whether all values of one reading are among these."""
        return any(reading <= values for reading in self.readings)


_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SMALL = {word: value for value, word in enumerate(_ONES.split())} | {
    word: 10 * value for value, word in enumerate(_TENS.split(), start=2)
}
_ORDINAL = {word: value for value, word in enumerate(_ORDINALS.split(), start=1)}
_VULGAR = "".join(
    each for each in map(chr, [*range(0xBC, 0xBF), *range(0x2150, 0x215F), 0x2189]) if unicodedata.numeric(each) < 1
)
_SPACES = " \u00a0\u2009\u202f"

_NUMBER = regex.compile(
    rf"""(?<![\p{{L}}\p{{M}}\d])(?:
      (?P<hours>\d{{1,2}}):(?P<minutes>[0-5]\d)(?![\d:])
    | (?:(?P<whole>\d{{1,9}})[{_SPACES}-]?)?(?P<vulgar>[{_VULGAR}])
    | (?:(?P<whole>\d{{1,9}})[{_SPACES}-])?(?P<over>\d{{1,2}})[/\u2044](?P<under>\d{{1,3}})(?![\d/])
    | (?P<grouped>\d{{1,3}}(?:(?P<mark>[,.'\u2019{_SPACES}])\d{{3}})(?:(?P=mark)\d{{3}})*(?!\d)(?:(?!(?P=mark))[.,]\d+)?(?![.,]?\d))
    | (?P<indian>\d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?!\d))
    | (?P<plain>\d+(?:[.,]\d+)*)
    )(?:[{_SPACES}]?[%\u2030])?(?:(?:[{_SPACES}-])(?P<scale>{"|".join(_SCALES)})s?\b)?""",
    flags=regex.VERBOSE | regex.IGNORECASE,
)
_WORD_NUMBER = regex.compile(
    rf"""\b(?:(?P<tens>{"|".join(_TENS.split())})(?:[ -](?P<ones>{"|".join(_ONES.split()[1:10])}))?
    | (?P<small>{"|".join(sorted(_ONES.split(), key=len, reverse=True))}) | (?P<ordinal>{"|".join(_ORDINAL)}))
    (?:[ -](?P<scale>{"|".join(_SCALES)})s?)?\b""",
    flags=regex.VERBOSE | regex.IGNORECASE,
)
_SEPARATORS = {"\u066b": ".", "\u066c": ",", "\u066a": "%", "\uff05": "%"}
_OTHER_DIGIT = regex.compile(rf"[[\p{{Nd}}--[0-9]]{''.join(_SEPARATORS)}]", flags=regex.V1)
_LIST_MARK = regex.compile(r"^[ \t]*(?:\(?\d{1,3}[.)](?=\s)|step \d{1,3}\b)", flags=regex.MULTILINE | regex.IGNORECASE)


def with_ascii_digits(text: str) -> str:
    """The text with the digits of every script as 0 to 9, and Arabic separators as Latin ones; no character moves."""
    plain: str = _OTHER_DIGIT.sub(lambda match: _ascii_digit(match[0]), text)
    return plain


def _ascii_digit(character: str) -> str:
    return _SEPARATORS.get(character) or str(unicodedata.decimal(character, character))


def numbers_in(text: str, *, has_number_words: bool, without: Sequence[tuple[int, int]] = ()) -> list[Number]:
    """The numbers of a text in their order, apart from those inside the spans `without`.

    Numbers that count the items of a list at the starts of lines are left out, and so are digits inside words such as `mp3`.
    `has_number_words` reads English number words, too.
    """
    plain = with_ascii_digits(text)
    taken = [*without, *(each.span() for each in _LIST_MARK.finditer(plain))]
    found = [*_digits_in(plain), *(_words_in(plain) if has_number_words else ())]
    return list(outside(found, taken))


def _digits_in(text: str) -> Iterator[Number]:
    known: dict[str, tuple[Values, ...]] = {}
    for match in _NUMBER.finditer(text):
        if match[0] not in known:
            known[match[0]] = tuple(_scaled(match))
        yield Number(start=match.start(), end=match.end(), readings=known[match[0]])


def _scaled(match: regex.Match[str]) -> Iterator[Values]:
    scale = _SCALES.get((match["scale"] or "").lower(), 1)
    for reading in _readings(match):
        yield frozenset(each if isinstance(each, str) else each * scale for each in reading)


def _readings(match: regex.Match[str]) -> Iterator[list[Fraction | str]]:
    whole = Fraction(match["whole"] or 0)
    if match["hours"]:
        yield [Fraction(match["hours"]) + Fraction(int(match["minutes"]), 60)]
    elif match["vulgar"]:
        yield [whole + Fraction(unicodedata.numeric(match["vulgar"])).limit_denominator(16)]
    elif match["over"]:
        over, under = int(match["over"]), int(match["under"])
        if 0 < over < under:
            yield [whole + Fraction(over, under)]
        else:
            yield [Fraction(each) for each in (match["whole"], over, under) if each is not None]
    elif match["grouped"]:
        yield from _grouped(match["grouped"], match["mark"])
    elif match["indian"]:
        yield [_value(match["indian"].replace(",", ""))]
    else:
        yield from _plain(match["plain"])


def _grouped(digits: str, mark: str) -> Iterator[list[Fraction | str]]:
    """`1,000` may be a thousand or, with a decimal comma, one; `5 100` may be two numbers."""
    groups = digits.split(mark)
    if not groups[0].startswith("0"):
        yield [_value(digits.replace(mark, "").replace(",", "."))]
    if len(groups) == 2 and mark in ",." and groups[1].isdigit():
        yield [_value(".".join(groups))]
    if mark in _SPACES:
        yield [_value(each.replace(",", ".")) for each in groups]


def _plain(digits: str) -> Iterator[list[Fraction | str]]:
    parts = regex.split("[.,]", digits)
    yield [_value(".".join(parts)) if len(parts) <= 2 else ".".join(parts)]


def _value(digits: str) -> Fraction | str:
    return Fraction(digits) if len(digits) <= LONGEST_NUMBER else digits


def _words_in(text: str) -> Iterator[Number]:
    for match in _WORD_NUMBER.finditer(text):
        tens, ones, small, ordinal, scale = (
            (match[name] or "").lower() for name in ("tens", "ones", "small", "ordinal", "scale")
        )
        value = _ORDINAL[ordinal] if ordinal else _SMALL.get(tens, 0) + _SMALL.get(ones, 0) + _SMALL.get(small, 0)
        reading: Values = frozenset([Fraction(value * _SCALES.get(scale, 1))])
        is_claim = not ordinal and (small not in ("zero", "one") or bool(scale))
        yield Number(start=match.start(), end=match.end(), readings=(reading,), is_claim=is_claim)
