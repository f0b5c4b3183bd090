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
from summarybench.session.own_models import read_named_models
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
    "gpt2": ("gpt2", {"num_key_value_heads": None}),
    "gpt_neox": ("gpt_neox", {"num_key_value_heads": None}),
    "gptj": ("gptj", {"num_key_value_heads": None, "rotary_dim": 16}),
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


WITH_USUAL_NAMES = {name: family for name, family in FAMILIES.items() if name not in ("gpt2", "gptj")}


@pytest.mark.parametrize(("architecture", "config"), WITH_USUAL_NAMES.values(), ids=WITH_USUAL_NAMES)
def test_a_config_json_predicts_what_transformers_configuration_does(architecture, config):
    config = AutoConfig.for_model(architecture, **{**SHAPE, **config})
    shape = shape_of(architecture, config.to_dict(), "a config.json")
    settings = {"dtype": "float16"}
    assert predict_memory(shape, settings, 1_000, 1) == predict_memory(config, settings, 1_000, 1)


OLDER = {
    "gpt2": {},
    "gptj": {"rotary_dim": 16},
    "opt": {"ffn_dim": 512, "word_embed_proj_dim": 256},
    "bloom": {},
    "falcon": {"multi_query": False, "new_decoder_architecture": False},
    "mpt": {},
}
"""Families whose configurations have other names for the sizes, or leave the inner width out."""


@pytest.mark.parametrize(("architecture", "config"), OLDER.items(), ids=OLDER)
def test_a_config_json_with_other_names_for_its_sizes_predicts_the_same(architecture, config, tmp_path):
    config = AutoConfig.for_model(architecture, **{**SHAPE, "num_key_value_heads": None, **config})
    config.save_pretrained(tmp_path)
    (spec,) = read_named_models([], [], [f"mine={tmp_path / 'config.json'}"], synthetic=True).values()
    settings = {"dtype": "float16"}
    assert predict_memory(shape_of_model(spec), settings, 1_000, 1) == predict_memory(config, settings, 1_000, 1)


@pytest.mark.parametrize("quantization", ["nf4", "llm.int8"])
def test_linear_layers_of_gpt2_count_as_quantized(quantization):
    """They are transformers' own Conv1D, which bitsandbytes quantizes too."""
    config = AutoConfig.for_model("gpt2", n_embd=256, n_layer=2, n_head=8, vocab_size=10)
    plain, quantized = (
        predict_weights(config, {"dtype": "float16", **settings}) for settings in ({}, {"quantization": quantization})
    )
    assert quantized < 0.75 * plain


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
    specs = read_named_models([], [SHAPES], [], synthetic=True)
    found = {name: predict_weights(shape_of_model(spec), {"dtype": "float16"}) // 2 for name, spec in specs.items()}
    assert found == PARAMETERS


def test_fused_attention_is_what_transformers_says(tiny_llama):
    assert has_fused_attention(AutoConfig.from_pretrained(tiny_llama, trust_remote_code=False))
    assert not has_fused_attention(AutoConfig.for_model("gemma2"))


def test_a_model_without_attention_has_no_cache_that_grows_with_the_prompt():
    config = AutoConfig.for_model("falcon_mamba", hidden_size=64, num_hidden_layers=2, vocab_size=1_000)
    found = predict_memory(config, {"dtype": "float16"}, 1_000, 1)
    assert found.cache_bytes == 0
    assert found.weights_bytes > 2 * 1_000 * 64
