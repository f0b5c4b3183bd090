"""Checkpoints whose tensors are not those of their configuration: named and refused, in the suite and in distillation."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillation.loading import load_weights
from summarybench.catalogue.models import MODELS
from summarybench.core.outcomes import CheckpointError, Outcome
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.not_loaded import NotLoaded
from summarybench.engines.weights import find_weights
from tests.checkpoints import TINY_SHAPE, changed_copy
from tests.engines.test_loading import load_tiny

LOADERS = ("default", "8-bit", "4-bit")


def prefixed(prefix):
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def without(part):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def with_old_buffers(tensors):
    import torch

    return tensors | {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(8) for layer in (0, 1)}


def with_adapter(tensors):
    import torch

    return tensors | {"model.layers.0.mlp.down_proj.lora_A.weight": torch.ones(4, 128)}


FOR_PLAIN_WEIGHTS = [name for name in LOADERS if name != "as-stored"]

BROKEN = {
    "compiled": (
        {"tensors": prefixed("_orig_mod.")},
        "21 tensors are missing (lm_head.weight, model.embed_tokens.weight, model.layers.0.input_layernorm.weight, …)",
        "21 tensors are unexpected (_orig_mod.lm_head.weight, ",
        "strip '_orig_mod.' from the tensors' names",
    ),
    "compiled-inside": (
        {"tensors": lambda tensors: {each.replace("model.", "model._orig_mod.", 1): tensors[each] for each in tensors}},
        "20 tensors are missing",
        "20 tensors are unexpected",
        "strip '_orig_mod.' from the tensors' names",
    ),
    "data-parallel": (
        {"tensors": prefixed("module.")},
        "21 tensors are missing",
        "21 tensors are unexpected",
        "strip 'module.' from the tensors' names",
    ),
    "other-prefix": (
        {"tensors": prefixed("student.")},
        "21 tensors are missing",
        "21 tensors are unexpected",
        "strip 'student.' from the tensors' names",
    ),
    "one-layer-more": (
        {"config": {"num_hidden_layers": 3}},
        "9 tensors are missing (model.layers.2.input_layernorm.weight, ",
        "incomplete, or its config.json describes a larger model",
    ),
    "one-layer-less": (
        {"config": {"num_hidden_layers": 1}},
        "9 tensors are unexpected (model.layers.1.input_layernorm.weight, ",
        "its config.json describes a smaller model",
    ),
    "no-head": (
        {"tensors": without("lm_head")},
        "1 tensor is missing (lm_head.weight)",
    ),
    "other-shapes": (
        {"config": {"intermediate_size": 256}},
        "6 tensors are of another shape (model.layers.0.mlp.down_proj.weight [64, 128] instead of [64, 256], ",
    ),
    "adapter": (
        {"tensors": with_adapter},
        "1 tensor is unexpected (model.layers.0.mlp.down_proj.lora_A.weight)",
        "merge the adapter into the model",
    ),
}


@pytest.fixture(params=BROKEN)
def broken(request, tiny_llama, tmp_path):
    """A checkpoint that does not match its configuration, and what is to be said of it."""
    changes, *said = BROKEN[request.param]
    return changed_copy(tiny_llama, tmp_path / request.param, **changes), said


@pytest.mark.parametrize("loader", FOR_PLAIN_WEIGHTS)
def test_tensors_that_do_not_match_the_configuration_are_named_and_nothing_is_measured(broken, loader):
    folder, said = broken
    found = load_tiny(folder, loader)
    assert isinstance(found, NotLoaded)
    assert found.outcome is Outcome.FAILED
    assert found.detail.startswith(f"{folder}: ")
    assert "\n" not in found.detail
    for phrase in said:
        assert phrase in found.detail


def test_teachers_and_students_of_a_distillation_are_checked_too(broken):
    folder, said = broken
    with pytest.raises(CheckpointError) as raised:
        load_weights(folder, "float32", "cpu")
    for phrase in said:
        assert phrase in str(raised.value)


@pytest.mark.parametrize("loader", FOR_PLAIN_WEIGHTS)
def test_buffers_of_old_checkpoints_are_no_fault(tiny_llama, tmp_path, loader):
    folder = changed_copy(tiny_llama, tmp_path / "old", tensors=with_old_buffers)
    assert isinstance(load_tiny(folder, loader), LoadedModel)


@pytest.mark.parametrize("loader", FOR_PLAIN_WEIGHTS)
@pytest.mark.parametrize("is_head_stored", [False, True])
def test_a_head_that_is_the_embedding_may_be_stored_or_left_out(tiny_llama, tmp_path, loader, is_head_stored):
    def tied(tensors):
        kept = without("lm_head")(tensors)
        return kept | ({"lm_head.weight": kept["model.embed_tokens.weight"].clone()} if is_head_stored else {})

    folder = changed_copy(tiny_llama, tmp_path / "tied", tensors=tied, config={"tie_word_embeddings": True})
    found = load_tiny(folder, loader)
    assert isinstance(found, LoadedModel), found
    assert found.model.lm_head.weight is found.model.model.embed_tokens.weight


@pytest.mark.parametrize("loader", FOR_PLAIN_WEIGHTS)
def test_mistral_loads_without_a_fault(tmp_path, tiny_llama, loader):
    from transformers import MistralConfig, MistralForCausalLM

    folder = changed_copy(tiny_llama, tmp_path / "mistral")
    MistralForCausalLM(
        MistralConfig(
            **TINY_SHAPE,
            num_key_value_heads=2,
            sliding_window=None,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
            tie_word_embeddings=False,
        )
    ).save_pretrained(folder)
    found = load_tiny(folder, loader, model="mistral-7b-instruct")
    assert isinstance(found, LoadedModel), found


def test_the_embedded_model_with_its_tied_head_loads_without_a_fault():
    folder = Path(find_weights(MODELS["smollm2-135m-instruct"], {}).location)
    found = load_tiny(folder)
    assert isinstance(found, LoadedModel), found
    assert found.model.config.tie_word_embeddings
