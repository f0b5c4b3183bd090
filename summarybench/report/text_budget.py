"""How many documents of a long run have their texts on the page: as many as a browser still opens quickly."""

from __future__ import annotations

from summarybench.report.documents import DocumentView

MOST_TEXT_BYTES = 2_500_000
"""With the figures of 1,000 documents in four experiments, a page has less than 5 MB."""
BYTES_OF_A_MARK = 11
"""`<ins></ins>`, around each change that is highlighted."""


class TextBudget:
    """The bytes that are left for texts. Call it with each document in turn: it says whether the document's texts still fit."""

    def __init__(self, most_bytes: int = MOST_TEXT_BYTES) -> None:
        self._left = most_bytes

    def __call__(self, document: DocumentView) -> bool:
        self._left -= text_bytes(document)
        return self._left >= 0


def text_bytes(document: DocumentView) -> int:
    """The bytes of the document's texts on the page."""
    texts = [document.text, document.reference]
    marks = 0
    for each in document.summaries:
        texts += [piece.text for piece in each.changes] if each.changes else [each.summary]
        marks += sum(piece.kind != "same" for piece in each.changes)
    return sum(len(text.encode()) for text in texts if text) + BYTES_OF_A_MARK * marks
