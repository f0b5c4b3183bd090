"""Scores of models are computed once for each text and model, and kept in the cache folder."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from summarybench.engines.scorer_models import ScorerKind, ScorerSource
from summarybench.engines.scorers import ScoredText
from summarybench.measure.scoring import DATABASE, ScoreCache, key_of, score_texts, scores_record

SOURCE = ScorerSource(name="facts", kind=ScorerKind.NLI, folder=Path("nowhere"), source="nli-base", digest="d1")
TEXTS = [ScoredText(document="d", summary=each, reference="r") for each in ("a", "bb", "a")]


class Counting:
    """A scorer that scores a summary by its length, and counts its calls."""

    def __init__(self):
        self.scored, self.opened = [], 0

    @contextmanager
    def open(self):
        self.opened += 1
        yield self

    def score(self, text):
        self.scored.append(text.summary)
        return {"entailment": len(text.summary) / 10}


@pytest.fixture
def scorer():
    return Counting()


def test_equal_texts_are_scored_once_and_later_sessions_do_not_load_the_model(scorer, tmp_path):
    expected = [{"entailment": 0.1}, {"entailment": 0.2}, {"entailment": 0.1}]
    for _ in range(2):
        assert score_texts(SOURCE, TEXTS, ScoreCache(tmp_path), scorer.open) == expected
    assert (scorer.scored, scorer.opened) == (["a", "bb"], 1)


def test_another_model_or_text_is_scored_anew():
    keys = {
        key_of(source, text)
        for source in (SOURCE, replace(SOURCE, digest="d2"), replace(SOURCE, kind=ScorerKind.BERTSCORE))
        for text in (TEXTS[0], TEXTS[1], replace(TEXTS[0], document="e"), replace(TEXTS[0], reference="s"))
    }
    assert len(keys) == 12
    assert key_of(replace(SOURCE, name="other", folder=Path("elsewhere")), TEXTS[0]) == key_of(SOURCE, TEXTS[0])


def test_a_cache_that_cannot_be_used_costs_time_and_no_score(scorer, tmp_path):
    (tmp_path / DATABASE).write_text("no database")
    assert score_texts(SOURCE, TEXTS[:1], ScoreCache(tmp_path), scorer.open) == [{"entailment": 0.1}]
    (tmp_path / "file").touch()
    assert score_texts(SOURCE, TEXTS[:1], ScoreCache(tmp_path / "file"), scorer.open) == [{"entailment": 0.1}]


def test_the_run_file_has_the_means_and_the_scores_by_document():
    record = scores_record(SOURCE, [{"entailment": 0.25}, {"entailment": 0.75}])
    assert record == {
        "kind": "nli",
        "source": "nli-base",
        "digest": "d1",
        "means": {"entailment": 0.5},
        "scores": {"entailment": [0.25, 0.75]},
    }


def test_a_summary_without_the_reference_that_a_scorer_needs_has_no_score(scorer, tmp_path):
    source = replace(SOURCE, kind=ScorerKind.BERTSCORE)
    texts = [TEXTS[0], replace(TEXTS[1], reference="")]
    scorer.score = lambda text: {"precision": 0.5, "recall": 0.25, "f1": 1 / 3}
    record = scores_record(source, score_texts(source, texts, ScoreCache(tmp_path), scorer.open))
    assert record["scores"]["precision"] == [0.5, None]
    assert record["means"]["recall"] == 0.25
