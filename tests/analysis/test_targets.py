"""The targets of a profile: reached, missed, or within chance."""

from __future__ import annotations

from typing import Any

import pytest

from summarybench.analysis.quality import Quality, assert_rouge_floor
from summarybench.analysis.targets import Reached, Target, targets_of
from summarybench.core.outcomes import QualityError

REFERENCE = {
    "rouge1": 0.40,
    "rouge2": 0.16,
    "rougeL": 0.24,
    "rougeLsum": 0.32,
    "characters": 600.0,
    "source": "a paper",
}
PROFILE: Any = {
    "name": "mlperf-cnndm",
    "title": "MLPerf-shaped, not a submission",
    "overridden": [],
    "quality_share": 0.99,
    "shortest": 0.9,
    "longest": 1.1,
    "reference": REFERENCE,
}


def scores(rouge1: float) -> dict[str, list[float]]:
    """20 documents that vary by a little, with all scores but ROUGE-1 at the reference."""
    spread = [0.99, 1.01] * 10
    means = {"rouge1": rouge1, "rouge2": 0.16, "rougeL": 0.24, "rougeLsum": 0.32}
    return {name: [mean * each for each in spread] for name, mean in means.items()}


def reached(rouge1: float = 0.40, characters: int = 600) -> dict[str, Reached]:
    lengths = [characters - 6, characters + 6] * 10
    return {each.key: each.reached for each in targets_of(PROFILE, scores(rouge1), lengths)}


@pytest.mark.parametrize(
    ("rouge1", "expected"),
    [
        (0.45, Reached.REACHED),
        (0.3961, Reached.REACHED),
        (0.3955, Reached.WITHIN_CHANCE),
        (0.38, Reached.MISSED),
    ],
)
def test_a_score_must_reach_99_percent_of_the_reference(rouge1, expected):
    assert reached(rouge1)["rouge1"] is expected


@pytest.mark.parametrize(
    ("characters", "expected"),
    [
        (75, Reached.MISSED),
        (538, Reached.WITHIN_CHANCE),
        (541, Reached.REACHED),
        (659, Reached.REACHED),
        (662, Reached.WITHIN_CHANCE),
        (900, Reached.MISSED),
    ],
)
def test_the_length_must_be_within_its_band(characters, expected):
    assert reached(characters=characters)["characters"] is expected


def test_there_are_no_targets_without_profile_reference_or_scores():
    assert targets_of(None, scores(0.4), [600]) == ()
    assert targets_of({**PROFILE, "reference": None}, scores(0.4), [600]) == ()
    assert targets_of(PROFILE, {"rouge1": [], "rouge2": [], "rougeL": [], "rougeLsum": []}, [600]) == ()


def test_without_a_reference_length_only_the_scores_count():
    profile = {**PROFILE, "reference": {**REFERENCE, "characters": None}}
    found = targets_of(profile, scores(0.4), [600] * 20)
    assert [each.key for each in found] == ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def test_rouge_l_is_a_target_of_its_own_and_falls_alone():
    low = scores(0.40) | {"rougeL": [0.20, 0.21] * 10}
    found = {each.key: each.reached for each in targets_of(PROFILE, low, [600, 601] * 10)}
    assert found.pop("rougeL") is Reached.MISSED
    assert set(found.values()) == {Reached.REACHED}


def test_scores_that_reference_or_run_lack_are_no_targets():
    without = {**PROFILE, "reference": {**REFERENCE, "rougeLsum": None}}
    assert [each.key for each in targets_of(without, scores(0.4), [])] == ["rouge1", "rouge2", "rougeL"]
    older = {key: values for key, values in scores(0.4).items() if key != "rougeL"}
    assert [each.key for each in targets_of(PROFILE, older, [])] == ["rouge1", "rouge2", "rougeLsum"]
    of_older = {**PROFILE, "reference": {key: value for key, value in REFERENCE.items() if key != "rougeL"}}
    assert [each.key for each in targets_of(of_older, scores(0.4), [])] == ["rouge1", "rouge2", "rougeLsum"]


def test_a_missed_target_fails_for_quality_and_says_by_how_much():
    short = Target(key="characters", values=(75.0, 75.0), reference=600.0, at_least=0.9, at_most=1.1)
    low = Target(key="rouge1", values=(0.2, 0.2), reference=0.4, at_least=0.99)
    quality = Quality(scores={}, rouge1_interval=None, lead3_rouge1=None, floor=None, degenerate_document_ids={})
    assert_rouge_floor(quality)
    with pytest.raises(QualityError) as error:
        assert_rouge_floor(
            Quality(
                scores={},
                rouge1_interval=None,
                lead3_rouge1=None,
                floor=None,
                degenerate_document_ids={},
                targets=(low, short),
            )
        )
    assert str(error.value) == (
        "the profile's targets are missed (chance is ruled out at 99%): ROUGE-1 is 50.0% of the reference's 40.00, and at "
        "least 99% is required; length in characters is 12.5% of the reference's 600.0, and 90% to 110% is required"
    )
