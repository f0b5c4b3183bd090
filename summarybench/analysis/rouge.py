"""ROUGE F1 as rouge_score computes it, also for texts of hundreds of thousands of words.

rouge_score fills a table of (reference words × summary words) in Python and stems each occurrence of a word: 200,000 words
take it half a minute. Here the table's rows are bits of an integer, and each word is stemmed once. All figures are equal to
rouge_score's, of which only the tokenizer is imported: its scorer imports all of nltk.

Its tokenizer knows the letters a to z alone, which is kept where an English reference has no others, so that figures of English
texts are those of everybody else. Other references are scored by the words of their scripts, not stemmed, and texts in another
language by that language's words and stems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Protocol

from summarybench.analysis.porter import porter_stemmer
from summarybench.documents.languages import ENGLISH, Language
from summarybench.documents.words import is_ascii_in_letters
from summarybench.runs.run_file import ROUGE_TYPES

L, LSUM = "rougeL", "rougeLsum"
STEMS_KEPT = 2**16
"""The number of words whose stems are remembered."""

Words = Sequence[str]


class Tokenizer(Hashable, Protocol):
    """Words of a text, as rouge_score asks for them."""

    def tokenize(self, text: str) -> list[str]: ...


def rouge_f1(
    summary: str, reference: str, types: tuple[str, ...] = ROUGE_TYPES, language: Language = ENGLISH
) -> dict[str, float]:
    """F1 of ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum, or of `types`, with one sentence per line."""
    is_plain = language.is_english and is_ascii_in_letters(reference)
    tokenizer = _english() if is_plain else _Stems(language)
    sentences = language.sentences
    found = {}
    if others := tuple(name for name in types if name not in (L, LSUM)):
        expected, said = (tokenizer.tokenize("\n".join(sentences(text))) for text in (reference, summary))
        found = {name: n_gram_f1(expected, said, int(name.removeprefix("rouge"))) for name in others}
    if L in types or LSUM in types:
        texts = [[tokenizer.tokenize(each) for each in sentences(text)] for text in (reference, summary)]
        if L in types:
            found[L] = l_f1(*([word for sentence in text for word in sentence] for text in texts))
        if LSUM in types:
            found[LSUM] = lsum_f1(*texts)
    return {name: found[name] for name in types}


def n_gram_f1(reference: Words, summary: Words, length: int) -> float:
    """ROUGE-N of two texts: the sequences of `length` words that they share, each as often as both have it."""
    counts = [Counter(zip(*(words[start:] for start in range(length)), strict=False)) for words in (reference, summary)]
    hits = (counts[0] & counts[1]).total()
    recall, precision = (hits / max(each.total(), 1) for each in counts)
    return 2 * precision * recall / (precision + recall) if hits else 0.0


def l_f1(reference: Words, summary: Words) -> float:
    """ROUGE-L of two texts: the longest common subsequence of all their words, whatever the sentences."""
    if not reference or not summary:
        return 0.0
    *_, row = _rows(reference, summary)
    length = len(summary) - row.bit_count()
    recall, precision = length / len(reference), length / len(summary)
    return 2 * precision * recall / (precision + recall) if length else 0.0


def lsum_f1(reference: Sequence[Words], summary: Sequence[Words]) -> float:
    """ROUGE-Lsum of two texts, given as the words of each sentence.

    Section 3.2 of Lin (2004), with ROUGE 1.5.5's rule that each occurrence of a word counts once. Each sentence of the
    reference is matched with the union of its longest common subsequences with the summary's sentences.
    """
    left = [Counter(word for sentence in text for word in sentence) for text in (reference, summary)]
    totals = [counts.total() for counts in left]
    if not all(totals):
        return 0.0
    hits = 0
    for sentence in reference:
        matched = set[int]().union(*(common_subsequence(sentence, other) for other in summary))
        for word in (sentence[index] for index in sorted(matched)):
            if all(counts[word] > 0 for counts in left):
                hits += 1
                for counts in left:
                    counts[word] -= 1
    recall, precision = (hits / total for total in totals)
    return 2 * precision * recall / (precision + recall) if hits else 0.0


def common_subsequence(reference: Words, other: Words) -> list[int]:
    """The indices, from the last, of the words of `reference` in a longest common subsequence with `other`.

    Of several, the one that rouge_score chooses.
    """
    known = set(other)
    shared = [index for index, word in enumerate(reference) if word in known]
    common = [reference[index] for index in shared]
    return _read_back(list(_rows(common, other)), common, shared, other)


def _rows(reference: Words, other: Words) -> Iterator[int]:
    """The table of the lengths of common subsequences, row by row, from that of no reference words on.

    Row i is an integer: bit j is 0 where the length for the first i reference words and the first j + 1 other words exceeds
    that for j (Hyyrö, 2004). A reference word that `other` lacks repeats the row before it.
    """
    places: dict[str, int] = {}
    for index, word in enumerate(other):
        places[word] = places.get(word, 0) | 1 << index
    row = everything = (1 << len(other)) - 1
    yield row
    for word in reference:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & everything
        yield row


def _read_back(rows: Sequence[int], common: Words, indices: Sequence[int], other: Words) -> list[int]:
    def length(row: int, column: int) -> int:
        return column - (rows[row] & (1 << column) - 1).bit_count()

    found = []
    row, column = len(common), len(other)
    while row and column:
        if common[row - 1] == other[column - 1]:
            found.append(indices[row - 1])
            row, column = row - 1, column - 1
        elif length(row, column - 1) > length(row - 1, column):
            column -= 1
        else:
            row -= 1
    return found


# Words ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stems:
    """The words of a language, stemmed where it has a stemmer. rouge_score's stemmer is for English and is left out."""

    language: Language

    def tokenize(self, text: str) -> list[str]:
        return self.language.stems(text)


class _English:
    """rouge_score's own words, stemmed: those of the letters a to z and digits."""

    def __init__(self) -> None:
        self.stem = lru_cache(maxsize=STEMS_KEPT)(porter_stemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        from rouge_score.tokenize import tokenize

        return list(tokenize(text, self))


@cache
def _english() -> Tokenizer:
    return _English()
