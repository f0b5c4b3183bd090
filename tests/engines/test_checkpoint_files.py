"""Model folders that lack a file or part of one: the first of them is named, with what to do."""

from __future__ import annotations

import json
import shutil

import pytest

from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.engines.chat import open_chat
from summarybench.engines.checkpoint_files import check_chat_template, check_checkpoint, weights_bytes
from summarybench.engines.weights import Weights


@pytest.fixture
def folder(tiny_llama, tmp_path):
    return shutil.copytree(tiny_llama, tmp_path / "model")


def complaint(folder):
    with pytest.raises(InputError) as raised:
        check_checkpoint(folder, "--model X")
    return str(raised.value)


def test_a_whole_folder_passes(folder):
    check_checkpoint(folder, "--model X")
    assert weights_bytes(folder) == (folder / "model.safetensors").stat().st_size


def test_an_unfinished_download_is_named_with_its_sizes(folder):
    weights = folder / "model.safetensors"
    whole = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-1000])
    said = complaint(folder)
    assert said.startswith(f"{weights}: is incomplete, it has {whole - 1000} of at least {whole} bytes")


def test_a_file_cut_within_its_header_is_named(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "is incomplete, it has 100 of" in complaint(folder)


def test_a_file_that_is_no_safetensors_is_named(folder):
    (folder / "model.safetensors").write_bytes((9).to_bytes(8, "little") + b"<!doctype>")
    assert "is not a safetensors file" in complaint(folder)


def test_a_missing_shard_is_named(folder):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert complaint(folder).startswith(f"{folder / 'model-2.safetensors'}: is missing, although")


def test_a_missing_vocabulary_is_named(folder):
    (folder / "tokenizer.json").unlink()
    assert "its tokenizer has no vocabulary (tokenizer.json is missing)" in complaint(folder)


def test_a_fault_of_a_folder_is_never_the_hubs(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnavailableError) as raised:
        open_chat(Weights(kind="path", revision="", location=str(folder)))
    assert str(folder) in str(raised.value)
    assert "huggingface.co" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"version": "1.0", "added_tokens": [], "model": {"type": "No"}}'])
def test_a_damaged_tokenizer_is_one_line(folder, text):
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(UnavailableError) as raised:
        open_chat(Weights(kind="path", revision="", location=str(folder)))
    assert str(raised.value).startswith(f"{folder}: its tokenizer cannot be read (")
    assert "\n" not in str(raised.value)


def test_an_architecture_that_transformers_does_not_know_is_one_line(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "next-years-model"}))
    with pytest.raises(UnavailableError, match="does not know its architecture") as raised:
        open_chat(Weights(kind="path", revision="", location=str(folder)))
    assert "\n" not in str(raised.value)


def without_template(folder):
    (folder / "chat_template.jinja").unlink()
    assert "chat_template" not in (folder / "tokenizer_config.json").read_text()
    return folder


def test_a_missing_chat_template_is_named_with_where_to_get_it(folder):
    with pytest.raises(InputError) as raised:
        check_chat_template(without_template(folder), "--model bare=X")
    assert str(raised.value) == (
        "--model bare=X has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); copy it from "
        "the original model, or use an instruction-tuned one"
    )
    with pytest.raises(InputError, match="has no chat template"):
        open_chat(Weights(kind="path", revision="", location=str(folder)))


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json", "additional_chat_templates/a.jinja"])
def test_a_chat_template_may_be_in_any_of_its_files(folder, name):
    path = without_template(folder) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    check_chat_template(folder, "--model X")


@pytest.mark.parametrize(("template", "is_found"), [("{{ messages }}", True), ("", False), (None, False)])
def test_a_chat_template_may_be_in_the_tokenizers_configuration(folder, template, is_found):
    (without_template(folder) / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    if is_found:
        check_chat_template(folder, "--model X")
    else:
        with pytest.raises(InputError, match="has no chat template"):
            check_chat_template(folder, "--model X")
