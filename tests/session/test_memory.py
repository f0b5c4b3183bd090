"""What a session predicts to fit: from its options, its sample, and the folders that it was given."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from summarybench.catalogue.models import EXPERIMENTS, MODELS
from summarybench.engines.fitting import forecast
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.device import GIB
from summarybench.session.memory import MemoryForecasts

LLAMA = MODELS["llama2-7b-chat"]
FP16 = next(each for each in EXPERIMENTS if each.name == "llama2-7b-chat-fp16")
GPU = CudaDevice(kind="cuda", name="G", slug="g", family="gpu", memory_bytes=14 * GIB, compute_dtype="float16")


def forecasts(*, max_prompt_tokens=2_048, model_paths=None, synthetic_weights=False):
    settings = SimpleNamespace(model_paths=model_paths or {}, synthetic_weights=synthetic_weights)
    return MemoryForecasts(
        SimpleNamespace(settings=settings, device=GPU, max_prompt_tokens=max_prompt_tokens, max_new_tokens=100)
    )


def test_the_longest_sequence_that_the_options_allow_counts_until_the_sample_is_known():
    assert forecasts().of(FP16) == forecast(FP16, LLAMA.shape, GPU, 2_148)
    assert forecasts(max_prompt_tokens=500).of(FP16) == forecast(FP16, LLAMA.shape, GPU, 600)
    assert forecasts().of(FP16, longest_sequence=700) == forecast(FP16, LLAMA.shape, GPU, 700)


def test_an_experiment_that_fits_its_sample_may_not_fit_the_longest_that_is_allowed():
    assert not forecasts().fits(FP16)
    assert forecasts().of(FP16, longest_sequence=700).fits


@pytest.fixture
def halved(tmp_path):
    """A folder with a model of half as many layers as the catalogue's."""
    config = {**LLAMA.config, "model_type": "llama", "num_hidden_layers": 16}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


def test_a_model_folder_counts_with_its_own_shape(halved):
    found = forecasts(model_paths={"llama2-7b-chat": halved})
    shape = replace(LLAMA.shape, num_hidden_layers=16)
    assert found.of(FP16) == forecast(FP16, shape, GPU, 2_148)
    assert found.fits(FP16)


def test_synthetic_weights_have_the_catalogued_shape_whatever_folder_is_given(halved):
    found = forecasts(model_paths={"llama2-7b-chat": halved}, synthetic_weights=True)
    assert found.of(FP16) == forecasts().of(FP16)


@pytest.mark.parametrize("config", ['{"model_type": "llama"}', "[]", "{", None])
def test_a_folder_that_does_not_state_its_numbers_counts_as_the_model_that_it_is_for(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
    assert forecasts(model_paths={"llama2-7b-chat": tmp_path}).of(FP16) == forecasts().of(FP16)


def test_a_student_that_does_not_state_its_numbers_counts_as_its_teacher(monkeypatch, tmp_path):
    student = replace(LLAMA, name="student", teacher="llama2-7b-chat", config={})
    monkeypatch.setitem(MODELS, "student", student)
    found = forecasts(model_paths={"student": tmp_path}).of(replace(FP16, model="student"))
    assert found == forecasts().of(FP16)


def test_a_student_that_drafts_is_loaded_beside_its_teacher(halved, monkeypatch):
    monkeypatch.setitem(MODELS, "half", replace(LLAMA, name="half", teacher="llama2-7b-chat"))
    found = forecasts(model_paths={"half": halved})
    alone = found.of(FP16).needed_bytes
    with_student = found.of(replace(FP16, draft_model="half")).needed_bytes
    student = found.of(replace(FP16, model="half")).needed_bytes
    assert with_student == alone + student - GPU.context_bytes
    assert alone / 2 < student < alone
