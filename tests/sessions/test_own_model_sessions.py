"""Whole sessions with a user's own model: another architecture, synthetic weights, a model that cannot be downloaded."""

from __future__ import annotations

import json

import pytest

from tests.checkpoints import SHAPE, tiny_model
from tests.conftest import REAL_MODELS
from tests.fake_hub import COMMIT, GATED, fake_hub

QUICK = ("--documents", "2", "--max-new-tokens", "4", "--max-prompt-tokens", "128")


@pytest.fixture(scope="module")
def tiny_qwen(tiny_llama, tmp_path_factory):
    return tiny_model(tiny_llama, tmp_path_factory.mktemp("models") / "Tiny Qwen", "qwen2")


def test_a_folder_of_another_architecture_is_measured_under_its_own_name(project, tiny_qwen):
    project.use(REAL_MODELS)
    session = project.bench("--model", str(tiny_qwen), *QUICK)
    assert set(session.by_experiment) == {f"tiny-qwen-{loader}" for loader in ("default", "8-bit", "4-bit")}
    for info in session.infos.values():
        assert (info["model"], info["weights"]) == ("tiny-qwen", "path")
        assert info["workload_settings"]["document_source"] == "embedded"


def test_synthetic_weights_have_the_shape_of_any_config(project, tmp_path, monkeypatch):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**SHAPE, "model_type": "qwen3", "head_dim": 32}))
    project.use(REAL_MODELS)
    session = project.bench(
        *("--config", f"shape={config}", "--weights", "synthetic", "-k", "default", *QUICK),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert session.exit_code == 0, session.output
    (info,) = session.infos.values()
    assert (info["experiment"], info["weights"]) == ("shape-default", "synthetic")


def test_a_model_without_access_is_unavailable_and_the_hub_is_asked_once(project, tmp_path):
    project.use(REAL_MODELS)
    with fake_hub({}) as (endpoint, asked):
        session = project.bench(
            "--model", GATED, *QUICK, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "hub")
        )
    assert session.exit_code == 11, session.output
    assert set(session.outcomes.values()) == {"unavailable"}
    assert asked.count("/api/models/org/gated/revision/main") == 1
    (said,) = [line for line in session.output.splitlines() if ": unavailable: " in line]
    assert said.startswith(
        "gated-default, gated-8-bit, gated-4-bit: unavailable: org/gated is gated: accept the licence"
    )


def test_other_models_are_not_measured_beside_a_named_one(project, tiny_qwen):
    session = project.bench("--model", f"mine={tiny_qwen}", *QUICK)
    assert session.exit_code == 0, session.output
    assert {info["model"] for info in session.infos.values()} == {"mine"}


def test_a_model_of_the_hub_is_measured_at_its_commit(project, tiny_qwen, tmp_path):
    project.use(REAL_MODELS)
    with fake_hub({"org/tiny": tiny_qwen}) as (endpoint, _):
        session = project.bench(
            *("--model", "org/tiny", "-k", "default", "--document-source", "embedded", *QUICK),
            **{"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": ""},
        )
    info = session.infos["default"]
    assert (info["experiment"], info["weights"]) == ("tiny-default", "hub")
    assert info["workload_settings"]["revision"] == COMMIT
    assert session.run["settings"]["own_models"] == {"tiny": COMMIT}
