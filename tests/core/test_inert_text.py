"""What others wrote neither moves the cursor nor gives a secret away."""

from __future__ import annotations

import pytest

from summarybench.core.inert_text import hide, inert, inert_record


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Σ – é 東京", "plain Σ – é 東京"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("nul\x00", r"nul\x00"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("line\u2028separator", r"line\u2028separator"),
        ("no\u00a0break space", "no\u00a0break space"),
        ("half \ud800", r"half \ud800"),
        ("tag \U000e0041", r"tag \U000e0041"),
    ],
)
def test_control_and_format_characters_are_visible(text, shown):
    assert inert(text) == shown


def test_texts_in_lists_of_figures_are_found():
    figures = [1, 2.5, True, None]
    assert inert_record({"figures": figures, "mixed": [*figures, "a\x07", (1, "b\x07")]}) == {
        "figures": figures,
        "mixed": [*figures, r"a\x07", [1, r"b\x07"]],
    }


def test_line_breaks_are_kept_where_they_are_asked_for():
    assert inert("a\nb\x07", keep="\n\t") == "a\nb\\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@hub.example/api", "https://***@hub.example/api"),
        ("https://user@hub.example", "https://***@hub.example"),
        ("https://u:p@ss@hub.example/x?a=b@c", "https://***@hub.example/x?a=b@c"),
        ("see https://hub.example/a@b", "see https://hub.example/a@b"),
        ("token hf_abcdefghijklmnopqrst was refused", "token *** was refused"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***"),
        ("mail a@b.example", "mail a@b.example"),
    ],
)
def test_user_info_and_tokens_are_hidden(text, shown):
    assert inert(text) == shown


def test_values_of_token_variables_and_passwords_of_addresses_are_hidden_wherever_they_are(monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "correct horse battery")
    monkeypatch.setenv("HF_ENDPOINT", "https://me:tr0ub4dor@hub.example")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    assert inert("key correct horse battery, password tr0ub4dor, a word") == "key ***, password ***, a word"
    assert inert("Authorization: Basic bWU6dHIwdWI0ZG9y") == "Authorization: Basic ***"
    assert inert_record({"a": ["tr0ub4dor", 1, None], "b": {"c": "\x1b"}}) == {
        "a": ["***", 1, None],
        "b": {"c": r"\x1b"},
    }


def test_value_that_is_to_be_hidden_is_hidden_whatever_its_variable_is_called():
    assert inert("refused: tr1ck-word-9") == "refused: tr1ck-word-9"
    hide("tr1ck-word-9")
    assert inert("refused: tr1ck-word-9") == "refused: ***"


def test_encoded_password_is_hidden_in_each_form(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:p%C3%A4ss%2Fw+rd@proxy.example")
    forms = (
        "p%C3%A4ss%2Fw+rd",
        "päss/w+rd",
        "p%C3%A4ss%2Fw%2Brd",
        "p%C3%A4ss/w%2Brd",
        "bWU6cMOkc3MvdytyZA==",
        "bWU6cORzcy93K3Jk",
    )
    assert {inert(form).rstrip("=") for form in forms} == {"***"}


def test_user_info_without_a_password_is_a_token(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://ghp_abcdefgh@index.example/simple")
    assert inert("ghp_abcdefgh was refused: Z2hwX2FiY2RlZmdoOg==") == "*** was refused: ***=="
