"""Damage files as disks, editors, other programs and attackers do: seeded, so that each failure can be repeated."""

from __future__ import annotations

import copy
import json
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any

STRANGE_TEXTS = (
    "",
    "text",
    "../../outside",
    "/etc/passwd",
    "a\nb",
    "\x1b[31mred",
    "\u202egnp.exe",
    "\x00",
    "@everyone",
    "NaN",
)
STRANGE_NUMBERS = (0, -1, 3.5, 10**30, 1e300, -1e300, float("nan"), float("inf"), 2)
STRANGE_VALUES = ({"a": 1}, ["a"], [], {}, None, True, *STRANGE_TEXTS, *STRANGE_NUMBERS)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each key and list item inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def with_damaged_value(found: Any, generator: random.Random) -> Any:
    """A copy of a JSON value in which something is missing, twice there, or another value."""
    found = copy.deepcopy(found)
    everywhere = list(places(found))
    if not everywhere:
        return generator.choice(STRANGE_VALUES)
    *where, key = generator.choice(everywhere)
    parent = found
    for each in where:
        parent = parent[each]
    what = generator.randrange(4)
    if what == 0:
        parent.pop(key)
    elif what == 1 and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    elif what == 2 and isinstance(parent[key], list):
        parent[key] = [*parent[key], *parent[key][:1]]
    else:
        parent[key] = generator.choice(STRANGE_VALUES)
    return found


def damaged_json(content: bytes, generator: random.Random) -> bytes:
    return json.dumps(with_damaged_value(json.loads(content), generator)).encode()


def damaged_line(content: bytes, generator: random.Random) -> bytes:
    """JSON Lines of which one is damaged, twice there, missing, or somewhere else."""
    lines = content.splitlines()
    number = generator.randrange(len(lines))
    what = generator.randrange(6)
    if what == 0:
        lines.insert(generator.randrange(len(lines) + 1), lines[number])
    elif what == 1:
        lines.pop(number)
    elif what == 2:
        lines.insert(generator.randrange(len(lines)), lines.pop(number))
    else:
        lines[number] = damaged_json(lines[number], generator)
    return b"\n".join(lines) + b"\n"


def damaged_checked_line(content: bytes, generator: random.Random) -> bytes:
    """As `damaged_line`, of a journal whose checksums are made anew: as by someone who knows how."""
    damaged = damaged_line(content, generator).splitlines()
    return b"\n".join(_checked_anew(line) for line in damaged) + b"\n"


def _checked_anew(line: bytes) -> bytes:
    record = json.loads(line)
    if not isinstance(record, dict):
        return line
    record.pop("crc32", None)
    text = json.dumps(record)[:-1].encode()
    return text + b', "crc32": "%08x"}' % zlib.crc32(text + b"}")


def damaged_bytes(content: bytes, generator: random.Random) -> bytes:
    """Some bytes changed, cut off, twice there or in between."""
    start = generator.randrange(len(content))
    end = min(len(content), start + generator.randrange(1, 64))
    changes: tuple[Callable[[], bytes], ...] = (
        lambda: content[:start],
        lambda: content[:start] + bytes([content[start] ^ (1 << generator.randrange(8))]) + content[start + 1 :],
        lambda: content[:start] + content[end:],
        lambda: content[:end] + content[start:],
        lambda: content[:start] + bytes(64) + content[end:],
        lambda: content[:start] + b"[" * 100_000 + content[end:],
        lambda: content[:start] + b"NaN" + content[end:],
        lambda: b"",
    )
    return generator.choice(changes)()
