"""Compiled prompt lookup: the tokens of transformers' own greedy decoding, in fewer steps."""

from __future__ import annotations

import pytest

from tests import lookup_steps
from tests.checkpoints import TINY_SHAPE
from tests.engines.test_varlen_attention import attend_document_by_document

REPEATED = [11, 12, 13, 14, 15, 16, 17, 18] * 12
PROMPTS = [REPEATED, list(range(50, 70)), [90, 91, 92] * 3]
NEW_TOKENS = 40
NOTHING_ENDS = 999


@pytest.fixture(scope="module")
def tiny_model():
    """A random model whose greedy outputs soon repeat themselves, so that drafts are kept and refused."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(**TINY_SHAPE, num_key_value_heads=2)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=NOTHING_ENDS, pad_token_id=0)
    return model


def plainly_generated(model, prompt, new_tokens=NEW_TOKENS):
    import torch

    with torch.inference_mode():
        return model.generate(torch.tensor([prompt]), max_new_tokens=new_tokens)[0, len(prompt) :].tolist()


@pytest.fixture(scope="module")
def expected(tiny_model):
    return [plainly_generated(tiny_model, prompt) for prompt in PROMPTS]


def decoder_for(model, *, documents=1, draft_tokens=4, ends=(NOTHING_ENDS,), tokens=160, compiled=None):
    from summarybench.engines.lookup_decoder import LookupDecoder
    from summarybench.engines.page_model import PageModel

    pages = LookupDecoder.pages_for(documents, draft_tokens, tokens)
    return LookupDecoder(
        PageModel(model, pages, attend_document_by_document),
        documents=documents,
        draft_tokens=draft_tokens,
        tokens=tokens,
        end_tokens=ends,
        compiled=compiled,
    )


def generated(decoder, *prompts, new_tokens=NEW_TOKENS):
    return decoder.generate(prompts, new_tokens, lambda: None).summaries()


@pytest.mark.parametrize("draft_tokens", [1, 4, 9])
def test_tokens_are_those_of_plain_greedy_decoding(tiny_model, expected, draft_tokens):
    decoder = decoder_for(tiny_model, draft_tokens=draft_tokens)
    for _ in range(2):  # the second round finds the first one's keys in its pages
        assert [generated(decoder, prompt)[0] for prompt in PROMPTS] == expected


def test_documents_of_a_batch_accept_different_numbers_of_drafts(tiny_model, expected):
    output = decoder_for(tiny_model, documents=3).generate(PROMPTS, NEW_TOKENS, lambda: None)
    assert output.summaries() == expected
    assert len(set(output.steps.tolist())) == 3


def test_repeating_text_takes_fewer_steps_than_it_has_tokens(tiny_model, expected):
    output = decoder_for(tiny_model).generate([REPEATED], NEW_TOKENS, lambda: None)
    steps = int(output.steps)
    assert len(set(expected[0][-10:])) < 10, "the fixture's text repeats"
    assert -(-(NEW_TOKENS - 1) // 5) <= steps < NEW_TOKENS - 1


def test_summary_ends_with_the_first_end_token_even_in_the_middle_of_a_group(tiny_model, expected):
    for end in dict.fromkeys(expected[0]):
        until = expected[0][: expected[0].index(end) + 1]
        assert generated(decoder_for(tiny_model, ends=(7, end)), REPEATED) == [until]


@pytest.mark.parametrize("new_tokens", [1, 2, 3, 17])
def test_limit_cuts_a_group_of_tokens(tiny_model, expected, new_tokens):
    decoder = decoder_for(tiny_model, documents=3)
    assert generated(decoder, *PROMPTS, new_tokens=new_tokens) == [each[:new_tokens] for each in expected]


def test_first_token_comes_alone_before_any_step(tiny_model):
    decoder = decoder_for(tiny_model)
    seen = []
    decoder.generate(
        [REPEATED], NEW_TOKENS, lambda: seen.append((int(decoder._state.length), int(decoder._state.steps)))
    )
    assert seen == [(len(REPEATED) + 1, 0)]


def test_other_numbers_and_lengths_of_prompts_are_refused(tiny_model):
    decoder = decoder_for(tiny_model)
    with pytest.raises(ValueError, match="2 sequences of up to 60 tokens"):
        generated(decoder, PROMPTS[1], PROMPTS[1])
    with pytest.raises(ValueError, match="1 sequences of up to 197 tokens"):
        generated(decoder, REPEATED, new_tokens=101)


@pytest.mark.parametrize(
    ("sequence", "drafts"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 1, 2, 3], [4, 5, 6, 7]),  # three tokens agree
        ([9, 2, 3, 50, 60, 70, 80, 1, 3, 40, 8, 2, 3], [50, 60, 70, 80]),  # two agree, though one agrees later
        ([3, 10, 11, 12, 13, 3, 20, 21, 22, 23, 5, 3], [20, 21, 22, 23]),  # of equal matches the last
        ([1, 2, 8, 9, 8, 9], [8, 9, 8, 9]),  # repeated where it reaches the end
        ([1, 2, 3, 4, 5], [5, 5, 5, 5]),  # found nowhere
    ],
)
def test_drafts_follow_the_longest_and_last_match(sequence, drafts):
    import torch

    from summarybench.engines.lookup_decoder import LookupState

    state = LookupState(1, 4, 60, [NOTHING_ENDS], torch.device("cpu"))
    state.begin([sequence[:-1]], torch.tensor(sequence[-1:]), 20)
    assert state.token.tolist() == [sequence[-1], *drafts]
    assert state.position.tolist() == [len(sequence) - 1 + row for row in range(5)]


def test_without_drafts_each_step_gives_one_token(tiny_model, expected):
    output = decoder_for(tiny_model, documents=3, draft_tokens=0).generate(PROMPTS, NEW_TOKENS, lambda: None)
    assert output.summaries() == expected
    assert output.steps.tolist() == [NEW_TOKENS - 1] * 3


def test_step_costs_cover_each_batch_size_and_number_of_drafts(tiny_model, monkeypatch):
    monkeypatch.setattr(lookup_steps, "STEPS", 2)
    found = lookup_steps.step_costs(
        tiny_model,
        attend_document_by_document,
        batch_sizes=[1, 3],
        draft_tokens=[2, 4],
        prompt_tokens=9,
        is_compiled=False,
    )
    assert [(each.documents, each.draft_tokens) for each in found] == [(1, 2), (1, 4), (3, 2), (3, 4)]


def cost(documents, ratio, draft_tokens=7):
    return lookup_steps.StepCost(documents=documents, draft_tokens=draft_tokens, plain_seconds=0.5, seconds=0.5 * ratio)


@pytest.mark.parametrize(
    ("ratios", "found"),
    [
        ((1.1, 1.5, 1.9, 3.0), "loses from batch size 4 on"),
        ((1.1, 2.0, 1.5, 3.0), "loses from batch size 8 on"),
        ((1.8, 2.0, 2.1, 3.0), "loses from batch size 1 on"),
        ((1.1, 1.2, 1.3, 1.4), "gains up to batch size 8"),
    ],
)
def test_lookup_loses_from_the_batch_size_from_which_every_step_costs_more_than_it_gives(ratios, found):
    costs = [cost(documents, ratio) for documents, ratio in zip((1, 2, 4, 8), ratios, strict=True)]
    assert list(lookup_steps.where_it_loses(costs, 1.8)) == [f"1.8 tokens per step, 7 drafts: prompt lookup {found}"]


def test_each_number_of_drafts_has_its_own_line():
    costs = [cost(1, 1.2, draft_tokens=3), cost(1, 2.5), cost(2, 1.4, draft_tokens=3), cost(2, 3.0)]
    assert list(lookup_steps.where_it_loses(costs, 1.5)) == [
        "1.5 tokens per step, 3 drafts: prompt lookup gains up to batch size 2",
        "1.5 tokens per step, 7 drafts: prompt lookup loses from batch size 1 on",
    ]


@pytest.mark.slow
def test_compiled_bookkeeping_keeps_the_same_tokens(tiny_model, expected):
    from summarybench.engines.inductor import compile_with_inductor

    decoder = decoder_for(tiny_model, documents=3, compiled=compile_with_inductor(1))
    assert generated(decoder, *PROMPTS) == expected
