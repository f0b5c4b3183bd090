"""Chat templates: what they want, what they state, and how they end an answer."""

from __future__ import annotations

import re
import shutil

import pytest
from transformers import AutoConfig

from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.documents.sources import embedded_documents
from summarybench.engines.chat import WITHOUT_LIMIT, Chat, open_chat
from summarybench.engines.weights import Weights
from summarybench.measure.generation import build_prompts
from tests.engines.test_loading import load_tiny

PLAIN = "{% for m in messages %}<user> {{ m['content'] }}<end>{% endfor %}<assistant>"


@pytest.fixture
def chat_with(tiny_llama, tmp_path):
    """The chat of the tiny model with another template."""

    def opened(template):
        folder = tmp_path / "model"
        shutil.copytree(tiny_llama, folder, dirs_exist_ok=True)
        (folder / "chat_template.jinja").write_text(template)
        return open_chat(Weights(kind="path", revision="", location=str(folder)))

    return opened


def prompt_of(chat):
    return chat.text_of(chat.chat_ids("Hello."))


def test_a_template_that_states_the_date_states_the_same_one_every_day(chat_with):
    chat = chat_with("{{ strftime_now('%d %B %Y') }} " + PLAIN)
    assert prompt_of(chat).startswith("01 January 2025")
    assert chat.template.endswith("\n2025-01-01")


def test_a_template_without_a_date_is_its_own_text(chat_with):
    assert chat_with(PLAIN).template == PLAIN


def test_a_template_that_wants_parts_gets_them(chat_with):
    of_parts = "{% for m in messages %}<user> {% for p in m['content'] %}{{ p['text'] }}{% endfor %}<end>{% endfor %}<assistant>"
    assert prompt_of(chat_with(of_parts)) == prompt_of(chat_with(PLAIN))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('System role is required') }}", r"\(System role is required\)"),
        ("{{ messages[1]['content'] }}", "does not take a single message of the user"),
        ("<assistant>", "it leaves the message out"),
        (
            PLAIN + "\n{{ m",
            r"is not valid: line 2: unexpected end of template.*; correct it, or download the model again",
        ),
        ("{{ messages | shorten }}", r"is not valid: line 1: No filter named 'shorten'\."),
    ],
)
def test_a_template_that_takes_no_single_message_is_refused_in_one_line(chat_with, template, said):
    with pytest.raises(UnavailableError, match=said) as raised:
        chat_with(template)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (PLAIN, 0),  # as the generation_config says
        ("{% for m in messages %}{{ m['content'] }}<user>\n{% endfor %}", 1),
        ("{% for m in messages %}{{ m['content'] }} and so on{% endfor %}", None),
    ],
)
def test_the_token_that_ends_an_answer_is_read_from_the_template(chat_with, template, ends):
    assert chat_with(template).end_token == ends


def test_end_tokens_of_template_and_generation_config_are_united(tiny_llama, tmp_path):
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}<user>\n{% endfor %}")
    assert load_tiny(folder).model.generation_config.eos_token_id == [0, 1]
    assert load_tiny(tiny_llama).model.generation_config.eos_token_id == 0


@pytest.mark.parametrize("new_tokens", [1_000, 512, 511, 490])
def test_new_tokens_beyond_the_context_are_named_with_it(chat_with, new_tokens):
    says = rf"--max-new-tokens {new_tokens}: the model's context has 512 tokens, .*; allow at most \d+ new tokens"
    with pytest.raises(InputError, match=says):
        build_prompts(chat_with(PLAIN), embedded_documents().documents[:1], 2_048, new_tokens)


def test_most_new_tokens_that_are_said_to_fit_do(chat_with):
    chat, documents = chat_with(PLAIN), embedded_documents().documents[:1]
    with pytest.raises(InputError) as raised:
        build_prompts(chat, documents, 2_048, 512)
    most = int(re.search(r"at most (\d+) new tokens", str(raised.value))[1])
    (prompt,) = build_prompts(chat, documents, 2_048, most)
    assert len(prompt.token_ids) + most == 512
    with pytest.raises(InputError, match=f"--max-new-tokens {most + 1}: "):
        build_prompts(chat, documents, 2_048, most + 1)


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (AutoConfig.for_model("bloom", seq_length=2_048), 2_048),
        (AutoConfig.for_model("mpt", max_seq_len=512), 512),
        (AutoConfig.for_model("falcon_mamba"), WITHOUT_LIMIT),
    ],
    ids=["bloom", "mpt", "falcon_mamba"],
)
def test_the_context_is_read_under_the_names_of_older_models(config, tokens):
    assert Chat(tokenizer=None, config=config).context_tokens == tokens
