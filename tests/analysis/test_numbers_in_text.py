"""Numbers and dates in texts: one value however they are written, in every script."""

from __future__ import annotations

from fractions import Fraction

import pytest

from summarybench.analysis.dates_in_text import Day, dates_in
from summarybench.analysis.numbers_in_text import LONGEST_NUMBER, numbers_in
from summarybench.analysis.spans import outside


def readings(text, *, has_number_words=True):
    """Each number of a text as the list of its readings, each a sorted list."""
    return [
        [sorted(map(str, each)) for each in found.readings]
        for found in numbers_in(text, has_number_words=has_number_words)
    ]


@pytest.mark.parametrize(
    "text", ["1000", "1 000", "1\u00a0000", "1\u202f000", "1'000", "1\u2019000", "one thousand", "١٠٠٠", "１０００"]
)
def test_thousand_is_a_thousand_however_it_is_written(text):
    assert ["1000"] in readings(text)[0]


@pytest.mark.parametrize("text", ["1,000", "1.000"])
def test_comma_or_full_stop_may_be_decimal_or_not(text):
    assert readings(text) == [[["1000"], ["1"]]]


@pytest.mark.parametrize("text", ["3.50", "3.5", "3,5", "3½", "3 ½", "3 1/2", "3-1/2", "٣٫٥", "3.5%", "3.5 %", "3.5kg"])
def test_three_and_a_half_is_one_value(text):
    assert readings(text) == [[["7/2"]]]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,234.50 and 1.234,50", [["2469/2"], ["2469/2"]]),
        ("1,234,567", [["1234567"]]),
        ("12,34,567", [["1234567"]]),
        ("0.500 or 0,5", [["1/2"], ["1/2"]]),
        ("5 million people", [["5000000"]]),
        ("twenty-five, forty two", [["25"], ["42"]]),
        ("the 3rd and the 21st", [["3"], ["21"]]),
        ("10 to 15%", [["10"], ["15"]]),
        ("10–15", [["10"], ["15"]]),
        ("at 10:30, or 3:00", [["21/2"], ["3"]]),
        ("24/7", [["24", "7"]]),
        ("¾ cup", [["3/4"]]),
        ("version 1.2.3", [["1.2.3"]]),
        ("in 2019 300 came", [["2019"], ["300"]]),
        ("Ends with 100.", [["100"]]),
        ("mp3, H2O and B12", []),
        ("1. Wash.\n2) Dry 12.\n(3) Go.\nStep 4: rest", [["12"]]),
        ("", []),
        ("… — !?", []),
    ],
)
def test_numbers_are_read(text, values):
    assert readings(text) == [[each] for each in values]


def test_five_thousand_one_hundred_may_be_two_numbers():
    assert readings("5 100") == [[["5100"], ["100", "5"]]]


def test_number_of_thousands_of_digits_is_compared_as_it_is_written():
    text = "7" * 5_000
    assert readings(text) == [[[text]]]
    assert readings("7" * LONGEST_NUMBER) == [[["7" * LONGEST_NUMBER]]]


def test_words_that_mostly_count_nothing_are_no_claims():
    found = numbers_in("One should wait; the second is first of two", has_number_words=True)
    assert [each.is_claim for each in found] == [False, False, False, True]


def test_number_words_are_english():
    assert readings("ten minste zes", has_number_words=False) == []


def test_number_is_among_values_that_one_reading_has():
    (found,) = numbers_in("1,000", has_number_words=True)
    assert found.is_among(frozenset([Fraction(1)]))
    assert found.is_among(frozenset([Fraction(1000)]))
    assert not found.is_among(frozenset([Fraction(10)]))


MARCH_5 = Day(2020, 3, 5)


@pytest.mark.parametrize(
    "text",
    [
        "5 March 2020",
        "5th of March, 2020",
        "March 5, 2020",
        "Mar. 5th 2020",
        "2020-03-05",
        "2020/3/5",
        "05.03.2020",
        "5. März 2020",
        "5 mars 2020",
        "5 de marzo de 2020",
        "5 марта 2020",
        "٥ مارس ٢٠٢٠",
        "2020年3月5日",
        "2020년 3월 5일",
    ],
)
def test_date_is_one_day_however_it_is_written(text):
    assert [each.readings for each in dates_in(f"x {text}.")] == [(MARCH_5,)]


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("3/5/2020", [(Day(2020, 5, 3), MARCH_5)]),
        ("3/25/20", [(Day(1920, 3, 25), Day(2020, 3, 25))]),
        ("May 2020", [(Day(2020, 5, None),)]),
        ("on June 7", [(Day(None, 6, 7),)]),
        ("you may 5 times march 3 miles", []),
        ("13/13/2020", []),
        ("in March", []),
        ("", []),
    ],
)
def test_dates_are_read(text, days):
    assert [each.readings for each in dates_in(text)] == days


@pytest.mark.parametrize(
    ("text", "days", "values", "expected"),
    [
        ("March 5", [MARCH_5], [], True),
        ("March 2020", [MARCH_5], [], True),
        ("March 6", [MARCH_5], [], False),
        ("April 5, 2020", [MARCH_5], [5, 2020], False),
        ("March 5, 2020", [Day(None, 3, 5)], [2020], True),
        ("March 5, 2020", [Day(None, 3, 5)], [], False),
    ],
)
def test_date_is_among_days_that_agree_in_what_it_names(text, days, values, expected):
    (found,) = dates_in(text)
    assert found.is_among(frozenset(days), frozenset(map(Fraction, values))) is expected


def test_numbers_of_a_date_are_no_numbers_beside_it():
    text = "7 came on 5 March 2020"
    (date,) = dates_in(text)
    found = numbers_in(text, has_number_words=True, without=[(date.start, date.end)])
    assert [text[each.start : each.end] for each in found] == ["7"]


def test_pieces_outside_are_those_that_overlap_nothing():
    found = [each for start in range(6) for each in numbers_in(" " * start + "7", has_number_words=False)]
    assert [each.start for each in outside(found, [(4, 5), (0, 2), (1, 2)])] == [2, 3, 5]
