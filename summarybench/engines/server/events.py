"""Server-sent events, taken from a stream of bytes as they arrive (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

import re

END_OF_LINE = re.compile(rb"\r\n|\n|\r(?!$)")
"""A carriage return at the end of what has arrived is not taken yet: its line feed may come next."""


class EventTooLargeError(ValueError):
    """An event, or a line that never ends, is larger than allowed."""


class EventDecoder:
    """Turns the bytes of a stream into the data of its events. `limit` is the most bytes of one event.

    Names, ids and comments are passed over. An event that the stream cuts short is never returned.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, arrived: bytes) -> list[bytes]:
        """The data of the events that these bytes complete. Raises EventTooLargeError."""
        *lines, self._rest = END_OF_LINE.split(self._rest + arrived)
        events = []
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        self._check_size(self._size + len(self._rest))
        return events

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
            self._check_size(self._size)

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise EventTooLargeError(f"an event exceeded the limit of {self._limit:,} bytes")
