"""What a kind keeps open between its tests: one thing at a time, until another is opened or it is no longer usable."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from summarybench.core.outcomes import UnavailableError
from summarybench.session.kept_open import KeptOpen


class Opened:
    """Opens numbered things, and notes what happened to them."""

    def __init__(self):
        self.events = []

    @contextmanager
    def __call__(self):
        number = len([each for each in self.events if each.startswith("open")])
        self.events.append(f"open {number}")
        yield number
        self.events.append(f"close {number}")


def test_same_key_shares_and_another_one_closes_what_was_open():
    kept, make = KeptOpen(), Opened()
    assert [kept.get(key, make) for key in ("a", "a", "b", "a")] == [0, 0, 1, 2]
    assert make.events == ["open 0", "close 0", "open 1", "close 1", "open 2"]
    kept.close()
    assert make.events[-1] == "close 2"


def test_what_is_no_longer_usable_is_closed_and_opened_again():
    kept, make = KeptOpen(), Opened()
    kept.get("a", make)
    assert kept.get("a", make, lambda number: number > 0) == 1
    assert kept.get("a", make, lambda number: number > 0) == 1
    assert make.events == ["open 0", "close 0", "open 1"]


def test_what_could_not_be_opened_is_not_tried_again():
    tried = []

    @contextmanager
    def make():
        tried.append(1)
        raise UnavailableError("not here")
        yield

    kept = KeptOpen()
    for _ in range(2):
        with pytest.raises(UnavailableError, match="not here"):
            kept.get("a", make)
    assert len(tried) == 1
