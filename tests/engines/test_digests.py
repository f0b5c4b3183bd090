"""What a model folder's digest depends on, and when a large file is not read again."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from summarybench.catalogue.models import MODELS
from summarybench.core.outcomes import InputError
from summarybench.engines import digests, weights
from summarybench.engines.digests import SETTLING_SECONDS, file_digest
from summarybench.engines.embedded import embedded_revision
from summarybench.engines.synthetic import synthetic_revision
from summarybench.engines.weights import find_weights, folder_digest
from summarybench.runs.workload import Workload
from summarybench.session.own_models import read_named_models
from tests.checkpoints import changed_copy
from tests.forked import ROOT

MODEL = "smollm2-135m-instruct"


def fine_tuned(tensors):
    return {name: tensor + 1 for name, tensor in tensors.items()}


def sharded_copy(checkpoint, folder):
    """The same weights in two files and an index."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


# What counts ---------------------------------------------------------------------------------------------------------


def test_two_fine_tunes_are_two_workloads(tiny_llama, tmp_path):
    folder = changed_copy(tiny_llama, tmp_path / "tuned", tensors=fine_tuned)
    assert (folder / "model.safetensors").stat().st_size == (tiny_llama / "model.safetensors").stat().st_size
    assert folder_digest(folder) != folder_digest(tiny_llama)
    assert find_weights(MODELS[MODEL], {MODEL: folder}).revision == folder_digest(folder)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
    ],
)
def test_every_file_that_shapes_prompts_or_outputs_counts(tiny_llama, tmp_path, name):
    folder = changed_copy(tiny_llama, tmp_path / "changed")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b" ")
    assert folder_digest(folder) != folder_digest(tiny_llama)


@pytest.mark.parametrize("name", ["README.md", "consolidated.safetensors", "training_args.bin", ".gitattributes"])
def test_files_that_transformers_does_not_read_do_not_count(tiny_llama, tmp_path, name):
    folder = changed_copy(tiny_llama, tmp_path / "more")
    (folder / name).write_bytes(b"something")
    assert folder_digest(folder) == folder_digest(tiny_llama)


def test_every_shard_counts(tiny_llama, tmp_path):
    folder = sharded_copy(tiny_llama, tmp_path / "sharded")
    before = folder_digest(folder)
    for shard in sorted(folder.glob("model-*.safetensors")):
        content = shard.read_bytes()
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert folder_digest(folder) != before
        shard.write_bytes(content)
    assert folder_digest(folder) == before


def test_weights_that_the_configuration_names_count(tiny_llama, tmp_path):
    folder = changed_copy(tiny_llama, tmp_path / "named", config={"transformers_weights": "mine.safetensors"})
    shutil.copy(folder / "model.safetensors", folder / "mine.safetensors")
    before = folder_digest(folder)
    (folder / "mine.safetensors").write_bytes(b"other")
    assert folder_digest(folder) != before


def test_symbolic_links_count_by_what_they_point_to(tiny_llama, tmp_path):
    """As the hub's cache stores a snapshot."""
    blobs, snapshot = shutil.copytree(tiny_llama, tmp_path / "blobs"), tmp_path / "snapshot"
    snapshot.mkdir()
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    assert folder_digest(snapshot) == folder_digest(tiny_llama)
    (blobs / "model.safetensors").write_bytes(b"other")
    assert folder_digest(snapshot) != folder_digest(tiny_llama)


def test_a_missing_shard_is_named(tiny_llama, tmp_path):
    folder = sharded_copy(tiny_llama, tmp_path / "sharded")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"model-00002-of-00002\.safetensors: is missing, although .*; download it again"
    ):
        folder_digest(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": []}', "[1]", '"text"', "\udcff"])
def test_a_damaged_index_is_named(tiny_llama, tmp_path, content):
    folder = sharded_copy(tiny_llama, tmp_path / "sharded")
    index = folder / "model.safetensors.index.json"
    index.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json: .*; download it again"):
        folder_digest(folder)


# Where it counts -----------------------------------------------------------------------------------------------------


def test_only_local_folders_are_known_by_their_digest(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "folder_digest", lambda folder: pytest.fail("not a local folder"))
    monkeypatch.setattr(weights, "synthetic_model_folder", lambda spec: tmp_path)
    monkeypatch.setattr(weights, "embedded_model_folder", lambda: tmp_path)
    hub, embedded = MODELS["llama2-7b-chat"], MODELS[MODEL]
    assert find_weights(hub, {}, download=lambda _: Path()).revision == hub.revision
    assert find_weights(hub, {}, synthetic=True).revision == synthetic_revision(hub)
    assert find_weights(embedded, {}).revision == embedded_revision()


def test_workloads_of_stored_baselines_stay_valid():
    revisions = {
        "hub": lambda spec: spec.revision,
        "synthetic": synthetic_revision,
        "embedded": lambda spec: embedded_revision(),
    }
    shapes = read_named_models([], [ROOT / "tests" / "shapes" / "shapes.toml"], [], synthetic=True)
    models = {**MODELS, **shapes}
    stored_runs = set((ROOT / "baselines").glob("*/0*.json"))
    seen = set()
    for path in sorted(stored_runs):
        for each in json.loads(path.read_text())["benchmarks"]:
            info = each["extra_info"]
            stored = Workload(**info["workload_settings"])
            assert stored.fingerprint == info["workload"]
            assert stored.revision == revisions[stored.weights](models[stored.model])
            seen.add(path)
    assert seen == stored_runs
    assert len(seen) >= 12


def test_a_run_is_not_resumed_with_other_weights(project, one_error_line, tiny_llama, tmp_path):
    folder = changed_copy(tiny_llama, tmp_path / "model")
    options = ("--documents", "2", "--model-path", f"{MODEL}={folder}")
    assert project.bench(*options).exit_code == 0
    shutil.rmtree(folder)
    changed_copy(tiny_llama, folder, tensors=fine_tuned)
    line = one_error_line(project.bench(*options, "--resume", "results/latest"))
    assert "was measured with other settings: " in line
    assert f"the files of {MODEL} changed" in line


# What is remembered --------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of its own, in which files of any size are remembered; all files have settled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "LEAST_REMEMBERED_BYTES", 1)
    monkeypatch.setattr(digests, "_known", {})
    now = time.time_ns()
    monkeypatch.setattr(digests.time, "time_ns", lambda: now + int(10 * SETTLING_SECONDS * 1e9))
    return tmp_path / "cache" / "llm-summarization-benchmarks" / "digests"


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that have been read."""
    names, digest = [], digests.hashlib.file_digest

    def counting(file, algorithm):
        names.append(Path(file.name).name)
        return digest(file, algorithm)

    monkeypatch.setattr(digests.hashlib, "file_digest", counting)
    return names


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"first")
    return path


def as_another_session():
    digests._known.clear()


def test_a_file_is_read_once_in_all_sessions(cache, hashed, file):
    first = file_digest(file)
    assert file_digest(file) == first
    as_another_session()
    assert file_digest(file) == first
    assert hashed == ["weights.safetensors"]


def test_a_link_to_a_file_is_not_read_again(cache, hashed, file, tmp_path):
    link = tmp_path / "link.safetensors"
    link.symlink_to(file)
    assert file_digest(link) == file_digest(file)
    assert hashed == ["weights.safetensors"]


def rewritten(path):
    path.write_bytes(b"other")


def rewritten_with_its_time_set_back(path):
    before = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path):
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"other")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [rewritten, rewritten_with_its_time_set_back, replaced])
@pytest.mark.parametrize("in_another_session", [False, True])
def test_a_changed_file_of_the_same_size_is_read_again(cache, hashed, file, change, in_another_session):
    before = file_digest(file)
    time.sleep(0.02)  # longer than a tick of the file system's clock
    change(file)
    if in_another_session:
        as_another_session()
    assert file_digest(file) != before
    assert hashed == ["weights.safetensors"] * 2


def test_a_file_that_was_just_written_is_not_remembered(cache, hashed, file, monkeypatch):
    monkeypatch.setattr(digests.time, "time_ns", lambda: file.stat().st_mtime_ns + 1)
    assert file_digest(file) == file_digest(file)
    assert hashed == ["weights.safetensors"] * 2
    assert not cache.exists()


def test_a_file_that_is_written_while_it_is_read_is_not_remembered(cache, file, monkeypatch):
    digest = digests.hashlib.file_digest

    def overtaken(opened, algorithm):
        found = digest(opened, algorithm)
        file.write_bytes(b"longer than it was")
        return found

    monkeypatch.setattr(digests.hashlib, "file_digest", overtaken)
    file_digest(file)
    assert not cache.exists()


def test_small_files_are_not_remembered(cache, hashed, file, monkeypatch):
    monkeypatch.setattr(digests, "LEAST_REMEMBERED_BYTES", 6)
    assert file_digest(file) == file_digest(file)
    assert hashed == ["weights.safetensors"] * 2
    assert not cache.exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"state": {}}', '{"state": 1, "sha256": 2}'])
def test_a_damaged_record_is_made_anew(cache, hashed, file, content):
    digest = file_digest(file)
    (record,) = cache.iterdir()
    whole = record.read_text()
    record.write_text(content)
    as_another_session()
    assert file_digest(file) == digest
    assert record.read_text() == whole
    assert hashed == ["weights.safetensors"] * 2


def test_without_a_writable_cache_a_file_is_read_once_a_session(cache, hashed, file, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert file_digest(file) == file_digest(file)
    assert hashed == ["weights.safetensors"]
