"""Faithfulness of single summaries, worked out by hand."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from summarybench.analysis.faithfulness import (
    as_record,
    extractive_fragments,
    faithfulness_of,
    marks_in,
    novel_share,
)
from summarybench.analysis.names_in_text import has_names, names_in
from summarybench.runs.faithfulness_record import FAITHFULNESS_LISTS

DOCUMENT = "The cat sat on the mat. Anna Smith paid 1,000 dollars on 5 March 2020. She left three days later."


def marked(summary, document=DOCUMENT):
    """What is marked, with an exclamation mark if it is new."""
    return [
        f"{each.kind}: {summary[each.start : each.end]}{'!' * each.is_novel}" for each in marks_in(summary, document)
    ]


# N-grams --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "share"), [(1, 1 / 4), (2, 1 / 3), (3, 1 / 2)])
def test_novel_share_is_of_distinct_n_grams(size, share):
    # New are "ran" of four words, "cat ran" of three pairs, and "the cat ran" of two triples.
    assert novel_share(["a", "the", "cat", "ran"], ["a", "the", "cat", "sat"], size) == pytest.approx(share)


def test_what_is_repeated_counts_once():
    assert novel_share(["a", "x", "x", "x"], ["a"], 1) == 1 / 2


@pytest.mark.parametrize(("size", "summary"), [(1, []), (2, ["one"]), (3, ["one", "two"])])
def test_share_of_no_n_grams_is_unknown(size, summary):
    assert novel_share(summary, ["one", "two", "three"], size) is None


# Fragments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("summary", "document", "fragments"),
    [
        ("a b c", "a b c d", [3]),
        ("a b x c d", "a b c d", [2, 2]),
        ("x y", "a b", []),
        ("", "a b", []),
        ("a b", "", []),
        ("a b c", "a b x a b c", [3]),
        # the search goes on behind a run that matched, and so misses the longer run that begins inside it
        ("a a b", "a a a b", [2, 1]),
    ],
)
def test_fragments_are_those_of_the_greedy_algorithm(summary, document, fragments):
    assert extractive_fragments(summary.split(), document.split()) == fragments


def as_published(summary, document):
    """Figure 2 of Grusky, Naaman and Artzi, line by line."""
    fragments, i = [], 0
    while i < len(summary):
        longest, j = 0, 0
        while j < len(document):
            if summary[i] == document[j]:
                k = 0
                while i + k < len(summary) and j + k < len(document) and summary[i + k] == document[j + k]:
                    k += 1
                longest, j = max(longest, k), j + k
            else:
                j += 1
        fragments += [longest] * (longest > 0)
        i += max(longest, 1)
    return fragments


def test_fragments_equal_the_published_algorithm_s_on_random_texts():
    generator = random.Random(0)
    for _ in range(500):
        letters = generator.choice(["ab", "abc", "abcdefgh"])
        summary, document = (generator.choices(letters, k=generator.randint(0, most)) for most in (12, 30))
        assert extractive_fragments(summary, document) == as_published(summary, document)


def test_coverage_density_and_compression_agree_with_a_count_by_hand():
    # fragments: "the cat sat" and "on the mat"; "quietly" has none. Coverage 6/7, density (9 + 9)/7. The document has 21 words
    found = faithfulness_of("The cat sat quietly on the mat.", DOCUMENT, "A cat sat.")
    assert found.coverage == pytest.approx(6 / 7)
    assert found.density == pytest.approx(18 / 7)
    assert found.compression == pytest.approx(21 / 7)
    assert found.length_ratio == pytest.approx(7 / 3)
    assert found.novel_words == pytest.approx(1 / 6)
    assert found.novel_bigrams == pytest.approx(2 / 6)
    assert found.novel_trigrams == pytest.approx(3 / 5)


def test_document_copied_whole_is_covered_whole():
    found = faithfulness_of(DOCUMENT, DOCUMENT, DOCUMENT)
    assert (found.coverage, found.density, found.compression, found.length_ratio) == (1, 21, 1, 1)
    assert (found.novel_words, found.novel_trigrams) == (0, 0)
    assert (found.novel_numbers, found.novel_dates, found.novel_names) == (0, 0, 0)


# Numbers, dates and names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("She paid 1000 dollars.", ["number: 1000"]),
        ("She paid 1 002 dollars.", ["number: 1 002!"]),
        ("It took 3 days.", ["number: 3"]),
        ("It took four days.", ["number: four!"]),
        ("It was 2020.", ["number: 2020"]),
        ("It was on the 5th.", ["number: 5"]),
        ("It was on March 5.", ["date: March 5"]),
        ("It was on 2020-03-05.", ["date: 2020-03-05"]),
        ("It was on April 5, 2020.", ["date: April 5, 2020!"]),
        ("Then Smith's wife met Bob.", ["name: Smith", "name: Bob!"]),
        ("Bob met Anna. Bob left.", ["name: Anna"]),
        ("Then Bob met Anna. Bob left.", ["name: Bob!", "name: Anna", "name: Bob!"]),
        ("The cat left.", []),
    ],
)
def test_what_the_document_does_not_have_is_new(summary, expected):
    assert marked(summary) == expected


def test_invention_that_is_repeated_counts_once():
    found = faithfulness_of("It took 77 days, yes 77, said Bob and again Bob.", DOCUMENT)
    assert (found.numbers, found.novel_numbers, found.names, found.novel_names) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The man met Dr. Smith in New York.", ["smith", "new", "york"]),
        ("Then I said I'm at Obama\u2019s.", ["obama"]),
        ("Use a T-shirt and the U.S. mail", ["us"]),
        ("How To Make Nice Tea", []),
        ("DO NOT SHOUT AT ME", []),
        ("First: Wash it. \u201cDry it.\u201d\nThen rest.", []),
        ("", []),
        ("?! …", []),
    ],
)
def test_names_are_capitalized_words_inside_sentences(text, names):
    assert [each.key for each in names_in(text)] == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DOCUMENT, True),
        ("Der Hund und die Katze sind mit dem Kind zu Hause, und das ist nicht schlecht.", False),
        ("猫は家にいます。", False),
        ("القط في البيت مع الولد", False),
        ("", False),
        ("… 12", False),
    ],
)
def test_languages_without_capital_letters_or_with_too_many_have_no_names(text, expected):
    assert has_names(text) is expected


def test_names_are_unknown_where_the_document_does_not_tell_them():
    found = faithfulness_of("Then Bob left.", "القط في البيت")
    assert (found.names, found.novel_names) == (None, None)


# Edges ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("summary", ["", " \n", "?! …"])
def test_summary_without_words_has_no_shares(summary):
    found = faithfulness_of(summary, DOCUMENT, "A reference.")
    shares = (found.novel_words, found.novel_bigrams, found.novel_trigrams, found.coverage, found.density)
    assert shares == (None,) * 5
    assert (found.compression, found.length_ratio) == (None, 0)
    assert (found.numbers, found.dates, found.names) == (0, 0, 0)


def test_empty_document_has_nothing_to_copy():
    found = faithfulness_of("It took 3 days.", "")
    assert (found.novel_words, found.coverage, found.density, found.compression) == (1, 0, 0, 0)
    assert (found.novel_numbers, found.names) == (1, None)


def test_without_a_reference_there_is_no_length_ratio():
    assert faithfulness_of("Some words.", DOCUMENT).length_ratio is None


def test_arabic_is_read_from_right_to_left_in_its_own_order():
    document = "دفعت ليلى ١٠٠٠ دينار في ٥ مارس ٢٠٢٠"
    summary = "دفعت ليلى 1000 دينار ثم 70"
    assert marked(summary, document) == ["number: 1000", "number: 70!"]
    found = faithfulness_of(summary, document)
    assert (found.novel_numbers, found.names) == (1, None)
    assert found.novel_words == pytest.approx(3 / 6)  # 1000 in other digits, "then" and 70 are other words


def test_chinese_is_compared_by_its_words():
    found = faithfulness_of("2020年3月5日下雨", "2020-03-05那天下雨")
    assert (found.dates, found.novel_dates, found.names) == (1, 0, None)


def test_marks_of_a_kind_never_overlap_on_random_texts():
    generator = random.Random(0)
    letters = [
        "1",
        ",",
        ".",
        " ",
        "000",
        "May",
        "5",
        "2020",
        "-",
        "/",
        "Bob",
        "\n",
        "½",
        "٣",
        "五",
        "three",
        "'",
        "%",
        ":",
    ]
    for _ in range(300):
        text = "".join(generator.choices(letters, k=20))
        for kind in ("number", "date", "name"):
            found = [each for each in marks_in(text, "") if each.kind == kind]
            assert all(a.end <= b.start for a, b in pairwise(found))
            assert all(text[each.start : each.end].strip() for each in found)
        assert not [each for each in marks_in(text, text) if each.is_novel]


def test_record_has_one_item_per_summary():
    found = as_record([faithfulness_of("A cat.", DOCUMENT), faithfulness_of("", DOCUMENT)])
    assert tuple(found) == FAITHFULNESS_LISTS
    assert {len(each) for each in found.values()} == {2}
    assert as_record([]) is None
