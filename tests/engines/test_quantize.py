"""Weights in 4 and 8 bits made at load: how far they may lie from the originals, and what a loaded model holds."""

from __future__ import annotations

import pytest

from summarybench.core.outcomes import UnavailableError
from summarybench.engines import graph_decoder, quantization
from summarybench.engines.loaded_model import LoadedModel
from tests.checkpoints import TINY_SHAPE, changed_copy
from tests.engines.test_loading import CPU, load_tiny
from tests.fakes import FakeGpu


def drawn(*shape, seed=0):
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [32, 64, 96, 576])
def test_int4_weight_lies_within_half_a_step_of_its_group(length):
    import torch

    from summarybench.engines.quantize import GROUP, int4_layer

    weight = drawn(6, length) * 0.02
    weight[0] += 1  # far from zero
    weight[1] = 0
    found = int4_layer(weight, None).dense(torch.float32)
    assert found.shape == weight.shape
    for start in range(0, length, GROUP):
        group, same = weight[:, start : start + GROUP], found[:, start : start + GROUP]
        step = (group.amax(1).clamp(min=0) - group.amin(1).clamp(max=0)) / 15
        assert ((same - group).abs().amax(1) <= step / 2 + 15 * step / 1024).all()  # scale and zero point are float16
    assert found[1].abs().max() == 0


def test_fp8_weight_has_four_significant_bits_and_a_scale_for_its_row():
    import torch

    from summarybench.engines.quantize import fp8_layer

    weight = drawn(6, 64) * torch.tensor([1e-3, 1e-2, 0.1, 1.0, 10.0, 0.0])[:, None]
    layer = fp8_layer(weight, None)
    found = layer.dense(torch.float32)
    assert str(layer.weight.dtype) == "torch.float8_e4m3fn"
    largest = weight.abs().amax(1, keepdim=True)
    assert ((found - weight).abs() <= weight.abs() / 16 + largest / 448 / 1024).all()
    torch.testing.assert_close(found.abs().amax(1, keepdim=True), largest)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("kind", ["int4_layer", "fp8_layer"])
def test_layer_multiplies_by_the_weight_that_its_codes_stand_for(kind, with_bias):
    import torch

    from summarybench.engines import quantize

    bias = drawn(6, seed=1) if with_bias else None
    layer = getattr(quantize, kind)(drawn(6, 192), bias)
    activations = drawn(2, 3, 192, seed=2)
    expected = torch.nn.functional.linear(activations, layer.dense(torch.float32), bias)
    torch.testing.assert_close(layer(activations), expected)


@pytest.mark.parametrize(
    ("loader", "layer", "bits"), [("w4a16", "Int4GroupLinear", 4.5), ("fp8", "Fp8WeightOnlyLinear", 8)]
)
def test_every_linear_layer_but_the_head_is_quantized(tiny_llama, loader, layer, bits):
    found = load_tiny(tiny_llama, loader)
    assert isinstance(found, LoadedModel), found
    quantized = [module for module in found.model.modules() if type(module).__name__ == layer]
    assert len(quantized) == 14
    assert type(found.model.lm_head).__name__ == "Linear"
    down = found.model.model.layers[0].mlp.down_proj  # 64 × 128: whole groups
    held = sum(each.nbytes for name, each in down.named_parameters() if name != "scale" or loader == "w4a16")
    assert held * 8 / (64 * 128) == bits


@pytest.mark.parametrize(("loader", "most"), [("w4a16", 0.25), ("fp8", 0.1)])
def test_logits_stray_no_further_from_float32_than_so_many_bits_allow(tiny_llama, loader, most):
    reference, found = (load_tiny(tiny_llama, each) for each in ("default", loader))
    prompt, summary = reference.chat.chat_ids("Say something."), [30, 31, 32, 33]
    expected, logits = (each.forced_logits(prompt, summary) for each in (reference, found))
    assert 0 < (logits - expected).norm() / expected.norm() < most


@pytest.fixture(scope="module")
def tiny_qwen2(tiny_llama, tmp_path_factory):
    """As `tiny_llama`, with biases."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = changed_copy(tiny_llama, tmp_path_factory.mktemp("tiny-qwen2") / "model")
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            **TINY_SHAPE,
            num_key_value_heads=2,
            eos_token_id=0,
            tie_word_embeddings=False,
        )
    )
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_qwen2"])
@pytest.mark.parametrize("loader", ["w4a16", "fp8", "w8a16", "4-bit"])
def test_compiled_decoder_computes_what_the_eager_layers_do(loader, model, monkeypatch, request):
    monkeypatch.setattr(graph_decoder, "compile_with_inductor", lambda rows, **_: lambda piece: piece)
    folder = request.getfixturevalue(model)
    eager = load_tiny(folder, loader)
    prompt, summary = eager.chat.chat_ids("Say something."), [30, 31, 32, 33]
    expected = eager.forced_logits(prompt, summary)
    decoded = load_tiny(folder, f"{loader}-compiled").forced_logits(prompt, summary)
    assert (decoded - expected).norm() / expected.norm() < 0.01  # 16 bits, summed in another order


@pytest.mark.parametrize("capability", [(8, 0), (8, 6)])
def test_fp8_is_refused_on_a_gpu_that_does_not_convert_it(capability):
    seen = f"this one has 8.{capability[1]}: measure w8a16-compiled"
    with pytest.raises(UnavailableError, match=f"fp8 needs a GPU of compute capability 8.9 or newer, and {seen}"):
        quantization._check_fp8(FakeGpu(capability=capability))


@pytest.mark.parametrize("device", [FakeGpu(capability=(8, 9)), FakeGpu(capability=(9, 0)), CPU], ids=str)
def test_fp8_is_loaded_on_a_device_that_converts_it(device):
    quantization._check_fp8(device)
