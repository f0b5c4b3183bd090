"""Prompt lookup with a loaded model: the tokens of plain decoding, and honest counts of steps and drafts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from summarybench.catalogue.models import MODELS, lookup_experiments
from summarybench.core.outcomes import UnavailableError
from summarybench.documents.sources import embedded_documents
from summarybench.engines import lookup
from summarybench.engines.loading import load
from summarybench.engines.lookup import CompiledLookup, EagerLookup, LookupCounts, open_lookup
from summarybench.engines.weights import find_weights
from summarybench.measure.generation import build_prompts
from tests.engines.test_loading import CPU, load_tiny
from tests.engines.test_varlen_attention import attend_document_by_document

PROMPT = [20, 21, 22, 23, 24, 25, 26, 27] * 5
NEW_TOKENS = 24
LONGEST = len(PROMPT) + NEW_TOKENS


@pytest.fixture(scope="module")
def loaded(tiny_llama):
    return load_tiny(tiny_llama, "default-lookup")


def generated(model, prompt=PROMPT, new_tokens=NEW_TOKENS, on_first_token=lambda: None):
    prepared = model.prepare([prompt])
    return model.generated_ids(model.generate(prepared, new_tokens, on_first_token), prepared)


def compiled(loaded, monkeypatch, draft_tokens=7, longest=LONGEST):
    """The compiled engine over an eager model, uncaptured as on every CPU and uncompiled."""
    monkeypatch.setattr(lookup, "torch_varlen_attn", lambda: attend_document_by_document)
    monkeypatch.setattr("summarybench.engines.inductor.compile_with_inductor", lambda _: lambda piece: piece)
    monkeypatch.setattr("summarybench.engines.inductor.compile_for_any_length", lambda: lambda piece: piece)
    decoders = SimpleNamespace(built=lambda build: build())
    with_decoders = SimpleNamespace(
        decoders=decoders, model=loaded.model, experiment=loaded.experiment, decode=loaded.decode,
        ends_by_itself=loaded.ends_by_itself,
    )  # fmt: skip
    return open_lookup(with_decoders, draft_tokens, longest)


def test_settings_of_the_workload_name_the_drafts(loaded):
    assert (loaded.settings["drafts"], loaded.settings["draft_tokens"]) == ("prompt lookup", 10)


def test_eager_lookup_writes_the_tokens_of_plain_decoding(loaded):
    engine = open_lookup(loaded, 10, LONGEST)
    assert isinstance(engine, EagerLookup)
    assert generated(engine) == generated(loaded) == engine.summaries


def test_compiled_lookup_writes_the_tokens_of_plain_decoding(loaded, monkeypatch):
    engine = compiled(loaded, monkeypatch)
    assert isinstance(engine, CompiledLookup)
    assert generated(engine) == generated(loaded) == engine.summaries


def test_counts_add_up_to_the_tokens(loaded, monkeypatch):
    for engine in (open_lookup(loaded, 10, LONGEST), compiled(loaded, monkeypatch)):
        tokens = len(generated(engine)[0])
        (counts,) = engine.counts
        assert counts.first_tokens + counts.steps <= tokens <= counts.first_tokens + counts.steps + counts.drafted


def test_eager_steps_and_drafts_are_counted_from_the_forward_passes(loaded, monkeypatch):
    shapes = []
    forward = loaded.model.forward

    def noting(*arguments, **inputs):
        shapes.append(inputs["input_ids"].shape[1])
        return forward(*arguments, **inputs)

    monkeypatch.setattr(loaded.model, "forward", noting)
    engine = open_lookup(loaded, 10, LONGEST)
    generated(engine)
    (counts,) = engine.counts
    assert counts.steps == len(shapes) - 1
    assert counts.drafted == sum(shapes[1:]) - counts.steps
    assert counts.drafted > 0


def test_first_token_is_announced_once_and_hooks_are_gone_afterwards(loaded, monkeypatch):
    for engine in (open_lookup(loaded, 10, LONGEST), compiled(loaded, monkeypatch)):
        seen = []
        generated(engine, on_first_token=lambda seen=seen: seen.append(1))
        assert seen == [1]
    assert not loaded.model._forward_pre_hooks


def test_criteria_asked_about_drafts_before_the_first_pass_count_nothing():
    """As transformers 5.17 asks them: its drafts were counted as the first tokens, and the prefill as a step."""
    arrived = []
    counter = lookup._StepCounter(3, lambda: arrived.append("first"))
    counter(torch.zeros(1, 3 + 10))
    assert not arrived
    counter.before_step(None, (), {"input_ids": torch.zeros(1, 3 + 10)})
    counter(torch.zeros(1, 3 + 1))
    assert arrived == ["first"]
    counter(torch.zeros(1, 4 + 10))
    counter.before_step(None, (), {"input_ids": torch.zeros(1, 1 + 10)})
    counter(torch.zeros(1, 3 + 5))
    assert counter.counts == LookupCounts(first_tokens=1, steps=1, drafted=10)
    assert arrived == ["first"]


def test_summary_of_one_token_takes_no_step(loaded, monkeypatch):
    for engine in (open_lookup(loaded, 10, LONGEST), compiled(loaded, monkeypatch)):
        generated(engine, new_tokens=1)
        assert engine.counts == [LookupCounts(first_tokens=1, steps=0, drafted=0)]


def test_compiled_lookup_without_variable_length_attention_says_what_to_measure(loaded, monkeypatch):
    monkeypatch.setattr(lookup, "torch_varlen_attn", lambda: None)
    without = SimpleNamespace(decoders=object(), model=loaded.model, experiment=loaded.experiment)
    with pytest.raises(UnavailableError, match=r"torch 2\.11 or newer; measure smollm2-135m-instruct with fp16-lookup"):
        open_lookup(without, 7, LONGEST)


@pytest.mark.parametrize("counts", [(0, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_impossible_counts_are_refused(counts):
    first_tokens, steps, drafted = counts
    with pytest.raises(ValueError, match="impossible counts"):
        LookupCounts(first_tokens=first_tokens, steps=steps, drafted=drafted)


@pytest.mark.slow
def test_embedded_model_writes_the_same_summaries_in_fewer_steps(monkeypatch):
    experiment = next(each for each in lookup_experiments() if each.name == "smollm2-135m-instruct-default-lookup")
    real = load(
        experiment,
        lambda: find_weights(MODELS[experiment.model], {}),
        CPU,
        CPU.clock(),
        longest_sequence=lambda chat: 300,
        predict=False,
    )
    prompts = build_prompts(real.chat, embedded_documents().documents[:1], 200, NEW_TOKENS)
    for prompt in prompts:
        (expected,) = generated(real, prompt.token_ids)
        for engine in (open_lookup(real, 10, 300), compiled(real, monkeypatch, longest=300)):
            assert generated(engine, prompt.token_ids) == [expected]
            assert engine.counts[0].steps < len(expected) - 1
