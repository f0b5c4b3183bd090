"""Whole sessions with nothing faked: transformers, bitsandbytes, the clock, and (slow) the embedded model."""

from __future__ import annotations

import hashlib

import pytest

from summarybench.engines import embedded

OWN_CONFTEST_IS_NOT_NEEDED = ""


def test_tiny_model_takes_every_loader_through_a_real_session(project, tiny_llama):
    project.use(OWN_CONFTEST_IS_NOT_NEEDED)
    session = project.bench(
        "--model-path", f"smollm2-135m-instruct={tiny_llama}", "--documents", "3", "--max-new-tokens", "8"
    )
    assert session.exit_code == 0, session.output
    assert set(session.infos) == {"default", "8-bit", "4-bit"}
    for info in session.infos.values():
        assert info["weights"] == "path"
        assert info["truncated_documents"] == 3  # its context is 512 tokens
        assert info["load_seconds"] > 0
        assert max(info["prompt_tokens"]) + 8 <= 512
    sizes = [session.infos[loader]["weights_bytes"] for loader in ("4-bit", "8-bit", "default")]
    assert sizes == sorted(sizes)
    assert "Traceback" not in session.output


def test_tiny_model_goes_through_batches_of_unequal_rows_in_a_real_session(project, tiny_llama):
    project.use(OWN_CONFTEST_IS_NOT_NEEDED)
    loaded_from = f"smollm2-135m-instruct={tiny_llama}"
    session = project.bench(
        *("-m", "batching and cpu", "-k", "default-batch1 or default-batch8"),
        *("--model-path", loaded_from, "--documents", "5", "--max-new-tokens", "8", "--max-prompt-tokens", "512"),
    )
    assert session.exit_code == 0, session.output
    alone, together = (session.by_experiment[f"smollm2-135m-instruct-default-batch{rows}"] for rows in (1, 8))
    assert [len(ids) for ids in together["batch_document_ids"]] == [5]
    assert len(set(together["prompt_tokens"])) > 1  # so that rows are padded
    assert together["summary_sha256"] == alone["summary_sha256"]
    assert together["document_ids"] == alone["document_ids"]


@pytest.mark.slow
def test_embedded_model_summarizes_alike_in_two_sessions_and_compares(project):
    project.use(OWN_CONFTEST_IS_NOT_NEEDED)
    options = ("-k", "smollm2 and default", "--documents", "8", "--max-new-tokens", "16")
    first = project.bench(*options, "--benchmark-save=main")
    second = project.bench(*options)
    assert (first.exit_code, second.exit_code) == (0, 0), second.output
    before, now = first.infos["default"], second.infos["default"]
    assert now["summary_sha256"] == before["summary_sha256"]
    assert now["baseline"]["file"] == "0001_main.json"
    assert now["change"]["low"] < now["change"]["ratio"] < now["change"]["high"]


@pytest.mark.slow
def test_conversion_of_the_embedded_model_is_the_same_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    weights = embedded.embedded_model_folder() / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert digest == "d8d8571b3af99053c8ad455ce009d8479eec5da515f80a417c075d0a7f317904"
