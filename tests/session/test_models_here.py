"""What `summarybench models` and `pytest --markers` say of a device."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from summarybench.catalogue.models import MODELS
from summarybench.commands.command_line import main
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.device import GIB
from summarybench.session.models_here import in_words, loaders_here
from summarybench.session.own_models import read_named_models
from tests.checkpoints import SHAPE

LLAMA = MODELS["llama2-7b-chat"]
T4 = CudaDevice(kind="cuda", name="T", slug="t", family="t4", memory_bytes=14 * GIB, compute_dtype="float16")


def test_loaders_that_fit_come_before_those_that_are_too_large():
    said = in_words(LLAMA, T4)
    assert said.startswith("8-bit 8.6 GiB, 4-bit 5.6 GiB")
    assert "; too large: default 28.1 GiB, fp16 14.3 GiB" in said


def test_a_gpu_of_no_known_family_has_the_loaders_of_gpus():
    turing, ada = (replace(T4, family="gpu", capability=each) for each in ((7, 5), (8, 9)))
    too_new = {"bf16", "default-compiled", "8-bit-compiled", "w8a16-compiled", "w4a16-compiled", "fp8-compiled"}
    assert {"fp16", "4-bit"} <= loaders_here(LLAMA, turing).keys()
    assert loaders_here(LLAMA, ada).keys() - loaders_here(LLAMA, turing).keys() == too_new


def test_a_model_for_other_devices_says_so():
    assert in_words(LLAMA, replace(T4, family="cpu")) == "not for this device"


def test_a_model_that_compiled_loaders_do_not_know_is_listed_without_them(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**SHAPE, "model_type": "gemma", "head_dim": 16}))
    (spec,) = read_named_models([f"mine={path}"], [], [], synthetic=True).values()
    monkeypatch.setitem(MODELS, "mine", spec)
    assert list(loaders_here(spec, replace(T4, family="h100"))) == ["default", "fp16", "bf16", "8-bit", "4-bit"]


def test_the_command_lists_every_model_with_its_marker(capsys):
    assert main(["models"]) == 0
    device, *models = capsys.readouterr().out.splitlines()
    assert "GiB; memory for documents of up to" in device
    assert [line.split()[:3] for line in models] == [[name, "-m", spec.marker] for name, spec in MODELS.items()]


def test_the_command_names_what_is_wrong_with_a_model(capsys):
    assert main(["models", "--model", "/no/such/folder"]) == 4
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("marker", ["llama2", "embedded"])
def test_markers_list_the_memory_of_their_models(project, marker):
    session = project.bench("--markers")
    (line,) = [line for line in session.output.splitlines() if line.startswith(f"@pytest.mark.{marker}:")]
    assert "(here: " in line
