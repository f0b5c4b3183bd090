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
