"""Shapes computed from a catalogued model's numbers, beside those of the model that transformers builds of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import transformers

from summarybench.catalogue.models import MODELS, shape_of
from summarybench.engines.shapes import parameter_shapes

LLAMA = MODELS["llama2-7b-chat"]


def config_of(spec):
    return transformers.AutoConfig.for_model(spec.architecture, **spec.whole_config)


@pytest.mark.parametrize("spec", MODELS.values(), ids=lambda spec: spec.name)
def test_every_model_of_the_catalogue_has_the_shapes_that_transformers_builds(spec):
    assert sorted(parameter_shapes(spec.shape)) == sorted(parameter_shapes(config_of(spec)))


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("llama", {"head_dim": 64}),
        ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
        ("llama", {"attention_bias": True}),
        ("llama", {"mlp_bias": True}),
        ("mistral", {"head_dim": 64}),
        ("mistral", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    ],
    ids=str,
)
def test_other_shapes_of_an_architecture_agree_too(architecture, change):
    spec = replace(LLAMA, architecture=architecture, config={**LLAMA.config, "num_hidden_layers": 2, **change})
    assert sorted(parameter_shapes(spec.shape)) == sorted(parameter_shapes(config_of(spec)))


def test_another_architecture_is_built_from_its_whole_configuration():
    config = {**LLAMA.config, "num_hidden_layers": 2, "model_type": "qwen2", "tie_word_embeddings": False}
    shapes = list(parameter_shapes(shape_of("qwen2", config, "a config.json")))
    biases = [shape for shape, _ in shapes if len(shape) == 1]
    assert len(biases) == 2 * (2 + 3) + 1  # two norms and three biases a layer, and the last norm


WITHOUT_TORCH = """
import sys
from summarybench.catalogue.models import EXPERIMENTS, MODELS
from summarybench.engines.fitting import forecast
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.device import GIB

gpu = CudaDevice(kind="cuda", name="A", slug="a", family="gpu", memory_bytes=12 * GIB, compute_dtype="float16")
fitting = {each.name for each in EXPERIMENTS if forecast(each, MODELS[each.model].shape, gpu, 2_148).fits}
print("llama2-7b-chat-fp16" in fitting, "llama2-7b-chat-4-bit" in fitting)
print(sorted({"torch", "transformers"} & set(sys.modules)))
"""


def test_what_fits_is_known_without_importing_torch():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False True", "[]"]
