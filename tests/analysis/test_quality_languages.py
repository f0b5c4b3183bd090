"""ROUGE, lead-3 and repetition in nine scripts, against counts by hand."""

from itertools import combinations, permutations
from pathlib import Path
from statistics import fmean, variance

import pytest

from summarybench.analysis.quality import LONGEST_LEAD_CHARACTERS, is_repeating, lead3, score
from summarybench.analysis.rouge import rouge_f1
from summarybench.documents.document import Document
from summarybench.documents.languages import LANGUAGES
from summarybench.documents.sources import documents_of_file

DOCUMENTS = Path(__file__).parents[1] / "sessions" / "languages"


@pytest.mark.parametrize(
    ("code", "summary", "reference", "rouge1", "rouge2"),
    [
        # Latin. Stems: das haus am fluss | die haus am see. 2 of 4 in common; "haus am" is 1 pair of 3.
        pytest.param("de", "Das Haus am Fluss", "Die Häuser am See", 1 / 2, 1 / 3, id="Latin"),
        # Cyrillic. книг на стол | книг леж на стол: 3 of 3 and of 4; "на стол" is 1 pair of 2 and of 3.
        pytest.param("ru", "Книги на столе.", "Книга лежит на столе", 6 / 7, 2 / 5, id="Cyrillic"),
        # Greek, not stemmed: 4 words of 4 and of 5; "η γάτα" and "στο σπίτι" are 2 pairs of 3 and of 4.
        pytest.param("el", "η γάτα στο ΣΠΊΤΙ", "Η γάτα κοιμάται στο σπίτι", 8 / 9, 4 / 7, id="Greek"),
        # Arabic. Stems: مدين تبن ثلاث مسار | تخطط مدين بناء ثلاث مسار: 3 of 4 and of 5; the last pair is 1 of 3 and of 4.
        pytest.param("ar", "مدينة تبني ثلاثة مسارات", "تخطط المدينة لبناء ثلاثة مسارات", 2 / 3, 2 / 7, id="Arabic"),
        # Hebrew, not stemmed: 2 words of 2 and of 3; the pair of the summary is not in the reference.
        pytest.param("he", "הילד ספר", "הילד קורא ספר", 4 / 5, 0, id="Hebrew"),
        # Devanagari: 3 words of 4 and of 5, as 3 and the word for it differ; the last pair is 1 of 3 and of 4.
        pytest.param("hi", "शहर ३ सड़कें बनाएगा", "शहर तीन नई सड़कें बनाएगा।", 2 / 3, 2 / 7, id="Devanagari"),
        # Han, by characters: 3 of 3 and of 7; 2 pairs of 2 and of 6.
        pytest.param("zh", "装上灯。", "取出灯，装上灯泡。", 6 / 10, 4 / 8, id="Han"),
        # Han and Kana: 公園 に 散歩 し た | 公園 を 散歩 し まし た: 4 of 5 and of 6; "散歩 し" is 1 pair of 4 and of 5.
        pytest.param("ja", "公園に散歩した。", "公園を散歩しました。", 8 / 11, 2 / 9, id="Kana"),
        # Thai: เรา ไป สวน | เรา ไป เดิน เล่น ที่ สวน: 3 of 3 and of 6; "เรา ไป" is 1 pair of 2 and of 5.
        pytest.param("th", "เราไปสวน", "เราไปเดินเล่นที่สวน", 6 / 9, 2 / 7, id="Thai"),
        # Hangul: 2 words of 2 and of 3; 1 pair of 1 and of 2.
        pytest.param("ko", "날씨가 좋다", "오늘은 날씨가 좋다.", 4 / 5, 2 / 3, id="Hangul"),
        # Another case of the two Turkish letters i is the same word.
        pytest.param("tr", "IŞIK", "ışık", 1, 0, id="Turkish"),
    ],
)
def test_rouge_agrees_with_a_count_by_hand(code, summary, reference, rouge1, rouge2):
    found = rouge_f1(summary, reference, ("rouge1", "rouge2"), LANGUAGES[code])
    assert found == pytest.approx({"rouge1": rouge1, "rouge2": rouge2})


def test_rouge_lsum_takes_each_sentence_by_itself():
    # The sentences have changed places, so one line holds 2 common characters in order, and sentence by sentence all 4 are.
    assert rouge_f1("装灯。取电。", "取电。装灯。", ("rougeLsum",), LANGUAGES["zh"]) == {"rougeLsum": 1.0}
    assert rouge_f1("装灯取电", "取电装灯", ("rougeLsum",), LANGUAGES["zh"]) == {"rougeLsum": 0.5}


def test_german_in_ascii_letters_is_stemmed_as_german():
    # "kauf" has 1 of 1 word in common with "kaufte". The English stemmer keeps them apart.
    assert rouge_f1("Kaufen", "Kauf", ("rouge1",), LANGUAGES["de"]) == {"rouge1": 1.0}
    assert rouge_f1("Kaufen", "Kauf", ("rouge1",)) == {"rouge1": 0.0}


@pytest.mark.parametrize(
    ("code", "text", "lead"),
    [
        ("zh", "打开盒子。取出灯！好吗？打开开关。", "打开盒子。 取出灯！ 好吗？"),
        ("hi", "एक। दो। तीन। चार।", "एक। दो। तीन।"),
        ("ar", "ما هذا؟ كتاب. قلم! باب.", "ما هذا؟ كتاب. قلم!"),
        ("th", "หนึ่งวัน สองวัน สามวัน สี่วัน", "หนึ่งวัน สองวัน สามวัน"),
    ],
)
def test_lead3_is_three_sentences_of_the_language(code, text, lead):
    assert lead3(text, LANGUAGES[code]) == lead


def test_a_text_without_spaces_or_full_stops_has_a_bounded_lead():
    assert len(lead3("灯" * 200_000, LANGUAGES["zh"])) == LONGEST_LEAD_CHARACTERS


@pytest.mark.parametrize(
    ("code", "summary", "expected"),
    [
        # "to go for a walk" is 2 words: 24 words have 22 three-word sequences, of which 2 are distinct.
        pytest.param("th", "เดินเล่น" * 12, True, id="Thai"),
        pytest.param("th", "เดินเล่น" * 11, False, id="22-words-of-Thai-are-too-short-to-tell"),
        pytest.param("ja", "散歩した。" * 8, True, id="24-words-of-Japanese"),
        pytest.param("ja", "散歩した。" * 7, False, id="21-words-of-Japanese-are-too-short-to-tell"),
        pytest.param("zh", "打开盒子。" * 6, True, id="24-characters-of-Chinese"),
        pytest.param("de", "Ja - " * 23, False, id="punctuation-is-no-word"),
        pytest.param("de", "Ja - " * 24, True, id="24-words"),
    ],
)
def test_repetition_is_counted_in_the_words_of_the_language(code, summary, expected):
    assert is_repeating(summary, LANGUAGES[code]) is expected


@pytest.mark.parametrize(("code", "name"), [("ar", "arabic"), ("de", "german"), ("zh", "chinese")])
def test_each_document_scores_highest_with_its_own_summary(code, name):
    documents = documents_of_file(DOCUMENTS / f"{name}.jsonl").documents
    assert len(documents) == 8
    for document in documents:
        scores = {
            other.id: rouge_f1(document.text, other.reference, ("rouge1",), LANGUAGES[code])["rouge1"]
            for other in documents
        }
        assert max(scores, key=scores.__getitem__) == document.id


THAI = (
    "วันนี้อากาศดีมาก เราไปเดินเล่นที่สวนสาธารณะ",
    "ต้มน้ำให้เดือดแล้วใส่ใบชาลงในกาน้ำชา รอสามนาที",
    "เมืองนี้วางแผนจะสร้างทางจักรยานใหม่สามสายก่อนฤดูร้อนปีหน้า",
    "นักวิจัยพบว่าการเดินวันละครึ่งชั่วโมงช่วยลดความเสี่ยงของโรคหัวใจ",
)


def test_unrelated_thai_sentences_share_characters_and_hardly_a_word():
    """The figures of docs/explanation/quality.md. Without a language, characters are compared."""
    by_words, by_characters = (
        fmean(rouge_f1(one, other, ("rouge1",), LANGUAGES[code])["rouge1"] for one, other in combinations(THAI, 2))
        for code in ("th", "en")
    )
    assert (round(by_words, 2), round(by_characters, 2)) == (0.05, 0.44)


def test_chinese_characters_tell_whose_summary_it_is():
    """The figures of docs/explanation/quality.md."""
    documents = documents_of_file(DOCUMENTS / "chinese.jsonl").documents
    own, others = (
        [rouge_f1(one.text, other.reference, ("rouge1",), LANGUAGES["zh"])["rouge1"] for one, other in pairs]
        for pairs in (zip(documents, documents, strict=True), permutations(documents, 2))
    )
    distance = (fmean(own) - fmean(others)) / ((variance(own) + variance(others)) / 2) ** 0.5
    assert (round(fmean(own), 2), round(fmean(others), 2), round(distance, 1)) == (0.50, 0.09, 6.1)


class Summary:
    document_id, summary = "d", "Das Haus"


def test_a_document_without_words_has_no_lead_to_score():
    wordless = Document(url="u", section="s", text="… !", reference="Das Haus")
    found = score([Summary()], [wordless], None, LANGUAGES["de"])
    assert (found.means["rouge1"], found.lead3_rouge1) == (1.0, None)


def test_a_whole_sample_is_scored_in_its_language():
    # Stems of the summary: das haus; of the reference: die haus. 1 of 2 words.
    document = Document(url="u", section="s", text="Häuser.", reference="Die Häuser")
    found = score([Summary()], [document], None, LANGUAGES["de"])
    assert found.scores["rouge1"] == (0.5,)
    # The lead's one word is 1 of 1 and of 2: 2/3.
    assert found.lead3_rouge1 == pytest.approx(2 / 3)
