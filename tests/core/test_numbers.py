"""Numbers, intervals, sizes and times as they are written."""

from __future__ import annotations

import pytest

from summarybench.core import numbers
from summarybench.core.numbers import GIB


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.decimal(12.345, 1), "12.3"),
        (numbers.decimal(None, 1), "–"),
        (numbers.decimal(-0.001, 1, signed=True), "+0.0"),
        (numbers.percent(0.123), "12%"),
        (numbers.percent(0.123, 1, signed=True), "+12.3%"),
        (numbers.percent(-0.0001, 1, signed=True), "+0.0%"),
        (numbers.percent(None), "–"),
        (numbers.gib(5.5 * GIB), "5.50"),
        (numbers.gib(None), "–"),
        (numbers.grouped(12_345.6), "12,346"),
        (numbers.grouped(12_345.67, 1), "12,345.7"),
        (numbers.significant(0.00123, 2), "0.0012"),
        (numbers.significant(0.0000123, 2), "1.2e-05"),
        (numbers.trimmed(250.0), "250"),
        (numbers.trimmed(0.05), "0.05"),
        (numbers.interval(-0.24, 1.25, 1, signed=True), "[-0.2, +1.2]"),
        (numbers.interval(0.855, 0.9449, 3), "[0.855, 0.945]"),
        (numbers.percent_interval(0.05, 0.15), "[5.0%, 15.0%]"),
        (numbers.estimate(0.9, 0.855, 0.945, 3), "0.900 [0.855, 0.945]"),
        (numbers.span(53.9, 54.1, 1), "53.9–54.1"),
        (numbers.duration(387), "6 min 27 s"),
        (numbers.duration(27.4), "27 s"),
        (numbers.counted(1, "document"), "1 document"),
        (numbers.counted(["a", "b"], "batch", "batches"), "2 batches"),
    ],
)
def test_numbers_are_written(written, expected):
    assert written == expected


@pytest.mark.parametrize(
    ("value", "spec", "expected"),
    [(1234.56, ".1f", "1,234.6"), (1234, "d", "1,234"), (0.5, ".1%", "50.0%"), (-1234.5, "+.1f", "-1,234.5")],
)
def test_thousands_are_separated_only_in_numbers_that_have_them(value, spec, expected):
    assert numbers.formatted(value, spec, grouped=True) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2.834e12, "2.83 TB/s"), (651e9, "651 GB/s"), (1.5e6, "1.5 MB/s"), (159_000, "159 kB/s"), (12.3, "12.3 B/s")],
)
def test_prefix_replaces_three_zeros(value, expected):
    assert numbers.prefixed(value, "B/s") == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s")],
)
def test_durations_are_as_exact_as_they_are_long(seconds, expected):
    assert numbers.short_duration(seconds) == expected
