"""Text that somebody else wrote, made safe to show."""

from __future__ import annotations


def printable(text: str, *, kept: str = "") -> str:
    r"""The text with control and format characters escaped, such as `\x1b`, apart from those in `kept`.

    A terminal or a page must not obey what a model or a server wrote.
    """
    others = text
    for character in kept:
        others = others.replace(character, "")
    if others.isprintable():
        return text
    return "".join(each if each.isprintable() or each in kept else ascii(each)[1:-1] for each in text)
