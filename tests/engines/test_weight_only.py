"""Weights of 8 bits under activations of 16: bitsandbytes' own weights, and no more error than rounding them makes."""

from __future__ import annotations

import pytest

from summarybench.catalogue.models import LOADERS
from summarybench.engines import graph_decoder
from tests.engines.test_loading import load_tiny


@pytest.fixture(scope="module")
def found(tiny_llama):
    return load_tiny(tiny_llama, "w8a16")


def layers_of(loaded):
    return {name: module for name, module in loaded.model.named_modules() if name.endswith("_proj")}


def test_weights_are_those_that_bitsandbytes_makes(tiny_llama, found):
    import torch

    theirs = layers_of(load_tiny(tiny_llama, "8-bit"))
    ours = layers_of(found)
    assert ours.keys() == theirs.keys()
    for name, layer in ours.items():
        weight = theirs[name].weight
        assert str(layer.weight.dtype) == "torch.int8"
        # From float32 there and from bfloat16 here: the largest of a row is rounded, and the rest a step apart at most.
        assert (layer.weight.int() - weight.data.int()).abs().max() <= 1
        torch.testing.assert_close(layer.scale.data, weight.SCB / 127, rtol=1 / 256, atol=0)


def test_no_layer_of_bitsandbytes_is_left(found):
    modules = {type(module).__name__ for module in found.model.modules()}
    assert "Int8WeightOnlyLinear" in modules
    assert "Linear8bitLt" not in modules


@pytest.mark.parametrize("with_bias", [False, True])
def test_layer_multiplies_by_the_scaled_weight(with_bias):
    import torch

    from summarybench.engines.weight_only import Int8WeightOnlyLinear

    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (6, 16), dtype=torch.int8, generator=generator)
    scale = torch.rand(6, generator=generator) / 100
    bias = torch.rand(6, generator=generator) if with_bias else None
    activations = torch.randn((2, 3, 16), generator=generator)
    expected = torch.nn.functional.linear(activations, weight * scale[:, None], bias)
    found = Int8WeightOnlyLinear(weight, scale, bias)(activations)
    torch.testing.assert_close(found, expected)


def test_activations_beyond_the_range_of_float16_do_not_overflow():
    import torch

    from summarybench.engines.weight_only import Int8WeightOnlyLinear

    layer = Int8WeightOnlyLinear(torch.full((1, 64), 127, dtype=torch.int8), torch.tensor([1e-4]), None)
    found = layer(torch.full((1, 64), 100.0, dtype=torch.bfloat16))
    assert found.item() == pytest.approx(64 * 127 * 100 * 1e-4, rel=0.01)
    assert LOADERS["w8a16"].dtype == "bfloat16"


def test_logits_stray_less_from_float32_than_those_of_int8_activations(tiny_llama, found):
    reference, int8 = (load_tiny(tiny_llama, loader) for loader in ("default", "8-bit-threshold-0"))
    prompt, summary = reference.chat.chat_ids("Say something."), [30, 31, 32, 33]
    expected, *others = (each.forced_logits(prompt, summary) for each in (reference, found, int8))
    errors = [(each - expected).norm() / expected.norm() for each in others]
    assert errors[0] < errors[1]


def test_compiled_decoder_computes_what_the_eager_layers_do(tiny_llama, found, monkeypatch):
    monkeypatch.setattr(graph_decoder, "compile_with_inductor", lambda rows, **_: lambda piece: piece)
    prompt, summary = found.chat.chat_ids("Say something."), [30, 31, 32, 33]
    expected = found.forced_logits(prompt, summary)
    decoded = load_tiny(tiny_llama, "w8a16-compiled").forced_logits(prompt, summary)
    assert (decoded - expected).norm() / expected.norm() < 0.01  # bfloat16, summed in another order
