"""Words of Japanese and Thai, which are written without spaces, from the models of the package budoux.

Its `ja_word` and `th` models cut into words. Its other models cut into phrases, which is too coarse to count words in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import regex

from summarybench.documents.words import WORD_PATTERN

if TYPE_CHECKING:
    from budoux import Parser


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """How a language without spaces is cut into words.

    `characters` is the set of its letters and marks, as a regular expression. `model` names a model of budoux. It sees a run
    of such characters between two `edge`s, so that the words do not depend on what surrounds the run.
    """

    characters: str
    model: str
    edge: str


JAPANESE = Segmentation(
    characters=r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}]&&[\p{L}\p{M}]]",  # `scx`: with the long-vowel mark
    model="ja_word",
    edge="。",
)
THAI = Segmentation(characters=r"[\p{Script=Thai}&&[\p{L}\p{M}\p{N}]]", model="th", edge=" ")


def segmented_words(text: str, segmentation: Segmentation) -> Iterator[str]:
    """The words of a normalized text. Other scripts in it are cut as words.py cuts them."""
    for match in _pattern(segmentation).finditer(text):
        if match["run"]:
            edge = segmentation.edge
            chunks = _parser(segmentation.model).parse(f"{edge}{match['run']}{edge}")
            yield from filter(None, (chunk.strip(edge) for chunk in chunks))
        else:
            yield match[0]


@cache
def _pattern(segmentation: Segmentation) -> regex.Pattern[str]:
    return regex.compile(rf"(?P<run>{segmentation.characters}+)|{WORD_PATTERN}", flags=regex.V1)


@cache
def _parser(model: str) -> Parser:
    from budoux import Parser

    return Parser(json.loads((files("budoux") / "models" / f"{model}.json").read_text(encoding="utf-8")))
