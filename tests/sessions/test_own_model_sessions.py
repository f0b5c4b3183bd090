"""Whole sessions with a user's own model: another architecture, synthetic weights, a model that cannot be downloaded."""

from __future__ import annotations

import json
import shutil

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


def test_templates_of_parts_and_of_a_system_message_are_measured_or_refused_in_one_line(project, tiny_llama, tmp_path):
    every = "{% for m in messages %}"
    templates = {
        "parts": every + "<user> {% for p in m['content'] %}{{ p['text'] }}{% endfor %}<end>{% endfor %}<assistant>",
        "without-system": every
        + "{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}<user> {{ m['content'] }}<end>"
        + "{% endfor %}<assistant>",
        "with-system": "{% if messages[0]['role'] != 'system' %}{{ raise_exception('a system message is needed') }}{% endif %}",
    }
    arguments = []
    for name, template in templates.items():
        shutil.copytree(tiny_llama, tmp_path / name)
        (tmp_path / name / "chat_template.jinja").write_text(template, encoding="utf-8")
        arguments += ["--model", str(tmp_path / name)]
    project.use("")
    session = project.bench(*arguments, "-k", "default", *QUICK)
    assert session.outcomes == {
        "parts-default": "passed",
        "without-system-default": "passed",
        "with-system-default": "unavailable",
    }
    said = f"the chat template of {tmp_path / 'with-system'} does not take a single message of the user (a system message is needed)"
    assert f"with-system-default: unavailable: {said}; " in session.output
    assert "Traceback" not in session.output


def test_new_tokens_beyond_the_context_are_wrong_input(project, tiny_llama):
    project.use("")
    session = project.bench("--model", f"mine={tiny_llama}", "-k", "default", "--max-new-tokens", "511")
    assert (session.exit_code, session.left_behind) == (4, "4")
    assert "mine-default: failed: --max-new-tokens 511: the model's context has 512 tokens, and " in session.output
    assert "Traceback" not in session.output


def test_other_models_are_not_measured_beside_a_named_one(project, tiny_qwen):
    session = project.bench("--model", f"mine={tiny_qwen}", *QUICK)
    assert session.exit_code == 0, session.output
    assert {info["model"] for info in session.infos.values()} == {"mine"}


def test_a_built_in_model_of_a_file_is_the_only_one_measured(project, tmp_path):
    file = tmp_path / "team.toml"
    file.write_text('[smollm2-135m-instruct]\nmodel = "smollm2-135m-instruct"\n')
    tests = project.bench("--models", str(file), "--gpu-family", "h100", "-k", "fp16", "--collect-only", "-q").output
    assert "smollm2-135m-instruct-fp16" in tests
    assert "mistral" not in tests


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


@pytest.fixture
def bare(tiny_llama, tmp_path):
    """A folder of a model without a chat template."""
    return shutil.copytree(tiny_llama, tmp_path / "bare", ignore=shutil.ignore_patterns("chat_template.jinja"))


@pytest.mark.parametrize("answer", ["--dry-run", "--show-prompt", "--color=no"])
def test_a_folder_without_a_chat_template_is_refused_at_once(project, one_error_line, bare, answer):
    session = project.bench("--model", f"bare={bare}", answer, *QUICK)
    assert session.exit_code == 4
    assert one_error_line(session).startswith(f"ERROR: --model bare={bare} has no chat template (chat_template.jinja")


@pytest.mark.slow
def test_a_model_of_the_hub_without_a_chat_template_is_wrong_input(project, one_error_line, bare, tmp_path):
    options = ("--model", "org/bare", "-k", "default", "--document-source", "embedded", *QUICK)
    project.use("")
    with fake_hub({"org/bare": bare}) as (endpoint, _):
        hub = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": ""}
        shown = project.bench(*options, "--show-prompt", **hub)
        session = project.bench(*options, **hub)
    assert (shown.exit_code, session.exit_code) == (4, 4)
    assert "has no chat template; use an instruction-tuned model with one" in one_error_line(shown)
    assert session.outcomes == {"bare-default": "failed"}
    assert "--resume" not in session.output


def test_a_run_is_resumed_after_the_folder_of_an_unmeasured_model_was_corrected(
    project, one_error_line, tiny_llama, tmp_path
):
    for name in ("good", "bad"):
        shutil.copytree(tiny_llama, tmp_path / name)
    template = tmp_path / "bad" / "chat_template.jinja"
    whole = template.read_text(encoding="utf-8")
    template.write_text("{% for m in messages", encoding="utf-8")
    options = ("--model", str(tmp_path / "good"), "--model", str(tmp_path / "bad"), "-k", "default", *QUICK)
    project.use("")
    first = project.bench(*options)
    assert first.outcomes == {"good-default": "passed", "bad-default": "unavailable"}
    assert "--resume results/" in first.output
    template.write_text(whole, encoding="utf-8")
    second = project.bench(*options, "--resume", "results/latest")
    assert second.outcomes == {"good-default": "passed", "bad-default": "passed"}, second.output
    template.write_text(f"{whole} ", encoding="utf-8")
    refused = one_error_line(project.bench(*options, "--resume", "results/latest"))
    assert "the files of bad changed" in refused
