"""Server-sent events from bytes that arrive in any pieces."""

from __future__ import annotations

import pytest

from summarybench.engines.server.events import EventDecoder, EventTooLargeError

STREAM = b": hello\r\nevent: x\r\ndata: one\r\n\r\ndata:two\ndata: three\n\nid: 7\n\ndata: \xc3\xa4\r\rdata: cut"
EVENTS = [b"one", b"two\nthree", b"\xc3\xa4"]


def decoded(pieces, limit=1_000):
    decoder = EventDecoder(limit)
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_data_is_returned_and_names_ids_comments_and_a_cut_event_are_not():
    assert decoded([STREAM]) == EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_pieces_of_any_size_give_the_same_events(size):
    assert decoded([STREAM[at : at + size] for at in range(0, len(STREAM), size)]) == EVENTS


def test_line_feed_of_a_divided_line_end_ends_no_second_line():
    assert decoded([b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"]) == [b"a\nb"]


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 20, b"data: xxxxxx\n" * 4, b"x" * 30])
def test_event_or_line_beyond_the_limit_is_refused(stream):
    with pytest.raises(EventTooLargeError, match="exceeded the limit of 16 bytes"):
        decoded([stream], limit=16)
