"""Words and sentences in texts of any script. languages.py adds what depends on the language.

Most scripts put spaces between words. Chinese, Japanese, Thai, Lao, Khmer and Burmese do not: there each character, with
its marks, counts as a word, unless a language is named that has a better rule.
"""

from __future__ import annotations

import unicodedata

import regex

_UNSPACED = r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Line_Break=Complex_Context}]\p{M}*"
"""One character of a script without spaces. Unicode calls those of South-East Asia `Complex_Context` (UAX 14)."""

WORD_PATTERN = rf"{_UNSPACED}|(?:(?!{_UNSPACED})[\p{{L}}\p{{M}}\p{{N}}])+"
"""A word, or a character of a script without spaces."""

_WORD = regex.compile(WORD_PATTERN)
_CHARACTER = regex.compile(rf"({_UNSPACED})")
_PIECE = regex.compile(rf"(?:{_UNSPACED}|(?:(?!{_UNSPACED})\S)+)\s*")
_LETTER_OR_DIGIT = regex.compile(r"[\p{L}\p{N}]")
# An English full stop ends a sentence only before a space. Full stops of other scripts need none.
_SENTENCE_END = regex.compile(r"(?<=[.!?])\s+|\n+|(?<=[[\p{Sentence_Terminal}]--[.!?]])\s*", flags=regex.V1)


def has_words(text: str) -> bool:
    """Whether the text has a letter or a digit of any script."""
    return _LETTER_OR_DIGIT.search(text) is not None


def is_ascii_in_letters(text: str) -> bool:
    """Whether all letters, marks and digits are ASCII; typographic quotes and dashes do not matter."""
    return text.isascii() or all(each.isascii() for each in text if unicodedata.category(each)[0] in "LMN")


def words(text: str) -> list[str]:
    """The words in lower case, without punctuation, in Unicode's compatible composed form (NFKC)."""
    return list(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def spaced_words(text: str) -> list[str]:
    """The text split at blanks, in lower case, with characters of scripts without spaces as words of their own.

    Punctuation stays where it is.
    """
    spaced: str = _CHARACTER.sub(r" \1 ", text.lower())
    return spaced.split()


def pieces(text: str) -> list[str]:
    """The text cut before each word, and before each character of a script without spaces.

    Blanks stay with the piece before them, and those at the start are left out.
    """
    return list(_PIECE.findall(text))


def sentences(text: str) -> list[str]:
    """The text split after the full stops of any script, and at line ends."""
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]
