"""Compiled continuous batching: the tokens of transformers' own generate, and whose turn it is."""

from __future__ import annotations

import pytest

from summarybench.engines.engine import Limits
from summarybench.engines.memory_model import MemoryPrediction
from summarybench.engines.page_engine import PageEngine
from tests.checkpoints import TINY_SHAPE
from tests.engines.test_varlen_attention import attend_document_by_document

PROMPTS = [list(range(start, start + length)) for start, length in ((5, 300), (50, 20), (90, 7), (200, 120))]
NEW_TOKENS = 12


@pytest.fixture(scope="module", params=[("Llama", 4), ("Llama", 2), ("Qwen2", 2), ("Qwen3", 2)], ids=str)
def tiny_model(request):
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, GenerationConfig

    kind, key_heads = request.param
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**TINY_SHAPE, num_key_value_heads=key_heads)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=False).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:  # norms and biases, which are ones and zeros
            parameter.data.add_(torch.randn_like(parameter) * 0.3)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=0, pad_token_id=0)
    return model


@pytest.fixture(scope="module")
def expected(tiny_model):
    import torch

    with torch.no_grad():
        return [
            tiny_model.generate(torch.tensor([prompt]), max_new_tokens=NEW_TOKENS)[0, len(prompt) :].tolist()
            for prompt in PROMPTS
        ]


def engine_for(model, *, requests=4, pages=13, step_tokens=8192, ends=(0,)):
    from summarybench.engines.page_model import PAGE_TOKENS, PageModel

    limits = Limits(
        requests=requests,
        pages=pages,
        page_tokens=PAGE_TOKENS,
        step_tokens=step_tokens,
        predicted=MemoryPrediction(weights_bytes=0, cache_bytes=0, workspace_bytes=0),
    )
    ticks = iter(range(10_000))
    return PageEngine(
        PageModel(model, pages + 1, attend_document_by_document),
        limits,
        longest_sequence=max(map(len, PROMPTS)) + NEW_TOKENS,
        end_tokens=ends,
        clock=lambda: float(next(ticks)),
    )


@pytest.mark.parametrize(
    "limits", [{}, {"requests": 1, "pages": 5}, {"requests": 2, "pages": 9}, {"step_tokens": 128}], ids=str
)
def test_tokens_are_those_of_generate_however_many_run_at_a_time(tiny_model, expected, limits):
    engine = engine_for(tiny_model, **limits)
    for _ in range(2):  # the second round finds the first one's keys in its pages
        assert [each.generated_tokens for each in engine.run(PROMPTS, NEW_TOKENS)] == expected


def test_summary_ends_with_its_end_token_and_makes_room_for_the_next(tiny_model, expected):
    end = expected[0][3]
    ended = [each[: each.index(end) + 1] if end in each else each for each in expected]
    results = engine_for(tiny_model, requests=2, pages=9, ends=(end,)).run(PROMPTS, NEW_TOKENS)
    assert [each.generated_tokens for each in results] == ended
    assert all(each.is_finished() and each.error is None for each in results)


def test_documents_in_flight_share_each_step(tiny_model):
    engine = engine_for(tiny_model)
    engine.run(PROMPTS, NEW_TOKENS)
    assert engine.steps == 1 + NEW_TOKENS - 1  # one prefill, which chooses the first tokens
    alone = engine_for(tiny_model, requests=1, pages=5)
    alone.run(PROMPTS, NEW_TOKENS)
    assert alone.steps == len(PROMPTS) * NEW_TOKENS


def test_prompts_beyond_a_step_of_prefill_are_processed_in_the_next(tiny_model):
    engine = engine_for(tiny_model, step_tokens=140)
    engine.run(PROMPTS, 1)
    assert engine.steps == 3  # the prompt of 300 tokens alone, then 20, 7 and 120 in two


def test_each_token_has_the_time_at_which_the_host_had_it(tiny_model):
    for result in engine_for(tiny_model, requests=2, pages=9).run(PROMPTS, NEW_TOKENS):
        arrived, finished = result.lifespan
        assert arrived < result.timestamps[0]
        assert result.timestamps == sorted(set(result.timestamps))
        assert finished == result.timestamps[-1]


def test_pages_and_sequences_are_free_again_after_a_round(tiny_model, expected):
    engine = engine_for(tiny_model, requests=2, pages=9, ends=(expected[0][3],))
    engine.run(PROMPTS, NEW_TOKENS)
    assert sorted(engine._free_pages) == list(range(1, 10))
    assert sorted(engine._free_sequences) == [0, 1]


def test_layers_of_another_architecture_are_not_supported(tiny_model):
    from transformers import AutoModelForCausalLM, GPT2Config

    from summarybench.engines.page_model import supports_pages

    config = GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=1)
    assert not supports_pages(AutoModelForCausalLM.from_config(config, trust_remote_code=False))
    assert supports_pages(tiny_model)
