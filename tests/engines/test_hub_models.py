"""Models of the hub: their commit, their files, and the line that each failure gets. The hub is on the loopback."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

import huggingface_hub.constants
import pytest

from summarybench.catalogue.models import MODELS
from summarybench.core.outcomes import Outcome, UnavailableError
from summarybench.engines import hub
from summarybench.engines.not_loaded import explain
from summarybench.engines.weights import find_weights, tokenizer_at_hand
from tests.fake_hub import COMMIT, GATED, SILENT, fake_hub

LLAMA = MODELS["llama2-7b-chat"]


NOBODY = "http://127.0.0.1:9"


def use(monkeypatch, endpoint):
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def asked(tiny_llama, tmp_path, monkeypatch):
    """The paths that are asked of a hub that has org/tiny, with an empty cache."""
    with fake_hub({"org/tiny": tiny_llama}) as (endpoint, asked):
        use(monkeypatch, endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "")
        yield asked


def spec_of(repository, revision="main"):
    return replace(LLAMA, repository=repository, revision=revision)


def failure(repository, revision="main"):
    with pytest.raises(UnavailableError) as raised:
        hub.describe(repository, revision)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_branch_is_described_as_the_commit_that_it_is_now(asked, tiny_llama):
    found = hub.describe("org/tiny", None)
    assert found.commit == COMMIT
    assert found.config["model_type"] == "llama"
    assert found.weights_bytes == (tiny_llama / "model.safetensors").stat().st_size


def test_a_download_has_everything_that_loading_reads(asked, tiny_llama):
    folder = hub.download(spec_of("org/tiny"))
    assert folder.name == COMMIT
    assert {path.name for path in folder.iterdir()} == {path.name for path in tiny_llama.iterdir()}


def test_a_commit_in_the_cache_needs_no_hub(asked):
    folder = hub.download(spec_of("org/tiny"))
    asked.clear()
    assert hub.download(spec_of("org/tiny", COMMIT)) == folder
    assert hub.describe("org/tiny", COMMIT).commit == COMMIT
    assert asked == []


def test_a_tokenizer_is_at_hand_once_it_was_downloaded_and_nothing_is_asked_of_the_hub(asked):
    spec = spec_of("org/tiny", COMMIT)
    assert tokenizer_at_hand(spec, {}) is None
    assert asked == []
    folder = hub.download(spec)
    asked.clear()
    assert tokenizer_at_hand(spec, {}) == folder
    (folder / "tokenizer.json").unlink()
    assert tokenizer_at_hand(spec, {}) is None
    assert asked == []


@pytest.mark.parametrize(("model", "synthetic"), [("smollm2-135m-instruct", False), ("llama2-7b-chat", True)])
def test_a_tokenizer_that_would_have_to_be_made_is_not_at_hand(tmp_path, monkeypatch, model, synthetic):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tokenizer_at_hand(MODELS[model], {}, synthetic=synthetic) is None
    assert list(tmp_path.iterdir()) == []


def test_a_cached_commit_that_lacks_a_file_is_downloaded_again(asked):
    folder = hub.download(spec_of("org/tiny"))
    (folder / "model.safetensors").unlink()
    assert (hub.download(spec_of("org/tiny", COMMIT)) / "model.safetensors").is_file()


def test_a_folder_of_the_repositorys_name_is_not_taken_for_it(asked, tmp_path, monkeypatch):
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = find_weights(spec_of("org/tiny"), {})
    assert found.location.startswith(str(tmp_path / "cache"))


def test_no_access_no_revision_and_no_network_are_three_lines(asked, monkeypatch):
    gated, unknown = failure(GATED), failure("org/unknown")
    revision = failure("org/tiny", "v9")
    use(monkeypatch, NOBODY)
    network = failure("org/tiny", "v9")
    assert "is gated: accept the licence at https://huggingface.co/org/gated, then run 'hf auth login'" in gated
    assert "gives this account no access, or has no such repository" in unknown
    assert "has no revision 'v9'" in revision
    assert "the hub cannot be reached" in network


def test_offline_mode_is_named_as_the_reason(asked, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "(HF_HUB_OFFLINE is set, and the cache does not have the model)" in failure("org/tiny")


def test_a_hub_that_never_answers_is_given_up(asked, monkeypatch):
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.2)
    start = monotonic()
    assert "no answer within 0.2 s" in failure(SILENT)
    assert monotonic() - start < 30  # the hub would have slept for a minute


def test_no_more_than_twenty_seconds_are_waited_for_the_hub():
    assert hub.HUB_SECONDS <= 20


def test_without_the_hub_a_branch_is_what_the_cache_last_saw(asked, monkeypatch):
    huggingface_hub.snapshot_download("org/tiny", revision="main")
    use(monkeypatch, NOBODY)
    assert hub.describe("org/tiny", "main").commit == COMMIT


def test_a_gated_catalogue_model_is_unavailable_and_names_its_own_licence_page(asked):
    with pytest.raises(UnavailableError) as raised:
        find_weights(spec_of(GATED), {})
    found = explain(raised.value, None)
    assert found.outcome is Outcome.UNAVAILABLE
    for remedy in (LLAMA.licence_url, "hf auth login", "-m embedded"):
        assert remedy in found.detail


def test_a_repository_without_safetensors_says_so(asked, tiny_llama, tmp_path, monkeypatch):
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "config.json").write_text((tiny_llama / "config.json").read_text())
    with fake_hub({"org/bare": folder}) as (endpoint, _):
        use(monkeypatch, endpoint)
        with pytest.raises(UnavailableError, match=r"holds neither model\.safetensors nor"):
            hub.download(spec_of("org/bare"))
