"""Predicted bytes against those of loaded models, of published parameter counts, and of peaks on a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import transformers

from summarybench.catalogue.models import EXPERIMENTS, LOADERS, MODELS
from summarybench.core.outcomes import Outcome
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.loading import load
from summarybench.engines.memory_model import MemoryPrediction, predict_memory, predict_weights
from summarybench.engines.not_loaded import NotLoaded
from summarybench.engines.shapes import shape_of_model
from summarybench.engines.weights import find_weights
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.detection import detect_device
from summarybench.machine.device import GIB
from summarybench.session.own_models import read_named_models
from tests.forked import ROOT

TINY = "smollm2-135m-instruct"
BY_NAME = {experiment.name: experiment for experiment in EXPERIMENTS}
CPU = detect_device({"CUDA_VISIBLE_DEVICES": ""})
KIB = 1024
SHAPES = ROOT / "tests" / "shapes" / "shapes.toml"
SMALL_CPU = replace(CPU, memory_bytes=100 * KIB)
H100 = CudaDevice(
    kind="cuda", name="an H100", slug="an-h100", family="h100", memory_bytes=80 * GIB, compute_dtype="bfloat16"
)


def load_tiny(folder, loader="default", device=CPU, predict=True):
    return load(
        BY_NAME[f"{TINY}-{loader}"],
        lambda: find_weights(MODELS[TINY], {TINY: folder}),
        device,
        device.clock(),
        longest_sequence=lambda chat: 100,
        predict=predict,
    )


def config_of(model):
    return transformers.AutoConfig.for_model(MODELS[model].architecture, **MODELS[model].whole_config)


def predicted(model, loader, sequence_tokens=625, batch_size=1):
    return predict_memory(config_of(model), LOADERS[loader].settings(H100, 1), sequence_tokens, batch_size)


@pytest.mark.parametrize(
    "loader", ["default", "fp16", "8-bit", "4-bit", "w8a16-compiled", "w4a16-compiled", "fp8-compiled"]
)
def test_predicted_weights_are_those_of_the_loaded_model_but_for_its_buffers(tiny_llama, loader):
    found = load_tiny(tiny_llama, loader)
    assert isinstance(found, LoadedModel), found
    prediction = predict_weights(found.chat.config, found.settings)
    assert prediction == pytest.approx(found.weights_bytes, rel=0.01)
    assert prediction == found.weights_bytes - sum(buffer.nbytes for buffer in found.model.buffers())


def test_loaded_model_carries_the_prediction_for_its_longest_sequence(tiny_llama):
    found = load_tiny(tiny_llama)
    assert found.predicted_memory_bytes == predict_memory(found.chat.config, found.settings, 100, 1).total_bytes


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("llama2-7b-chat", 6_738_415_616),
        ("mistral-7b-instruct", 7_248_023_552),
        ("smollm2-135m-instruct", 134_515_008),  # its head is its embedding, and counts once
    ],
)
def test_weights_in_float16_are_two_bytes_for_each_published_parameter(model, parameters):
    assert predicted(model, "fp16").weights_bytes == 2 * parameters


@pytest.mark.parametrize(
    ("model", "loader", "gib", "within"),
    [
        ("llama2-7b-chat", "default", 25.10, 0.005),
        ("llama2-7b-chat", "fp16", 12.55, 0.005),
        ("llama2-7b-chat", "bf16", 12.55, 0.005),
        ("llama2-7b-chat", "8-bit", 6.53, 0.005),
        ("llama2-7b-chat", "4-bit", 3.88, 0.005),
        ("mistral-7b-instruct", "default", 27.00, 0.02),
        ("mistral-7b-instruct", "fp16", 13.50, 0.01),
        ("mistral-7b-instruct", "bf16", 13.50, 0.01),
        ("mistral-7b-instruct", "8-bit", 6.99, 0.02),
        ("mistral-7b-instruct", "4-bit", 4.15, 0.02),
    ],
)
def test_weights_of_the_true_shapes_are_as_large_as_measured(model, loader, gib, within):
    assert predicted(model, loader).weights_bytes / GIB == pytest.approx(gib, abs=within)


@pytest.mark.parametrize(
    ("model", "loader", "kib_per_token"),
    [
        ("llama2-7b-chat", "fp16", 512),
        ("llama2-7b-chat", "8-bit", 512),
        ("llama2-7b-chat", "4-bit", 512),
        ("llama2-7b-chat", "default", 1_024),
        ("mistral-7b-instruct", "fp16", 128),
        ("mistral-7b-instruct", "default", 256),
    ],
)
def test_cache_takes_the_keys_and_values_of_every_token(model, loader, kib_per_token):
    assert predicted(model, loader, sequence_tokens=1).cache_bytes == kib_per_token * KIB
    assert predicted(model, loader, sequence_tokens=700, batch_size=3).cache_bytes == 2_100 * kib_per_token * KIB


@pytest.mark.parametrize("loader", LOADERS)
def test_total_grows_with_sequence_and_batch_and_weights_do_not(loader):
    one, longer, wider, twice_as_long = (
        predicted("llama2-7b-chat", loader, *sizes) for sizes in ((100, 1), (101, 1), (100, 2), (200, 1))
    )
    assert one.total_bytes < longer.total_bytes < wider.total_bytes
    assert wider == twice_as_long
    assert one.weights_bytes == longer.weights_bytes == wider.weights_bytes
    assert one.total_bytes == one.weights_bytes + one.cache_bytes + one.workspace_bytes


# Measured on H100s with synthetic weights, torch's allocator over the timed rounds. The longest sequence was 625 tokens
# in a first look at 4 documents, 2,148 in baselines 0001 and 0002 (32 documents), 696 in 0003 (16 documents).
@pytest.mark.parametrize(
    ("model", "loader", "sequence_tokens", "peak_gib"),
    [
        ("llama2-7b-chat", "default", 625, 25.82),
        ("llama2-7b-chat", "fp16", 625, 12.93),
        ("llama2-7b-chat", "8-bit", 625, 7.21),
        ("llama2-7b-chat", "4-bit", 625, 4.35),
        ("llama2-7b-chat", "default", 2_148, 27.513),
        ("llama2-7b-chat", "fp16", 2_148, 13.775),
        ("llama2-7b-chat", "bf16", 2_148, 13.775),
        ("llama2-7b-chat", "4-bit", 2_148, 5.161),
        ("mistral-7b-instruct", "default", 2_148, 28.894),
        ("mistral-7b-instruct", "fp16", 2_148, 14.009),
        ("mistral-7b-instruct", "bf16", 2_148, 14.009),
        ("mistral-7b-instruct", "4-bit", 2_148, 4.752),
        ("mistral-7b-instruct", "8-bit", 696, 7.579),
    ],
)
def test_prediction_is_within_a_fortieth_of_the_peak_on_a_gpu(model, loader, sequence_tokens, peak_gib):
    assert predicted(model, loader, sequence_tokens).total_bytes / GIB == pytest.approx(peak_gib, rel=0.025)


# Measured on an H200 (torch 2.11, transformers 5.17), the longest sequence 2,148 tokens, 2,048 for phi-2.
@pytest.mark.parametrize(
    ("model", "mib_16_bits", "mib_4_bits"),
    [
        ("llama-3.2-1b", 2_583, 1_249),
        ("mistral-7b-v0.1", None, 4_856),
        ("qwen2.5-1.5b", 3_168, 1_381),
        ("qwen3-1.7b", 3_643, 1_711),
        ("gemma-2b", 5_074, 2_357),
        ("gemma-3-1b", 2_131, 1_145),
        ("phi-2", 6_137, 2_686),
    ],
)
def test_prediction_for_published_shapes_is_within_a_twentieth_of_the_peak_on_a_gpu(model, mib_16_bits, mib_4_bits):
    shape = shape_of_model(read_named_models([], [SHAPES], [], synthetic=True)[model])
    tokens = 2_048 if model == "phi-2" else 2_148
    for loader, peak in (("bf16", mib_16_bits), ("4-bit", mib_4_bits)):
        if peak is not None:
            found = predict_memory(shape, LOADERS[loader].settings(H100, 1), tokens, 1)
            assert found.total_bytes / 1024**2 == pytest.approx(peak, rel=0.05)


def test_prediction_names_its_parts_in_gib():
    prediction = MemoryPrediction(weights_bytes=12 * GIB, cache_bytes=GIB // 2, workspace_bytes=GIB // 4)
    assert str(prediction) == "12.75 GiB needed (12.00 weights, 0.50 cache, 0.25 workspace)"


def test_what_is_predicted_not_to_fit_is_not_even_tried(tiny_llama, monkeypatch):
    tried = []
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: tried.append(True))
    found = load_tiny(tiny_llama, device=SMALL_CPU)
    assert isinstance(found, NotLoaded)
    assert found.outcome is Outcome.OUT_OF_MEMORY
    assert found.detail.startswith("out of memory (predicted): ")
    assert found.detail.endswith("0.00 GiB are free; --no-memory-prediction tries all the same")
    assert tried == []


def test_without_prediction_it_is_tried_all_the_same(tiny_llama):
    assert isinstance(load_tiny(tiny_llama, device=SMALL_CPU, predict=False), LoadedModel)
