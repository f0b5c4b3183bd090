import math
from statistics import fmean

import pytest

from summarybench.analysis.quality import (
    LONGEST_LEAD_WORDS,
    Quality,
    assert_rouge_floor,
    is_empty,
    is_repeating,
    lead3,
    score,
)
from summarybench.analysis.rouge import rouge_f1
from summarybench.catalogue.floors import FLOORS, Floor
from summarybench.catalogue.models import LOADERS, MODELS
from summarybench.catalogue.published import published_rows
from summarybench.core.outcomes import QualityError
from summarybench.documents.document import Document, DocumentSource
from summarybench.measure.generation import GenerationRecord
from summarybench.runs.run_file import ROUGE_TYPES

FLOOR = Floor(rouge1=0.28, origin="a published table")
TEXT = "The cat sat on the mat. The dog ran away! Who saw it?"


def record(summary, document_id="d", *, hit_cap=False):
    return GenerationRecord(
        document_id=document_id,
        document_tokens=10,
        prompt_tokens=20,
        generated_tokens=5,
        truncated=False,
        hit_cap=hit_cap,
        start_seconds=0.0,
        first_token_seconds=1.0,
        end_seconds=2.0,
        summary=summary,
    )


def document(reference, text=TEXT):
    return Document(url="u", section="s", text=text, reference=reference)


def quality(scores, floor):
    return Quality(
        scores={"rouge1": scores},
        rouge1_interval=None,
        lead3_rouge1=0.0,
        floor=floor,
        degenerate_document_ids={},
    )


@pytest.mark.parametrize(
    ("summary", "expected"), [(TEXT, 1.0), ("Completely unrelated words.", 0.0), ("", 0.0)], ids=["same", "other", "no"]
)
def test_identical_texts_score_1_and_disjoint_ones_0(summary, expected):
    assert rouge_f1(summary, TEXT) == dict.fromkeys(ROUGE_TYPES, expected)


def test_rouge_agrees_with_a_count_by_hand():
    # "the" and "cat" are common: precision 2/3, recall 2/4. "the cat": precision 1/2, recall 1/3.
    found = rouge_f1("the cat sat", "the cat ran away")
    assert found["rouge1"] == pytest.approx(4 / 7)
    assert found["rouge2"] == pytest.approx(2 / 5)


def test_lead3_is_the_first_three_sentences():
    assert lead3("One is here. Two!\nThree, a heading\nFour? Five.") == "One is here. Two! Three, a heading"


def test_lead3_of_a_shorter_document_is_all_of_it():
    assert lead3("Only this one.") == "Only this one."


@pytest.mark.parametrize(("summary", "expected"), [("", True), (" \n\t ", True), (".", False), ("A cat.", False)])
def test_only_whitespace_counts_as_empty(summary, expected):
    assert is_empty(summary) is expected


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        pytest.param("a cat sat down " * 6, True, id="a-phrase-again-and-again"),
        pytest.param(
            "a cat and a dog ran far away A CAT AND A DOG RAN FAR AWAY A Cat And A Dog Ran Far Away",
            True,
            id="case-does-not-matter",
        ),
        pytest.param("cat " * 23, False, id="too-short-to-tell"),
        pytest.param("cat " * 24, True, id="just-long-enough"),
        pytest.param(" ".join(map(str, range(50))), False, id="all-different"),
        # 24 words have 22 three-word sequences
        pytest.param(" ".join([*map(str, range(10)), *["cat"] * 14]), False, id="exactly-half-distinct"),
        pytest.param(" ".join([*map(str, range(9)), *["cat"] * 15]), True, id="just-under-half-distinct"),
    ],
)
def test_a_summary_that_goes_round_in_circles_is_repeating(summary, expected):
    assert is_repeating(summary) is expected


def test_a_score_counts_degenerate_outputs_and_averages_all():
    records = [
        record("the cat sat", "first", hit_cap=True),
        record(" ", "second"),
        record("cat " * 30, "third", hit_cap=True),
        record(TEXT, "fourth"),
    ]
    documents = [document("the cat ran away"), document("a dog"), document("a dog"), document(TEXT)]
    found = score(records, documents, FLOOR)
    assert found.degenerate_document_ids == {"empty": ("second",), "repeating": ("third",)}
    assert found.scores["rouge1"] == pytest.approx((4 / 7, 0.0, 0.0, 1.0))
    assert found.means["rouge1"] == pytest.approx(11 / 28)
    assert found.rouge1_interval.low < 11 / 28 < found.rouge1_interval.high
    assert found.floor is FLOOR


def test_interval_of_scores_near_zero_does_not_reach_below_it():
    found = score([record("a dog"), record("nothing")], [document("a dog"), document("a dog")], None)
    assert (found.rouge1_interval.low, found.rouge1_interval.high) == (0.0, 1.0)


def test_lead3_is_scored_against_the_same_references():
    found = score([record("nothing"), record("nothing")], [document(TEXT), document("unrelated")], None)
    assert found.lead3_rouge1 == pytest.approx(0.5)


def test_a_score_refuses_records_without_documents():
    with pytest.raises(ValueError, match="shorter"):
        score([record("a"), record("b")], [document("a")], None)


def test_a_mean_clearly_below_the_floor_is_refused_with_bound_and_floor():
    # mean 0.11, standard deviation 0.00816, Student's quantile of 3 degrees 4.541: at most 0.1285
    with pytest.raises(QualityError, match=r"at most 0\.129 .* floor 0\.280 \(a published table\)"):
        assert_rouge_floor(quality((0.10, 0.11, 0.12, 0.11), FLOOR))


@pytest.mark.parametrize(
    ("scores", "floor"),
    [
        pytest.param((0.1, 0.2, 0.3), FLOOR, id="chance-explains-it"),
        pytest.param((0.1,), FLOOR, id="one-document-proves-nothing"),
        pytest.param((0.3, 0.31, 0.3), FLOOR, id="above"),
        pytest.param((0.0, 0.0, 0.0), None, id="no-floor"),
    ],
)
def test_the_floor_lets_pass_what_is_not_clearly_below_it(scores, floor):
    assert assert_rouge_floor(quality(scores, floor)) is None


STEMMED_FLOORS = {"default": 0.309, "8-bit": 0.297, "4-bit": 0.283}


def published_floor(loader):
    return FLOORS["llama2-7b-chat", loader, DocumentSource.WIKILINGUA, 100]


def test_scores_are_stemmed():
    assert rouge_f1("the cats jumped", "the cat jumps")["rouge1"] == 1.0


@pytest.mark.parametrize(("loader", "rouge1"), STEMMED_FLOORS.items())
def test_floor_of_the_published_summaries_is_the_mean_over_their_samples_rounded_down(loader, rouge1):
    rows = [row for row in published_rows() if row.loader == loader]
    samples = [row.rouge1_stemmed for row in rows if row.rouge1_stemmed is not None]
    samples.append(fmean(row.rouge1_common_documents_stemmed for row in rows))  # the same documents in each row
    assert math.floor(1000 * fmean(samples)) == round(1000 * rouge1)
    found = published_floor(loader)
    assert (found.rouge1, found.documents) == (rouge1, 100 * len(samples))
    assert "stemmed" in found.origin


def with_mean(mean, documents=100, deviation=0.1):
    """Scores with exactly this mean; the deviation is that of the published summaries."""
    away = deviation * math.sqrt((documents - 1) / documents)
    return (mean - away, mean + away) * (documents // 2)


@pytest.mark.parametrize(("loader", "documents"), [("default", 150), ("8-bit", 100), ("4-bit", 100)])
def test_loss_of_a_tenth_of_the_published_score_is_below_the_floor(loader, documents):
    floor = published_floor(loader)
    assert_rouge_floor(quality(with_mean(STEMMED_FLOORS[loader], documents), floor))
    with pytest.raises(QualityError, match=r"ROUGE-1 \S+ is below its floor: at most .* for a mean of \d00 documents"):
        assert_rouge_floor(quality(with_mean(0.9 * STEMMED_FLOORS[loader], documents), floor))


@pytest.mark.parametrize("mean", [0.277, 0.275])
def test_bound_counts_the_sampling_error_of_the_floor(mean):
    # Student's quantile of 99 degrees 2.3646: the mean of 100 documents may be 2.3646 × 0.1 × √(1/100 + 1/100) = 0.0334 lower,
    # and 0.0236 lower than a floor without such an error.
    scores = quality(with_mean(mean), published_floor("default"))
    if mean > 0.309 - 0.0334:
        assert_rouge_floor(scores)
    else:
        with pytest.raises(QualityError):
            assert_rouge_floor(scores)
    with pytest.raises(QualityError):
        assert_rouge_floor(quality(with_mean(mean), Floor(rouge1=0.309, origin="of all documents")))


@pytest.mark.parametrize("key", FLOORS)
def test_every_floor_is_of_something_that_exists_and_says_where_it_comes_from(key):
    model, loader, source, max_new_tokens = key
    assert model in MODELS
    assert loader in LOADERS
    assert isinstance(source, DocumentSource)
    assert max_new_tokens > 0
    assert 0 < FLOORS[key].rouge1 < 1
    assert FLOORS[key].origin


# Other scripts, no references, and texts of any length ------------------------------------------------------------------

CHINESE = "取出灯，装上灯泡，打开开关。"


@pytest.mark.parametrize(
    "reference",
    [CHINESE, "नमस्ते दुनिया।", "Καλημέρα κόσμε.", "สวัสดีครับ", "Les élèves étaient là.", "こんにちは世界", "Привет, мир!"],
)
def test_a_reference_of_any_script_against_itself_scores_one(reference):
    assert set(rouge_f1(reference, reference).values()) == {1.0}
    assert rouge_f1("zzz qqq", reference)["rouge1"] == 0.0


def test_half_of_the_characters_score_between():
    assert 0.5 < rouge_f1("取出灯，装上灯泡。", CHINESE)["rouge1"] < 1


def test_lead3_of_chinese_is_three_sentences():
    assert lead3("打开盒子。取出灯。装上灯泡。打开开关。") == "打开盒子。 取出灯。 装上灯泡。"


def test_chinese_that_goes_round_in_circles_is_repeating():
    assert is_repeating("打开盒子。" * 8)
    assert not is_repeating("先把包装盒打开然后取出里面的灯再装上新买的灯泡最后按下墙上的开关看看它是否会亮起来")


def test_without_references_only_sanity_is_known():
    documents = [Document(url="u", section=str(n), text="A text.", reference="") for n in range(2)]
    found = score([record("x", "0"), record(" ", "1")], documents, floor=Floor(rouge1=0.9, origin="a test"))
    assert found.means == dict.fromkeys(ROUGE_TYPES)
    assert (found.rouge1_interval, found.lead3_rouge1, found.floor) == (None, None, None)
    assert found.degenerate_document_ids == {"empty": ("1",), "repeating": ()}


def test_a_document_without_a_full_stop_has_a_bounded_lead():
    text = " ".join(f"word{number}" for number in range(200_000))
    assert len(lead3(text).split()) == LONGEST_LEAD_WORDS
