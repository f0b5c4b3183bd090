"""`python -m tests.check_links`: every relative link and anchor in README.md and docs/ leads somewhere. No network."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parent.parent

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?^ {0,3}\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+).+?\1")
INLINE = re.compile(r"\]\(\s*<?(?P<target>[^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
DEFINED = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(?P<target>[^\s>]+)>?", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(?P<text>.+?)\s*#*$", re.MULTILINE)
NAMED = re.compile(r"<a\s+(?:id|name)=\"(?P<name>[^\"]+)\"")
LINKED = re.compile(r"!?\[(?P<text>[^\]]*)\]\([^)]*\)")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def main(root: Path = ROOT) -> int:
    """Print each broken link with its page and line; 1 where there is one."""
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    broken = [problem for page in pages for problem in broken_links(page, root)]
    for problem in broken:
        print(problem, file=sys.stderr)
    print(f"{len(pages)} pages: {len(broken)} broken links")
    return 1 if broken else 0


def broken_links(page: Path, root: Path) -> Iterator[str]:
    """One line for each link of a page whose file or anchor does not exist, or lies outside the project."""
    text = _without_code(page.read_text(encoding="utf-8"))
    for pattern in (INLINE, DEFINED):
        for found in pattern.finditer(text):
            target = found["target"]
            why = None if SCHEME.match(target) else _why_broken(target, page, root)
            if why:
                line = text.count("\n", 0, found.start()) + 1
                yield f"{page.relative_to(root)}:{line}: {target}: {why}"


def anchors_of(markdown: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings, and those that it names itself."""
    seen: dict[str, int] = {}
    anchors = {found["name"] for found in NAMED.finditer(markdown)}
    for found in HEADING.finditer(FENCE.sub("", markdown)):
        anchor = _anchor(found["text"])
        repeated = seen.get(anchor, 0)
        seen[anchor] = repeated + 1
        anchors.add(f"{anchor}-{repeated}" if repeated else anchor)
    return anchors


def _anchor(heading: str) -> str:
    plain = LINKED.sub(lambda found: found["text"], heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


def _without_code(markdown: str) -> str:
    """The text with code blanked out, line ends kept so that line numbers stay true."""

    def blank(found: re.Match[str]) -> str:
        return "\n" * found[0].count("\n")

    return CODE.sub(blank, FENCE.sub(blank, markdown))


def _why_broken(target: str, page: Path, root: Path) -> str | None:
    name, _, anchor = unquote(target).partition("#")
    file = (page.parent / name).resolve() if name else page.resolve()
    if not file.is_relative_to(root.resolve()):
        return "outside the project"
    if not file.exists():
        return "no such file"
    if anchor and anchor not in anchors_of(file.read_text(encoding="utf-8")):
        return "no such heading"
    return None


if __name__ == "__main__":
    sys.exit(main())
