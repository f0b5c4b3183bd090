"""How many documents of a long run have their texts on the page: as many as a browser still opens quickly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from summarybench.report.documents import DocumentView

MOST_TEXT_BYTES = 2_500_000
"""With the figures of 1,000 documents in four experiments, a page has less than 5 MB."""
BYTES_OF_A_MARK = 11
"""`<ins></ins>`, around each change that is highlighted."""


def within_budget(documents: Iterable[DocumentView], most_bytes: int = MOST_TEXT_BYTES) -> Iterator[DocumentView]:
    """The documents in the same order. From the first one whose texts no longer fit on, they have figures alone."""
    left = most_bytes
    for document in documents:
        left -= text_bytes(document) if left >= 0 else 0
        yield document if left >= 0 else without_texts(document)


def text_bytes(document: DocumentView) -> int:
    """The bytes of the document's texts on the page."""
    texts = [document.text, document.reference]
    marks = 0
    for each in document.summaries:
        texts += [piece.text for piece in each.changes] if each.changes else [each.summary]
        marks += sum(piece.kind != "same" for piece in each.changes)
    return sum(len(text.encode()) for text in texts if text) + BYTES_OF_A_MARK * marks


def without_texts(document: DocumentView) -> DocumentView:
    """The document with the figures of its summaries alone, as a stored run has it."""
    summaries = tuple(replace(each, summary=None, changes=(), against="") for each in document.summaries)
    return replace(document, text=None, reference=None, summaries=summaries)
