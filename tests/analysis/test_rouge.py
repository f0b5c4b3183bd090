"""ROUGE is rouge_score's to the last bit, and takes no table of all pairs of words."""

import random
from itertools import pairwise

import pytest
from rouge_score import rouge_scorer

from summarybench.analysis.rouge import common_subsequence, l_f1, lsum_f1, rouge_f1
from summarybench.documents.sources import embedded_documents
from summarybench.documents.words import sentences


@pytest.mark.parametrize("vocabulary", [2, 5, 40])
@pytest.mark.parametrize("longest", [3, 12, 70])
def test_common_subsequences_are_the_ones_that_rouge_score_chooses(vocabulary, longest):
    chance = random.Random(f"{vocabulary} {longest}")
    for _ in range(100):
        left, right = (
            [f"w{chance.randrange(vocabulary)}" for _ in range(chance.randrange(longest + 1))] for _ in range(2)
        )
        assert common_subsequence(left, right)[::-1] == rouge_scorer.lcs_ind(left, right)


@pytest.mark.parametrize("vocabulary", [3, 30])
def test_lsum_of_texts_of_several_sentences_is_that_of_rouge_score(vocabulary):
    chance = random.Random(vocabulary)
    for _ in range(100):
        texts = [
            [
                [f"w{chance.randrange(vocabulary)}" for _ in range(chance.randrange(9))]
                for _ in range(chance.randrange(5))
            ]
            for _ in range(2)
        ]
        assert lsum_f1(*texts) == rouge_scorer._summary_level_lcs(*texts).fmeasure


@pytest.mark.parametrize("vocabulary", [2, 30])
def test_l_is_that_of_rouge_score(vocabulary):
    chance = random.Random(vocabulary)
    for _ in range(100):
        texts = [[f"w{chance.randrange(vocabulary)}" for _ in range(chance.randrange(40))] for _ in range(2)]
        assert l_f1(*texts) == rouge_scorer._score_lcs(*texts).fmeasure


def test_l_is_of_the_whole_text_and_lsum_of_its_sentences():
    found = rouge_f1("The dog barks. The cat sleeps.", "The cat sleeps. The dog barks.", ("rougeL", "rougeLsum"))
    assert found == {"rougeL": 0.5, "rougeLsum": 1.0}


def test_figures_of_english_texts_are_those_of_rouge_score():
    own = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    for document, other in pairwise(embedded_documents().documents):
        expected = own.score(*("\n".join(sentences(text)) for text in (other.reference, document.text)))
        assert rouge_f1(document.text, other.reference) == {name: each.fmeasure for name, each in expected.items()}


def test_a_reference_of_many_words_fills_no_table(monkeypatch):
    monkeypatch.setattr(rouge_scorer, "_lcs_table", lambda *_: pytest.fail("all pairs of words were compared"))
    reference = " ".join(f"word{number}" for number in range(20_000))
    summary = " ".join(f"word{number}" for number in range(0, 20_000, 200))
    found = rouge_f1(summary, reference)
    assert found["rougeL"] == found["rougeLsum"] == 2 * (100 / 20_000) / (100 / 20_000 + 1)
