"""The definitions of all figures, in groups: for docs/reference/metrics.md, and for the HTML page."""

from __future__ import annotations

from collections.abc import Iterator

from summarybench.report.figures import (
    batches,
    comparison,
    continuous,
    cost,
    device,
    faithfulness,
    long_documents,
    memory,
    profile,
    quality,
    speed,
    students,
    ways,
)
from summarybench.report.figures.figure import Term
from summarybench.report.view import RunView

COMMON = tuple(each.GROUP for each in (comparison, speed, memory, device, quality, faithfulness, ways))
"""The terms that every HTML page explains."""

OF_SOME_KINDS = tuple(each.GROUP for each in (batches, continuous, long_documents, students, profile, cost))
"""The terms that a page explains if it shows them."""


def terms_of(view: RunView) -> dict[str, Term]:
    """The terms of a page by their key: the common ones, and those of the kinds that it shows."""
    return {term.key: term for term in (*_common(), *_shown(view))}


def _common() -> Iterator[Term]:
    for group in COMMON:
        yield from group.terms


def _shown(view: RunView) -> Iterator[Term]:
    for table in view.kind_tables:
        yield from (column.figure for column in table.columns)
