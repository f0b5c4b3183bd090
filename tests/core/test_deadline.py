"""Calls that are given up when they take too long."""

from __future__ import annotations

import time

import pytest

from summarybench.core.deadline import within


def raising(error):
    raise error


def test_work_that_takes_too_long_is_given_up():
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
        within(0.01, lambda: time.sleep(0.5))


def test_work_in_time_returns_and_raises_as_it_does_alone():
    assert within(5, lambda: 42) == 42
    with pytest.raises(KeyError, match="gone"):
        within(5, lambda: raising(KeyError("gone")))
