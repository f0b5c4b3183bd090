"""Random weights of a stated shape: what is written, that it loads as any other model, and a whole session with it."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from summarybench.catalogue.models import EXPERIMENTS, MODELS
from summarybench.core.outcomes import UnavailableError
from summarybench.engines import synthetic
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.loading import load
from summarybench.engines.synthetic import CHAT_TEMPLATE, synthetic_model_folder
from summarybench.engines.weights import find_weights
from summarybench.machine.detection import detect_device
from summarybench.machine.device import GIB

NAME = "smollm2-135m-instruct"
BY_NAME = {experiment.name: experiment for experiment in EXPERIMENTS}
CPU = detect_device({"CUDA_VISIBLE_DEVICES": ""})
TINY_SHAPE = {
    "vocab_size": 8_192,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4_096,
    "tie_word_embeddings": True,
}
SPEC = replace(MODELS[NAME], config=TINY_SHAPE)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, for which the first of two shards holds the tiny model's embedding."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(synthetic, "SHARD_BYTES", 1_000_000)
    return tmp_path


def tensors_of(folder):
    from safetensors.torch import load_file

    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def test_folder_holds_a_config_shards_with_their_index_and_a_tokenizer_that_can_chat(cache):
    from transformers import AutoTokenizer

    folder = synthetic_model_folder(SPEC)
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((folder / "config.json").read_text())
    assert {name: config[name] for name in TINY_SHAPE} == TINY_SHAPE
    assert (config["model_type"], config["dtype"]) == ("llama", "float16")
    places = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert places.keys() == tensors_of(folder).keys()
    assert set(places.values()) == {path.name for path in folder.glob("*.safetensors")}
    assert AutoTokenizer.from_pretrained(folder, trust_remote_code=False).chat_template == CHAT_TEMPLATE


def test_folder_is_made_once(cache, monkeypatch):
    folder = synthetic_model_folder(SPEC)
    monkeypatch.setattr(synthetic, "_make", None)
    assert synthetic_model_folder(SPEC) == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_norms_are_ones_and_matrices_have_the_stated_deviation(cache):
    tensors = tensors_of(synthetic_model_folder(SPEC))
    norms = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 1}
    assert len(norms) == 2 * TINY_SHAPE["num_hidden_layers"] + 1
    assert all((norm == 1).all() for norm in norms.values())
    for name in tensors.keys() - norms.keys():
        matrix = tensors[name].float()
        assert float(matrix.std()) == pytest.approx(0.02, rel=0.05), name
        assert float(matrix.mean()) == pytest.approx(0, abs=0.002), name


def test_two_generations_are_the_same_to_the_byte(cache, monkeypatch):
    contents = []
    for home in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache / home))
        folder = synthetic_model_folder(SPEC)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize("loader", ["default", "fp16", "8-bit", "4-bit"])
def test_it_loads_and_generates_as_any_other(cache, loader):
    found = load(
        BY_NAME[f"{SPEC.name}-{loader}"],
        lambda: find_weights(SPEC, {}, synthetic=True),
        CPU,
        CPU.clock(),
        longest_sequence=lambda chat: 100,
        predict=True,
    )
    assert isinstance(found, LoadedModel), found
    assert (found.weights.kind, found.weights.revision) == ("synthetic", "smollm2-135m-instruct-shape-1")
    assert found.ends_by_itself([found.chat.tokenizer.convert_tokens_to_ids("<end>")])
    prepared = found.prepare([found.chat.chat_ids("Say something.")])
    (generated,) = found.generated_ids(found.generate(prepared, 4, lambda: None), prepared)
    assert 1 <= len(generated) <= 4


def test_the_tokenizer_of_a_small_vocabulary_stays_inside_it():
    tokenizer = synthetic._train_tokenizer(1_000)
    assert len(tokenizer) == 1_000
    assert max(tokenizer("Cut the onions, and boil them for ten minutes.")["input_ids"]) < 1_000


def test_every_id_of_the_tokenizer_lies_inside_the_smallest_vocabulary():
    tokenizer = synthetic._train_tokenizer(32_000)
    assert max(tokenizer.get_vocab().values()) < min(spec.shape.vocab_size for spec in MODELS.values())


def test_full_disk_is_said_before_anything_is_written(cache, monkeypatch):
    monkeypatch.setattr(synthetic.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * GIB))
    with pytest.raises(UnavailableError, match=r"need 12\.6 GiB in .*, but 5\.0 GiB are free; .* set XDG_CACHE_HOME"):
        synthetic_model_folder(MODELS["llama2-7b-chat"])
    assert list(cache.iterdir()) == []


TINY_SYNTHETIC_MODEL = f"""
    from dataclasses import replace

    from summarybench.catalogue.models import MODELS

    MODELS["{NAME}"] = replace(MODELS["{NAME}"], config={TINY_SHAPE})
"""


def test_session_with_synthetic_weights_measures_speed_and_memory_and_leaves_quality_out(project):
    project.use(TINY_SYNTHETIC_MODEL)
    session = project.bench(
        "--weights", "synthetic", "--documents", "3", "--max-new-tokens", "8", XDG_CACHE_HOME=str(project.folder)
    )
    assert session.exit_code == 0, session.output
    assert set(session.infos) == {"default", "8-bit", "4-bit"}
    for info in session.infos.values():
        assert info["weights"] == "synthetic"
        assert info["workload_settings"]["document_source"] == "embedded"
        assert (info["rouge1"], info["rouge1_scores"], info["degenerate"]) == (None, [], None)
        assert info["predicted_memory_bytes"] > info["weights_bytes"]
        assert info["model_bandwidth_utilization"] > 0
    assert "Speed" in session.output
    assert "Quality (F1)" not in session.output
    assert "synthetic weights: speed and memory are those of the real model; its summaries are noise" in session.output
