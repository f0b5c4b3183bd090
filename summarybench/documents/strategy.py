"""How documents are read that do not fit in one prompt; long_documents.py does it."""

from __future__ import annotations

from enum import StrEnum


class Strategy(StrEnum):
    """What is done with a document that does not fit in one prompt."""

    TRUNCATE = "truncate"
    MAP_REDUCE = "map-reduce"
    REFINE = "refine"
