"""Capitalized names in a text, word by word.

A capitalized word is a name unless it begins a sentence: there it counts only if the text has it capitalized elsewhere, too.
Headlines and shouting, where most words are capitalized, have no names. Scripts without capital letters have none, and in
German all nouns are capitalized, so names cannot be recognized.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import regex

from summarybench.analysis.spans import outside

_CAPITALIZED = regex.compile(
    r"(?<![\p{L}\p{M}\p{N}])(?:\p{Lu}\.(?:\p{Lu}\.?)+|\p{Lu}[\p{L}\p{M}\p{N}]*(?:['\u2019-][\p{L}\p{M}\p{N}]+)*)"
)
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['\u2019-][\p{L}\p{M}\p{N}]+)*")
_PART = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_SENTENCE_END = regex.compile(r"\n|(?<!\b\p{Lu}\p{L}{0,2})[.!?\u2026]+\s")
_START = regex.compile(
    r"(?:^|[\n.!?\u2026:;\u2022\u00bf\u00a1*|])[\s\"'\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb()\[\]*_#\u2013\u2014-]*$"
)
_ABBREVIATION = regex.compile(r"(?<![\p{L}\p{M}])\p{Lu}\p{L}{0,2}\.\s*$")
_POSSESSIVE = regex.compile(r"['\u2019]s?$")
_NO_NAMES = frozenset({"i", "ok", "am", "pm", "dr", "mr", "mrs", "ms", "st"})
_GERMAN = frozenset(
    {"der", "die", "das", "und", "ist", "nicht", "ein", "eine", "einen", "mit", "zu", "den", "sie", "du"}
)
LEAST_GERMAN_SHARE = 0.1
"""Of the words of a German text: more than a tenth are among these fourteen."""
LEAST_CASED_SHARE = 0.5
LANGUAGE_SAMPLE = 20_000
"""The number of characters in which German is looked for; more would not change the result."""
WORDS_OF_A_HEADLINE = 4
LEAST_SHARE_IN_A_HEADLINE = 0.75
"""Of capitalized words; a sentence of names has fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A capitalized word at `text[start:end]`. `key` is the word in lower case, without a possessive ending."""

    start: int
    end: int
    key: str

    def is_among(self, words: frozenset[str]) -> bool:
        """Whether the words of a text have it, all its parts, or its singular or plural."""
        forms = (self.key, self.key.removesuffix("s"), f"{self.key}s")
        return any(each in words for each in forms) or all(each in words for each in _PART.findall(self.key))


def has_names(text: str) -> bool:
    """Whether the names of a text can be told by their capital letters: most letters have a case, and it is not German."""
    text = text[:LANGUAGE_SAMPLE]
    letters = [each for each in text if each.isalpha()]
    if not letters or sum(each.islower() or each.isupper() for each in letters) < LEAST_CASED_SHARE * len(letters):
        return False
    found = [each.lower() for each in _WORD.findall(text)]
    return sum(each in _GERMAN for each in found) < LEAST_GERMAN_SHARE * len(found)


def name_words(text: str) -> frozenset[str]:
    """What a name may be found among: the words of a text in lower case, their parts, and without dots and possessives."""
    words = [_key(each) for each in _WORD.findall(text)]
    parts = (part for each in words for part in _PART.findall(each))
    initials = (_key(each) for each in _CAPITALIZED.findall(text))
    return frozenset([*words, *parts, *initials])


def names_in(text: str) -> list[Name]:
    """The names of a text in their order, with those at the starts of sentences that the text repeats elsewhere."""
    found = list(outside(_capitalized(text), list(_headlines(text))))
    certain = {name.key for name in found if not _begins_sentence(text, name.start)}
    return [name for name in found if name.key in certain]


def _capitalized(text: str) -> Iterator[Name]:
    for match in _CAPITALIZED.finditer(text):
        key, first = _key(match[0]), _PART.match(match[0])
        is_word = len(key) > 1 and key.partition("'")[0] not in _NO_NAMES
        if is_word and (first is None or len(first[0]) > 1 or "." in match[0]):  # no name: T-shirt
            yield Name(start=match.start(), end=match.start() + len(_POSSESSIVE.sub("", match[0])), key=key)


def _key(word: str) -> str:
    key: str = _POSSESSIVE.sub("", word.replace(".", "").casefold())
    return key.replace("\u2019", "'")


def _begins_sentence(text: str, place: int) -> bool:
    before = text[max(0, place - 60) : place]
    if place > 60:
        before = f"x{before}"  # the text does not begin here
    return _START.search(before) is not None and _ABBREVIATION.search(before) is None


def _headlines(text: str) -> Iterator[tuple[int, int]]:
    """The spans of sentences in which most words are capitalized."""
    start = 0
    for end in (*(each.end() for each in _SENTENCE_END.finditer(text)), len(text)):
        found = _WORD.findall(text[start:end])
        capitalized = sum(each[0].isupper() for each in found)
        if len(found) >= WORDS_OF_A_HEADLINE and capitalized > LEAST_SHARE_IN_A_HEADLINE * len(found):
            yield start, end
        start = end
