import pytest

from summarybench.documents.words import has_words, is_ascii_in_letters, pieces, sentences, spaced_words, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't stop, 3 times.", ["don", "t", "stop", "3", "times"]),
        ("取出灯，装上", ["取", "出", "灯", "装", "上"]),
        ("カップ一杯", ["カ", "ッ", "プ", "一", "杯"]),
        ("วัดดี", ["วั", "ด", "ดี"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया"]),
        ("Καλημέρα, κόσμε", ["καλημέρα", "κόσμε"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("cafe\u0301 CAFÉ", ["café", "café"]),
        ("…!?", []),
    ],
)
def test_words_of_every_script_are_found(text, found):
    assert words(text) == found
    assert has_words(text) is bool(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two 3.5! Three?", ["One.", "Two 3.5!", "Three?"]),
        ("打开盒子。取出灯！好吗？", ["打开盒子。", "取出灯！", "好吗？"]),
        ("नमस्ते। दुनिया।", ["नमस्ते।", "दुनिया।"]),
        ("ما هذا؟ كتاب.", ["ما هذا؟", "كتاب."]),
        ("one\n\ntwo", ["one", "two"]),
    ],
)
def test_sentences_end_at_the_full_stops_of_every_script(text, found):
    assert sentences(text) == found


def test_spaced_words_keep_punctuation_and_part_characters():
    assert spaced_words("A b, 取出。") == ["a", "b,", "取", "出", "。"]


def test_pieces_are_words_and_characters_of_scripts_without_spaces():
    assert pieces(" A b,  取出。") == ["A ", "b,  ", "取", "出", "。"]
    assert pieces("ที่ x") == ["ที่ ", "x"]


def test_typographic_quotes_do_not_make_a_text_foreign():
    assert is_ascii_in_letters("“Don’t” – he said…")
    assert not is_ascii_in_letters("café")
