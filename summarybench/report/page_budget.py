"""How many documents of a long run are on the page, and how many with their texts: as many as a browser still opens quickly."""

from __future__ import annotations

from summarybench.report.documents import DocumentView

MOST_BYTES = 2_500_000
"""Of figures, and as many of texts. 1,000 documents in four experiments have all their figures on a page of less than 5 MB."""
BYTES_OF_A_DOCUMENT, BYTES_OF_A_CARD = 600, 300
"""Its line in the list, and the figures of one experiment in it, with a long name and a few flags."""
BYTES_OF_A_MARK = 11
"""`<ins></ins>`, around each change that is highlighted."""


class PageBudget:
    """The bytes that are left for figures and for texts. Ask about each document in turn, until there is no room for it."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._for_figures = self._for_texts = most_bytes

    def has_room_for_figures(self, experiments: int) -> bool:
        """Whether a document of so many experiments still fits."""
        self._for_figures -= BYTES_OF_A_DOCUMENT + experiments * BYTES_OF_A_CARD
        return self._for_figures >= 0

    def has_room_for_texts(self, document: DocumentView) -> bool:
        """Whether the document's texts still fit."""
        self._for_texts -= text_bytes(document)
        return self._for_texts >= 0


def text_bytes(document: DocumentView) -> int:
    """The bytes of the document's texts on the page."""
    texts = [document.text, document.reference]
    marks = 0
    for each in document.summaries:
        texts += [piece.text for piece in each.changes] if each.changes else [each.summary]
        marks += sum(piece.kind != "same" for piece in each.changes)
    return sum(len(text.encode()) for text in texts if text) + BYTES_OF_A_MARK * marks
