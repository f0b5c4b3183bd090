"""Predicted memory beside the tensors that live at one time, in small models of every family."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from summarybench.catalogue.models import shape_of
from summarybench.engines.memory_model import predict_memory, predict_weights
from summarybench.engines.pretrained import has_fused_attention
from summarybench.engines.shapes import shape_of_model
from summarybench.engines.workspace import EAGER_ATTENTION, LIBRARY_BYTES
from summarybench.session.own_models import read_own_models
from tests.engines.live_bytes import LiveBytes
from tests.forked import ROOT

SHAPES = ROOT / "tests" / "shapes" / "shapes.toml"
PROMPT, NEW = 1_200, 3
SHAPE = {
    "vocab_size": 2_000,
    "hidden_size": 256,
    "intermediate_size": 1_024,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4_096,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
"""A prompt of this length takes as much memory as the weights: the workspace is half of what is predicted."""
GEMMA = {"head_dim": 64, "query_pre_attn_scalar": 64}
FAMILIES = {
    "llama": ("llama", {}),
    "llama, no groups": ("llama", {"num_key_value_heads": 8}),
    "llama, narrow feed-forward": ("llama", {"intermediate_size": 64}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, short window": ("mistral", {"sliding_window": 256}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 64}),
    "qwen3, narrow feed-forward": ("qwen3", {"head_dim": 64, "intermediate_size": 64}),
    "gemma": ("gemma", {"head_dim": 64, "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": ("gemma2", {**GEMMA, "sliding_window": 256}),
    "gemma3": ("gemma3_text", {**GEMMA, "sliding_window": 256}),
    "gemma3, long window": ("gemma3_text", {**GEMMA, "sliding_window": 4_000}),
    "phi": ("phi", {}),
    "phi3": ("phi3", {"sliding_window": None}),
    "starcoder2": ("starcoder2", {}),
}


@pytest.mark.parametrize(("architecture", "config"), FAMILIES.values(), ids=FAMILIES)
def test_prediction_is_within_a_twentieth_of_the_peak(architecture, config):
    config = AutoConfig.for_model(architecture, **{**SHAPE, **config})
    attention = "sdpa" if has_fused_attention(config) else EAGER_ATTENTION
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.bfloat16, attn_implementation=attention, trust_remote_code=False
    ).eval()
    ids = torch.randint(1, 1_000, (1, PROMPT))
    with torch.no_grad(), LiveBytes(model) as live:
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False
        )
    found = predict_memory(config, {"dtype": "bfloat16", "attention": attention}, PROMPT + NEW, 1)
    assert found.total_bytes - LIBRARY_BYTES == pytest.approx(live.peak, rel=0.05)


@pytest.mark.parametrize(("architecture", "config"), FAMILIES.values(), ids=FAMILIES)
def test_a_config_json_predicts_what_transformers_configuration_does(architecture, config):
    config = AutoConfig.for_model(architecture, **{**SHAPE, **config})
    shape = shape_of(architecture, config.to_dict(), "a config.json")
    settings = {"dtype": "float16"}
    assert predict_memory(shape, settings, 1_000, 1) == predict_memory(config, settings, 1_000, 1)


PARAMETERS = {
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b-v0.1": 7_241_732_096,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen3-1.7b": 1_720_574_976,
    "gemma-2b": 2_506_172_416,
    "gemma-3-1b": 999_885_952,
    "phi-2": 2_779_683_840,
    "phi-3-mini": 3_821_079_552,
}
"""As published, tied heads once."""


def test_published_shapes_have_as_many_parameters_as_published():
    specs = read_own_models([], [SHAPES], [], synthetic=True)
    found = {name: predict_weights(shape_of_model(spec), {"dtype": "float16"}) // 2 for name, spec in specs.items()}
    assert found == PARAMETERS


def test_fused_attention_is_what_transformers_says(tiny_llama):
    assert has_fused_attention(AutoConfig.from_pretrained(tiny_llama, trust_remote_code=False))
    assert not has_fused_attention(AutoConfig.for_model("gemma2"))
