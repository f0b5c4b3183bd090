"""How numbers, intervals, sizes and times are written in reports, tables and messages."""

from __future__ import annotations

import re
from collections.abc import Sized

GIB = 1024**3
"""Bytes in a GiB."""

MISSING = "–"
"""Shown in place of a figure that was not measured."""

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def formatted(value: float | None, spec: str, *, grouped: bool = False) -> str:
    """The number by a format specification such as `.1f` or `.0%`. `grouped` separates thousands by commas.

    Raises ValueError for a specification that does not fit the number.
    """
    if value is None:
        return MISSING
    return format(value, re.sub(r"(?=\.\d+f$|d$)", ",", spec) if grouped else spec)


def decimal(value: float | None, digits: int, *, signed: bool = False) -> str:
    """12.3 with one digit. `signed` writes the plus of a positive number."""
    return formatted(value, f"{'+z' if signed else ''}.{digits}f")


def grouped(value: float | None, digits: int = 0) -> str:
    """1,234.5 with one digit."""
    return formatted(value, f".{digits}f", grouped=True)


def significant(value: float, digits: int) -> str:
    """0.0012 with two significant digits, and 1.2e-05 for small numbers."""
    return formatted(value, f".{digits}g")


def trimmed(value: float) -> str:
    """At most six significant digits and no trailing zeros: 250 and 0.05."""
    return formatted(value, "g")


def percent(share: float | None, digits: int = 0, *, signed: bool = False) -> str:
    """0.123 as 12%, or with one digit as 12.3%. `signed` writes the plus of a positive share and of none."""
    return formatted(share, f"{'+z' if signed else ''}.{digits}%")


def deviation(share: float) -> str:
    """A relative standard deviation: 6.8%, and below 0.1% with one more digit, as 0.03%."""
    return percent(share, 2 if 0 < share < 0.001 else 1)


def gib(size_bytes: float | None, digits: int = 2) -> str:
    """Bytes in GiB, without the unit."""
    return MISSING if size_bytes is None else decimal(size_bytes / GIB, digits)


def interval(low: float, high: float, digits: int, *, signed: bool = False) -> str:
    """[0.855, 0.945]. `signed` writes the plus of positive numbers."""
    return f"[{decimal(low, digits, signed=signed)}, {decimal(high, digits, signed=signed)}]"


def percent_interval(low: float, high: float, digits: int = 1) -> str:
    """[5.0%, 15.0%], from shares."""
    return f"[{percent(low, digits)}, {percent(high, digits)}]"


def estimate(value: float, low: float, high: float, digits: int) -> str:
    """0.900 [0.855, 0.945]: a number and its interval."""
    return f"{decimal(value, digits)} {interval(low, high, digits)}"


def span(low: float, high: float, digits: int) -> str:
    """53.9–54.1: the smallest and the largest of several numbers, or an interval where brackets take too much room."""
    return f"{decimal(low, digits)}–{decimal(high, digits)}"


def prefixed(value: float, unit: str) -> str:
    """2.83 TB/s: three significant digits, and the unit with its prefix."""
    factor, prefix = next((each for each in PREFIXES if value >= each[0]), (1, ""))
    return f"{significant(value / factor, 3)} {prefix}{unit}"


def duration(seconds: float) -> str:
    """6 min 27 s, or 27 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def short_duration(seconds: float) -> str:
    """As `duration`, and below 10 s with one digit, as 0.4 s."""
    return f"{decimal(seconds, 1)} s" if seconds < 9.95 else duration(seconds)


def counted(things: int | Sized, singular: str, plural: str = "") -> str:
    """1 document, 2 documents. `plural` defaults to the singular with an s."""
    count = things if isinstance(things, int) else len(things)
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"
