"""What a reader gets from an HTML page: its text in reading order, rows of tables, and the words in its charts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta", "link", "input", "img", "br", "hr"})
UNREAD = frozenset({"style", "script"})
BLOCKS = frozenset(
    {
        "title", "header", "nav", "main", "footer", "section", "h1", "h2", "h3", "p", "ul", "ol", "li", "div", "details",
        "summary", "figure", "figcaption", "table", "caption", "form", "option",
    }
)  # fmt: skip
"""Elements that begin a line of their own, unless they are within ONE_LINE."""
ONE_LINE = frozenset({"article", "tr"})
"""Elements whose whole contents are one line."""
HEADINGS = {"h1": "# ", "h2": "## ", "h3": "### "}


@dataclass(frozen=True)
class PageText:
    """The lines of a page, and apart from them the definitions of its figures, which are the same on every page."""

    lines: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)


@dataclass
class _Open:
    tag: str
    is_hidden: bool
    is_definition: bool
    is_one_line: bool


@dataclass
class _Chart:
    words: str
    labels: list[str] = field(default_factory=list)
    tips: list[str] = field(default_factory=list)

    def lines(self, before: _Chart | None) -> Iterator[str]:
        """A chart that is drawn again in another width differs from the one before it in its labels alone."""
        if before is None or self.words != before.words:
            first, *others = self.words.split("; ")
            yield f"[chart] {first}"
            yield from (f"[chart]   {each}" for each in others)
        yield f"[labels] {' / '.join(self.labels)}"
        if before is not None and self.tips == before.tips:
            yield f"[tips] the same {len(self.tips)}"
        else:
            yield from (f"[tip] {each}" for each in self.tips)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found = PageText()
        self._open: list[_Open] = []
        self._pieces: list[str] = []
        self._chart: _Chart | None = None
        self._described: _Chart | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        outer = self._open[-1] if self._open else _Open("", is_hidden=False, is_definition=False, is_one_line=False)
        if not outer.is_one_line and (tag in BLOCKS or tag in ONE_LINE or tag == "svg"):
            self._end_line()
        if tag in VOID:
            return
        self._open.append(
            _Open(
                tag=tag,
                is_hidden=outer.is_hidden or tag in UNREAD or attributes.get("aria-hidden") == "true",
                is_definition=outer.is_definition
                or "popover" in attributes
                or (attributes.get("class") == "terms" and tag == "dl"),
                is_one_line=outer.is_one_line or tag in ONE_LINE or tag == "svg",
            )
        )
        self._begin_piece(tag, attributes)

    def _begin_piece(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "svg":
            self._chart = _Chart(attributes.get("aria-label") or "")
        elif tag in ("td", "th"):
            self._pieces.append("| ")
        elif tag in HEADINGS and not self._open[-1].is_one_line:
            self._pieces.append(HEADINGS[tag])

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID or not any(each.tag == tag for each in self._open):
            return
        if tag == "tr":
            self._pieces.append("|")
        if tag == "svg":
            self._end_chart()
        is_line = tag in BLOCKS or tag in ONE_LINE or tag == "svg"
        if is_line and not any(each.is_one_line for each in self._open[:-1]):
            self._end_line()
        elif is_line or tag in ("td", "th", "dt"):
            self._pieces.append(" ")
        while self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1].is_hidden:
            return
        if self._chart is None:
            self._pieces.append(data)
        elif words := " ".join(data.split()):
            kind = self._chart.tips if self._open[-1].tag == "title" else self._chart.labels
            kind.append(words)

    def _end_chart(self) -> None:
        if self._chart is not None:
            self.found.lines.extend(self._chart.lines(self._described))
            self._described, self._chart = self._chart, None

    def _end_line(self) -> None:
        line = " ".join("".join(self._pieces).split())
        self._pieces.clear()
        if not line:
            return
        is_definition = bool(self._open) and self._open[-1].is_definition
        if not is_definition:
            self.found.lines.append(line)
        elif line not in self.found.definitions:
            self.found.definitions.append(line)


def page_text(html: str) -> PageText:
    """Read a page. Text that is hidden from screen readers, which is shown twice or is a mere sign, is left out."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.found
