"""Text that somebody else wrote, made safe to show."""

from __future__ import annotations


def printable(text: str, *, kept: str = "") -> str:
    r"""The text with control and format characters escaped, such as `\x1b`, apart from those in `kept`.

    A terminal or a page must not obey what a model or a server wrote.
    """
    if is_printable_apart_from(kept, text):
        return text
    return "".join(each if each.isprintable() or each in kept else ascii(each)[1:-1] for each in text)


def is_printable_apart_from(kept: str, text: str) -> bool:
    """Whether all characters but those in `kept` are printable: most texts are, and are not looked at one by one."""
    for character in kept:
        text = text.replace(character, "")
    return text.isprintable()
