"""Words, stems and sentences of languages."""

import pytest

from summarybench.core.outcomes import InputError
from summarybench.documents.languages import LANGUAGES, WITHOUT_SEGMENTATION, _stem, language_of

WIKILINGUA = {
    "ar": "arabic",
    "cs": "czech",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "hi": "hindi",
    "id": "indonesian",
    "it": "italian",
    "ja": "japanese",
    "ko": "korean",
    "nl": "dutch",
    "pt": "portuguese",
    "ru": "russian",
    "th": "thai",
    "tr": "turkish",
    "vi": "vietnamese",
    "zh": "chinese",
}


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        ("de", "Die Straße ist 3 km lang.", ["die", "strasse", "ist", "3", "km", "lang"]),
        ("ru", "Книга, и стол!", ["книга", "и", "стол"]),
        ("el", "Ο ΔΡΌΜΟΣ, ο δρόμος;", ["ο", "δρόμοσ", "ο", "δρόμοσ"]),  # both forms of sigma are one letter
        ("ar", "كتاب\u200f، ٣ سيارات", ["كتاب", "3", "سيارات"]),  # without the mark of direction
        ("fa", "می\u200cروم", ["میروم"]),  # the joiner is inside a word
        ("hi", "नमस्ते दुनिया। ४२", ["नमस्ते", "दुनिया", "42"]),
        ("zh", "取出灯，2024年买", ["取", "出", "灯", "2024", "年", "买"]),
        ("ja", "公園を散歩しました。", ["公園", "を", "散歩", "し", "まし", "た"]),
        ("ja", "散歩した。散歩した", ["散歩", "し", "た", "散歩", "し", "た"]),  # with and without a full stop
        ("ja", "コーヒーを３杯、AI", ["コーヒー", "を", "3", "杯", "ai"]),
        ("th", "เราไปเดินเล่นที่สวน", ["เรา", "ไป", "เดิน", "เล่น", "ที่", "สวน"]),
        ("th", "น้ำ ๒ ถ้วย iPhone", ["น้ำ", "2", "ถ้วย", "iphone"]),
        ("ko", "오늘은 날씨가 좋다.", ["오늘은", "날씨가", "좋다"]),
        ("tr", "IŞIK İstanbul", ["ışık", "istanbul"]),
        ("en", "Don't, CAFÉ", ["don", "t", "café"]),
        ("de", "…!?", []),
        ("ja", "。、「」", []),
        ("th", "๏ ฿", []),
    ],
)
def test_words_are_those_of_the_language(code, text, found):
    assert LANGUAGES[code].words(text) == found


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        ("de", "Häuser Haus", ["haus", "haus"]),
        ("ru", "книги книга", ["книг", "книг"]),
        ("ar", "المدينة مدينة", ["مدين", "مدين"]),
        ("fr", "maison maisons", ["maison", "maison"]),
        ("pl", "domy dom", ["domy", "dom"]),  # no stemmer
        ("th", "ไปสวน", ["ไป", "สวน"]),
    ],
)
def test_words_are_stemmed_where_the_language_has_a_stemmer(code, text, found):
    assert LANGUAGES[code].stems(text) == found


def test_stems_do_not_depend_on_the_words_before():
    """One stemmer of nltk for all words would reduce the second word after the first and not before it."""
    arabic = LANGUAGES["ar"]
    _stem.cache_clear()
    assert [stem for word in ("أبوابها", "شازو") for stem in arabic.stems(word)][1:] == ["شازو"]
    _stem.cache_clear()
    assert arabic.stems("شازو أبوابها")[:1] == ["شازو"]


def test_digits_that_python_does_not_know_yet_stay_as_they_are():
    garay = "\U00010d41\U00010d42"  # of Unicode 16, which the package regex knows
    assert LANGUAGES["de"].words(f"{garay} ٤٢") == [garay, "42"]


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        ("zh", "打开盒子。取出灯！好吗？", ["打开盒子。", "取出灯！", "好吗？"]),
        ("ja", "公園です。散歩した！", ["公園です。", "散歩した！"]),
        ("hi", "नमस्ते। दुनिया।", ["नमस्ते।", "दुनिया।"]),
        ("ar", "ما هذا؟ كتاب.", ["ما هذا؟", "كتاب."]),
        ("ur", "یہ کتاب ہے۔ اچھی ہے۔", ["یہ کتاب ہے۔", "اچھی ہے۔"]),
        ("el", "Πού είναι; Εδώ.", ["Πού είναι;", "Εδώ."]),
        ("de", "Eins; zwei. Drei!", ["Eins; zwei.", "Drei!"]),
        ("th", "เราไปสวน รอ 3 นาที กลับบ้าน", ["เราไปสวน", "รอ 3 นาที", "กลับบ้าน"]),
        ("ko", "날씨가 좋다. 간다.", ["날씨가 좋다.", "간다."]),
    ],
)
def test_sentences_end_as_the_language_ends_them(code, text, found):
    assert LANGUAGES[code].sentences(text) == found


def test_each_language_is_known_by_its_code_and_wikilingua_has_18():
    assert all(code == each.code for code, each in LANGUAGES.items())
    assert {each.code: each.wikilingua for each in LANGUAGES.values() if each.wikilingua} == WIKILINGUA


def test_every_stemmer_that_is_named_exists():
    for each in LANGUAGES.values():
        assert each.stems("") == []
        assert each.is_english or len(each.stems("abc")) == 1


def test_a_code_counts_in_upper_and_lower_case():
    assert language_of(" DE ") is LANGUAGES["de"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("xx", "--language xx: not a language that the suite can score; choose from ar (Arabic), bn (Bengali), "),
        ("German", "--language German: the code is 'de'; choose from "),
        *(
            (
                code,
                f"--language {code}: {name} has no spaces between words, and the suite cannot find its words; choose",
            )
            for code, name in WITHOUT_SEGMENTATION.items()
        ),
    ],
)
def test_a_language_that_cannot_be_scored_is_refused_with_the_list(code, said):
    with pytest.raises(InputError) as caught:
        language_of(code)
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith("vi (Vietnamese), zh (Chinese)")
    assert "\n" not in str(caught.value)
