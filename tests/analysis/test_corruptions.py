"""Summaries that are spoiled on purpose, and what the metrics say of them."""

from __future__ import annotations

import pytest

from summarybench.analysis.corruptions import CORRUPTIONS, Summarized, check_metrics
from summarybench.core.outcomes import InputError

SAMPLES = [
    Summarized(
        text="The cat sat on 3 mats. It slept. Then Anna came home. She sang.",
        reference="A cat slept on mats.",
        summary="The cat slept on 3 mats and Anna came home.",
    ),
    Summarized(
        text="Boil the water first. Add tea.", reference="Boil water for tea.", summary="Boil the water for tea."
    ),
]


def spoiled(name, number=0):
    (found,) = (spoil for each, spoil in CORRUPTIONS.items() if name in each)
    return found(SAMPLES, number)


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("model wrote", 0, "The cat slept on 3 mats and Anna came home."),
        ("lead-3", 0, "The cat sat on 3 mats. It slept. Then Anna came home."),
        ("another", 0, "Boil the water for tea."),
        ("another", 1, "The cat slept on 3 mats and Anna came home."),
        ("number", 0, "The cat slept on 4711 mats and Anna came home."),
        ("number", 1, "Boil the water for 4711 tea."),
        ("name", 0, "The cat slept on 3 mats and Zebulon came home."),
        ("name", 1, "Boil the water for Zebulon tea."),
        ("half", 0, "The cat slept on 3"),
        ("over and over", 1, "Boil the water for tea. " * 3 + "Boil the water for tea."),
    ],
)
def test_summary_is_spoiled_in_one_way(name, number, expected):
    assert spoiled(name, number) == expected


def test_each_metric_notices_what_it_is_for():
    rows = {each.corruption.split(",")[0]: each for each in check_metrics(SAMPLES)}
    as_written = rows["as the model wrote it"]
    assert (as_written.with_new_numbers, as_written.with_new_names) == (0, 0)
    assert rows["one number changed"].with_new_numbers == 2
    assert rows["one name changed"].with_new_names == 2
    assert rows["another document's summary"].coverage < as_written.coverage
    assert rows["the document's first three sentences (lead-3)"].density > as_written.density
    assert rows["cut off after half of its words"].length_ratio < as_written.length_ratio
    assert rows["its first eight words over and over"].repeating == 1  # the other's is shorter than 24 words


def test_one_summary_cannot_be_exchanged():
    with pytest.raises(InputError, match="1 scored summaries, and 2 are needed"):
        check_metrics(SAMPLES[:1])


def test_texts_without_words_are_refused():
    empty = Summarized(text="…", reference="…", summary="")
    with pytest.raises(InputError, match="no summary has novel_words"):
        check_metrics([empty, empty])
