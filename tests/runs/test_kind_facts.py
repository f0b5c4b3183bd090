"""The facts about a kind, from its declaration into a run file and back."""

from __future__ import annotations

import json

import pytest

from summarybench.kinds.registry import KINDS
from summarybench.runs.kind_facts import KIND, KindFacts, KindFigure, Unit, kind_facts_in

WORDS = KindFigure(key="words.mean", heading="words", unit="", format=".1f", meaning="Mean words of a summary.")


def test_facts_survive_a_run_file():
    facts = KindFacts(name="toy", unit=Unit.ROUND, title="toy", is_own_speed=False, place=7, figures=(WORDS,))
    assert kind_facts_in(json.loads(json.dumps({KIND: facts.as_record()}))) == facts


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_facts_of_each_kind_survive_a_run_file(kind):
    assert kind_facts_in(json.loads(json.dumps({KIND: kind.facts.as_record()}))) == kind.facts


def test_run_from_before_facts_were_stored_has_none():
    assert kind_facts_in({"experiment": "toy"}) is None


def test_facts_of_a_later_version_are_read_without_what_is_new():
    assert kind_facts_in({KIND: {"name": "toy", "colour": "blue"}}) == KindFacts(name="toy")


@pytest.mark.parametrize(
    ("extra_info", "value"),
    [({"words": {"mean": 12.5}}, 12.5), ({"words": {}}, None), ({"words": None}, None), ({}, None)],
)
def test_dots_in_the_key_of_a_figure_lead_into_nested_mappings(extra_info, value):
    assert WORDS.value_in(extra_info) == value


EACH_SPEED = KindFigure(
    key="scaling.per_process.speed", heading="each tok/s", unit="tok/s", format=".1f", meaning="Speed of each process."
)


@pytest.mark.parametrize(
    ("extra_info", "value"),
    [
        ({"scaling": {"per_process": [{"speed": 2.5}, {}, {"speed": 2.0}]}}, [2.5, 2.0]),
        ({"scaling": {"per_process": []}}, []),
        ({"scaling": None}, None),
    ],
)
def test_figure_whose_key_leads_through_a_list_has_a_value_for_each_item(extra_info, value):
    assert EACH_SPEED.value_in(extra_info) == value


def test_title_in_words_is_the_name_of_a_kind_without_one():
    assert (KindFacts(name="my_kind").full_title, KindFacts(name="my_kind").heading) == ("my kind", "My kind")
    assert KindFacts(name="a", title="largest safe batch").heading == "Largest safe batch"
