"""Turns the rows of a source into documents: WikiLingua's nested schema, or flat columns."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from summarybench.core.outcomes import InputError
from summarybench.core.strict_json import is_valid_unicode
from summarybench.documents.document import Document, Reason
from summarybench.documents.words import has_words

TEXT_COLUMNS = ("document", "article", "text", "dialogue")
SUMMARY_COLUMNS = ("summary", "highlights", "abstract", "target")
ID_COLUMNS = ("url", "id")
SECTION_COLUMNS = ("section_name", "section", "title")
"""The usual names of columns, in any case. A column of the last two kinds may be missing."""

LONGEST_NAME = 60
"""Characters of a column's name in a message. A longer one is probably a document."""

Located = tuple[str, Any]
"""A row and its location for messages."""


class TableRow(dict[str, Any]):
    """A row of a table. `header` is the location of the line that names its columns, for messages."""

    def __init__(self, values: Mapping[str, Any], header: str) -> None:
        super().__init__(values)
        self.header = header


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns that --text-column and --summary-column name; None for those to guess."""

    text: str | None = None
    summary: str | None = None

    @property
    def are_given(self) -> bool:
        return self.text is not None or self.summary is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """The documents of a source's rows, and what was dropped. `columns` says which columns they were read from."""

    documents: tuple[Document, ...]
    dropped: Mapping[Reason, int]
    columns: str = ""


def extract(rows: Iterable[Located], columns: Columns) -> Extracted:
    """The documents of a user's rows. Distinct documents are kept, whatever their urls and section names.

    A reference without any word cannot be scored and counts as none. The first row decides between the nested schema and flat
    columns, and all rows together on the columns: objects of JSON Lines may leave out those without a value. Raises
    InputError with the place of a row that does not follow the schema.
    """
    first, rows = _peeked(rows)
    if first is None:
        return Extracted(documents=(), dropped={})
    found: Iterable[Document]
    if _is_nested(first) and not columns.are_given:
        found, described = chain.from_iterable(map(_sections, rows)), ""
    else:
        rows = list(rows)
        layout = _layout_of(first, rows, columns)
        found, described = map(layout.document, rows), layout.description
    dropped: Counter[Reason] = Counter()
    kept = []
    for document in found:
        if document.text:
            kept.append(document if has_words(document.reference) else replace(document, reference=""))
        else:
            dropped[Reason.NO_TEXT] += 1
    distinct = tuple(dict.fromkeys(kept))
    if len(distinct) < len(kept):
        dropped[Reason.EQUAL] = len(kept) - len(distinct)
    return Extracted(documents=_with_own_ids(distinct), dropped=dict(dropped), columns=described)


def extract_pinned(rows: Iterable[Located]) -> Extracted:
    """The documents of a source that ships with the suite or is pinned by it.

    Its stored runs fix which documents it has: sections with a text and a summary, and of two with one name the first.
    """
    dropped: Counter[Reason] = Counter()
    by_id: dict[str, Document] = {}
    for document in chain.from_iterable(map(_sections, rows)):
        if not document.text or not document.reference:
            dropped[Reason.NO_REFERENCE if document.text else Reason.NO_TEXT] += 1
        elif document.id in by_id:
            dropped[Reason.SAME_NAME] += 1
        else:
            by_id[document.id] = document
    return Extracted(documents=tuple(by_id.values()), dropped=dict(dropped))


def with_words_only(found: Extracted) -> Extracted:
    """The documents whose reference summaries have words, as others cannot be scored."""
    kept = tuple(each for each in found.documents if has_words(each.reference))
    if len(kept) == len(found.documents):
        return found
    return replace(found, documents=kept, dropped={**found.dropped, Reason.NO_WORDS: len(found.documents) - len(kept)})


def _peeked(rows: Iterable[Located]) -> tuple[Located | None, Iterable[Located]]:
    remaining = iter(rows)
    first = next(remaining, None)
    return first, remaining if first is None else chain([first], remaining)


def _with_own_ids(documents: Sequence[Document]) -> tuple[Document, ...]:
    """The documents, with a digest of the content in the section name of those that share url and section name."""
    counts = Counter((document.url, document.section) for document in documents)
    return tuple(
        replace(document, section=f"{document.section} [{content_digest(document)}]".lstrip())
        if counts[document.url, document.section] > 1
        else document
        for document in documents
    )


def content_digest(document: Document) -> str:
    """Identifies a document's text and reference."""
    content = f"{len(document.text)}\n{document.text}\n{document.reference}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# WikiLingua's schema -------------------------------------------------------------------------------------------------


def _is_nested(located: Located) -> bool:
    """Whether a row looks like WikiLingua's schema. Flat columns have no `article`, a text in it, or columns beside it."""
    _, row = located
    return isinstance(row, Mapping) and (isinstance(row.get("article"), Mapping) or row.keys() == {"url", "article"})


def _sections(located: Located) -> Iterator[Document]:
    where, row = located
    try:
        url, article = row["url"], row["article"]
        columns = [_listed(article[name]) for name in ("section_name", "document", "summary")]
        sections = list(zip(*columns, strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f'{where}: not WikiLingua\'s schema {{"url": …, "article": {{"section_name": […], "document": […], "summary": […]}}}}'
            f" with lists of one length ({type(error).__name__}: {error}); docs/guide/documents.md shows all formats"
        ) from error
    for value in (url, *chain.from_iterable(sections)):
        if not isinstance(value, str) or not is_valid_unicode(value):
            raise InputError(f"{where}: url, section names, documents and summaries must be strings of valid Unicode")
    for name, text, summary in sections:
        yield Document(url=url, section=name, text=text.strip(), reference=summary.strip())


def _listed(column: Any) -> list[Any]:
    if not isinstance(column, list):
        raise TypeError(f"{type(column).__name__} in place of a list")
    return column


# Flat columns --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """The columns of a flat source. Those without a name do not exist."""

    text: str
    summary: str | None
    id: str | None
    section: str | None

    @property
    def description(self) -> str:
        """Which columns are read, for the user to check; it says more if no column holds summaries."""
        summaries = f"summaries from {self.summary!r}" if self.summary else "no column of reference summaries"
        remedy = "" if self.summary else " (--summary-column names one)"
        return f"documents from column {self.text!r}, {summaries}{remedy}"

    def document(self, located: Located) -> Document:
        """The row's document. Without a column of ids, its content identifies it."""
        where, row = located
        if not isinstance(row, Mapping):
            raise InputError(f"{where}: {type(row).__name__} in place of an object with the column {self.text!r}")
        if self.text not in row:
            raise InputError(f"{where}: has no column {self.text!r}; it has {_listing(row)}")
        document = Document(
            url=self._value(located, self.id, is_name=True),
            section=self._value(located, self.section, is_name=True),
            text=self._value(located, self.text),
            reference=self._value(located, self.summary),
        )
        return document if document.url else replace(document, url=f"text:{content_digest(document)}")

    def _value(self, located: Located, column: str | None, *, is_name: bool = False) -> str:
        """The column's value, stripped. Null counts as empty, and an id or a title may be a number."""
        where, row = located
        value = row.get(column) if column else None
        if value is None:
            return ""
        if is_name and isinstance(value, (int, float)):
            value = str(value)
        if not isinstance(value, str) or not is_valid_unicode(value):
            found = "half a surrogate pair" if isinstance(value, str) else type(value).__name__
            raise InputError(f"{where}: column {column!r} must hold text in valid Unicode, not {found}")
        return value.strip()


def _layout_of(first: Located, rows: Iterable[Located], columns: Columns) -> _Layout:
    """The columns to read. Raises InputError where they cannot be guessed, or a given one does not exist."""
    where, row = first
    if not isinstance(row, Mapping) or not row:
        found = "an empty object" if isinstance(row, Mapping) else type(row).__name__
        raise InputError(
            f'{where}: {found} in place of an object with columns, such as {{"text": "…", "summary": "…"}}'
        )
    if isinstance(row, TableRow):
        where = row.header
    names = list(dict.fromkeys(str(name) for _, each in rows if isinstance(each, Mapping) for name in each))
    text = _column(names, columns.text, TEXT_COLUMNS, "--text-column", where)
    if text is None:
        raise InputError(
            f"{where}: no column of documents among {_listing(names)} (looked for {', '.join(TEXT_COLUMNS)}); "
            f"name it with --text-column{_about_headings(names)}"
        )
    others = [name for name in names if name != text]
    return _Layout(
        text=text,
        summary=_column(others, columns.summary, SUMMARY_COLUMNS, "--summary-column", where),
        id=_first(others, ID_COLUMNS),
        section=_first(others, SECTION_COLUMNS),
    )


def _column(names: Sequence[str], given: str | None, usual: Sequence[str], option: str, where: str) -> str | None:
    """The given column, or the only one with a usual name; None where no column has one."""
    if given is not None:
        if given in names:
            return given
        close = [name for name in names if name.lower() == given.lower()] or difflib.get_close_matches(
            given, names, n=1
        )
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {_listing(names)}"
        raise InputError(f"{option} {given}: {where} has no such column; {hint}")
    found = [name for name in names if name.strip().lower() in usual]
    if len(found) > 1:
        raise InputError(f"{where}: {_listing(found)} could each be meant; name one with {option}")
    return found[0] if found else None


def _first(names: Sequence[str], usual: Sequence[str]) -> str | None:
    return next((name for each in usual for name in names if name.strip().lower() == each), None)


def _listing(names: Iterable[str]) -> str:
    """The first names, quoted; a table may have hundreds."""
    listed = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in names]
    return ", ".join(map(repr, listed[:12])) + (", …" if len(listed) > 12 else "")


def _about_headings(names: Sequence[str]) -> str:
    """A question for the user if a name is so long that it must be a document."""
    is_text = any(len(name) > LONGEST_NAME for name in names)
    return ", or does the first line hold a document in place of the names?" if is_text else ""
