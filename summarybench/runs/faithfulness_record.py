"""What a run file states about how far each summary keeps to its document."""

from __future__ import annotations

from typing import Annotated, TypedDict

from summarybench.runs.declared_keys import Key

_SHARE = "; null for a summary without any"


class FaithfulnessRecord(TypedDict):
    """Figures of each summary against its whole document. Lists have one item per document, in document order."""

    novel_words: Annotated[
        list[float | None], Key(f"share of distinct words that the document does not have{_SHARE}", at_most=1)
    ]
    novel_bigrams: Annotated[
        list[float | None], Key(f"share of distinct word pairs that the document does not have{_SHARE}", at_most=1)
    ]
    novel_trigrams: Annotated[
        list[float | None], Key(f"share of distinct word triples that the document does not have{_SHARE}", at_most=1)
    ]
    numbers: Annotated[list[int], Key("distinct numbers")]
    novel_numbers: Annotated[list[int], Key("distinct numbers that the document does not have")]
    dates: Annotated[list[int], Key("distinct dates")]
    novel_dates: Annotated[list[int], Key("distinct dates that the document does not have")]
    names: Annotated[
        list[int | None],
        Key("distinct capitalized names; null for a language that does not mark names by capital letters"),
    ]
    novel_names: Annotated[
        list[int | None], Key("distinct capitalized names that the document does not have; likewise")
    ]
    coverage: Annotated[
        list[float | None],
        Key("share of the words in fragments copied from the document; null without words", at_most=1),
    ]
    density: Annotated[
        list[float | None], Key("mean length of the fragment that a word is in; null without words", unit="words")
    ]
    compression: Annotated[list[float | None], Key("the document's words ÷ the summary's; null without words")]
    length_ratio: Annotated[list[float | None], Key("the summary's words ÷ the reference's; null without a reference")]


FAITHFULNESS_LISTS = tuple(FaithfulnessRecord.__annotations__)
"""The names of the lists."""
NOVEL_AMONG = {"novel_numbers": "numbers", "novel_dates": "dates", "novel_names": "names"}
"""Which counts are a part of which."""
