"""docs/reference/metrics.md: the definition of every figure that the reports show."""

from __future__ import annotations

from collections.abc import Iterator

from summarybench.kinds.registry import KINDS
from summarybench.report.figures.declared import group_of_kind
from summarybench.report.figures.figure import Figure, Group, Term
from summarybench.report.glossary import COMMON, OF_SOME_KINDS
from summarybench.report.markdown import escaped, markdown_row

HEADINGS = ("figure", "in the terminal", "unit", "better", "definition")


def metrics_page() -> str:
    """A table for each group of figures, with a heading."""
    groups = (*COMMON, *OF_SOME_KINDS, *_declared_groups())
    return "\n".join(line for group in groups for line in _group_lines(group))


def _declared_groups() -> Iterator[Group]:
    """The figures that kinds of benchmark declare themselves."""
    for kind in KINDS.values():
        if kind.facts.figures:
            yield group_of_kind(kind.facts)


def _group_lines(group: Group) -> Iterator[str]:
    yield f"## {group.title}"
    yield ""
    yield markdown_row(HEADINGS)
    yield markdown_row(["---"] * len(HEADINGS))
    yield from (markdown_row([escaped(each) for each in _cells(term)]) for term in group.terms)
    yield ""


def _cells(term: Term) -> list[str]:
    if not isinstance(term, Figure):
        return [term.name, "", "", "", term.definition]
    return [term.name, term.short_line, term.unit, term.better.value, term.definition]
