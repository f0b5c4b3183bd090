"""What --model, --models and --config name, and what follows from it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from summarybench.catalogue.models import MODELS, check_marker, experiments
from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.engines.hub import HubModel, explain_hub_error
from summarybench.session import own_models
from summarybench.session.config import Config
from summarybench.session.own_models import read_named_models
from tests.checkpoints import SHAPE

COMMIT = "0123456789abcdef0123456789abcdef01234567"
QWEN = {**SHAPE, "model_type": "qwen2"}
SMOLLM2 = "smollm2-135m-instruct"


class RefusedError(Exception):
    response = SimpleNamespace(status_code=401)


@pytest.fixture
def asked(monkeypatch):
    """The repositories and revisions that the hub is asked for; each has a config.json."""
    asked = []

    def describe(repository, revision):
        asked.append((repository, revision))
        return HubModel(commit=COMMIT, config=QWEN, weights_bytes=123)

    monkeypatch.setattr(own_models, "describe", describe)
    return asked


def read(*models, files=(), configs=(), synthetic=False):
    return read_named_models(models, files, configs, synthetic=synthetic)


def test_a_hub_id_gives_the_name_the_marker_and_the_commit(asked):
    (spec,) = read("Qwen/Qwen2.5-0.5B-Instruct@v1").values()
    assert (spec.name, spec.marker, spec.revision) == ("qwen2.5-0.5b-instruct", "qwen2_5_0_5b_instruct", COMMIT)
    assert spec.repository == "Qwen/Qwen2.5-0.5B-Instruct"
    assert spec.own.weights_bytes == 123
    assert asked == [("Qwen/Qwen2.5-0.5B-Instruct", "v1")]


def test_a_folder_gives_its_name_and_needs_no_hub(asked, tiny_llama):
    (spec,) = read(str(tiny_llama)).values()
    assert spec.name == tiny_llama.name
    assert spec.architecture == "llama"
    assert spec.own.folder == tiny_llama
    assert asked == []


def test_a_folder_of_the_hubs_cache_has_the_repositorys_name(tiny_llama, tmp_path):
    folder = tmp_path / "models--Org--Tiny-Chat" / "snapshots" / COMMIT
    folder.parent.mkdir(parents=True)
    folder.symlink_to(tiny_llama)
    assert list(read(str(folder))) == ["tiny-chat"]


def test_a_given_name_replaces_the_one_that_would_follow(asked, tiny_llama):
    assert list(read(f"mine={tiny_llama}", "other=org/x")) == ["mine", "other"]


@pytest.mark.parametrize(
    ("name", "marker"), [("memory", "memory_model"), ("t4", "t4_model"), ("7b-chat", "model_7b_chat")]
)
def test_a_marker_is_a_word_that_nothing_else_has(asked, name, marker):
    (spec,) = read(f"{name}=org/x").values()
    assert spec.marker == marker


def test_markers_of_two_models_differ(asked):
    assert [spec.marker for spec in read("a.b=org/x", "a-b=org/y").values()] == ["a_b", "a_b_model"]


def test_a_built_in_name_chooses_that_model(tmp_path):
    built_in = {SMOLLM2: MODELS[SMOLLM2]}
    assert read(SMOLLM2) == read(f"{SMOLLM2}={SMOLLM2}") == built_in
    file = tmp_path / "team.toml"
    file.write_text(f'[{SMOLLM2}]\nmodel = "{SMOLLM2}"\n')
    assert read(files=[file]) == built_in
    assert read() == {}


def test_a_built_in_model_gets_no_other_name():
    with pytest.raises(InputError) as raised:
        read(f"mine={SMOLLM2}")
    assert str(raised.value) == (
        f"--model mine={SMOLLM2}: '{SMOLLM2}' is a built-in model and keeps its own name; leave the name out "
        f"(--model {SMOLLM2}), and select its tests with -k"
    )


@pytest.mark.parametrize(
    ("table", "key", "kept"),
    [
        ("mine", "", "name"),
        (SMOLLM2, 'marker = "house"', "marker"),
        (SMOLLM2, 'title = "Ours"', "title"),
        ("mine", 'loaders = ["default"]', "name and loaders"),
    ],
)
def test_a_file_changes_nothing_about_a_built_in_model(tmp_path, table, key, kept):
    file = tmp_path / "team.toml"
    file.write_text(f'[{table}]\nmodel = "{SMOLLM2}"\n{key}\n')
    with pytest.raises(InputError, match=rf"\[{table}\]: '{SMOLLM2}' is a built-in model and keeps its own {kept}; "):
        read(files=[file])


def test_a_model_that_the_hub_does_not_give_keeps_its_reason(monkeypatch):
    def describe(repository, revision):
        raise UnavailableError("no network")

    monkeypatch.setattr(own_models, "describe", describe)
    (spec,) = read("org/x").values()
    assert spec.own.obstacle == "no network"


@pytest.mark.parametrize(
    ("error", "remark"),
    [
        (
            ConnectionError("no route"),
            "nosuch/folder could not be downloaded (there is no folder of that name here), the hub cannot",
        ),
        (RefusedError(), "or has no such repository (there is no folder of that name here): check the name"),
    ],
)
def test_a_hub_id_that_may_be_a_path_is_said_to_be_no_folder(monkeypatch, error, remark):
    def describe(repository, revision):
        raise UnavailableError(explain_hub_error(error, repository, revision or "main", ""))

    monkeypatch.setattr(own_models, "describe", describe)
    (spec,) = read("mine=nosuch/folder").values()
    assert remark in spec.own.obstacle
    (spec,) = read("mine=nosuch/folder@main").values()  # no folder is meant with a revision
    assert "no folder of that name" not in spec.own.obstacle


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (["/no/such/folder"], "no such folder"),
        (["not a name"], "neither a folder nor a hub id"),
        (["smollm2-135m-instruct=org/x"], "is the name of a built-in model; choose another: NAME=org/x"),
        (["org/x", "other/x"], "is the name of another model given here; choose another: NAME=other/x"),
        (["a b=org/x"], "NAME of letters, digits"),
        (["x="], "give a hub id, a folder, or NAME=X"),
    ],
)
def test_what_names_no_model_is_refused_in_one_line(asked, models, said):
    with pytest.raises(InputError, match=said):
        read(*models)


def test_an_own_model_has_every_eager_loader_and_no_second_precision_of_a_quantized_one(monkeypatch, asked):
    (spec,) = read("x=org/x").values()
    monkeypatch.setitem(MODELS, "x", spec)
    cpu = {each.loader for each in experiments() if each.model == "x" and "cpu" in each.families}
    assert cpu == {"default", "8-bit", "4-bit"}


def test_a_home_folder_is_expanded(tiny_llama, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_llama.parent))
    assert list(read(f"mine=~/{tiny_llama.name}")) == ["mine"]


def test_a_session_depends_on_the_commit_of_its_models(asked):
    own = read("x=org/x")
    settings = SimpleNamespace(own_models=own, model_paths={}, synthetic_weights=False)
    assert Config._own_models(SimpleNamespace(settings=settings)) == {"x": COMMIT}


# Configurations -------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "my-qwen" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(QWEN))
    return path


def test_a_config_alone_is_a_model_of_synthetic_weights(config):
    (spec,) = read(configs=[str(config)], synthetic=True).values()
    assert (spec.name, spec.architecture) == ("my-qwen", "qwen2")


def test_a_config_belongs_to_the_only_model_or_to_the_one_that_it_names(config, tiny_llama):
    (spec,) = read(f"mine={tiny_llama}", configs=[str(config)], synthetic=True).values()
    assert (spec.name, spec.architecture) == ("mine", "qwen2")
    both = read(f"a={tiny_llama}", f"b={tiny_llama}", configs=[f"b={config}"], synthetic=True)
    assert [spec.architecture for spec in both.values()] == ["llama", "qwen2"]


def test_with_synthetic_weights_a_folder_needs_nothing_but_its_config(config):
    assert list(read(str(config.parent), synthetic=True)) == ["my-qwen"]
    with pytest.raises(InputError, match=r"holds no \.safetensors"):
        read(str(config.parent))


@pytest.mark.parametrize(
    ("models", "configs", "synthetic", "said"),
    [
        ([], ["x/config.json"], False, "add --weights synthetic"),
        ([], ["x/config.json"], True, "no such file"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(models, configs, synthetic, said):
    with pytest.raises(InputError, match=said):
        read(*models, configs=configs, synthetic=synthetic)


def test_a_config_without_a_name_for_two_models_is_refused(config, tiny_llama):
    with pytest.raises(InputError, match="2 models are given; name the one it is for"):
        read(f"a={tiny_llama}", f"b={tiny_llama}", configs=[str(config)], synthetic=True)


def test_two_configs_without_models_are_two_models(config, tmp_path):
    other = tmp_path / "larger.json"
    other.write_text(json.dumps({**QWEN, "num_hidden_layers": 40}))
    found = read(configs=[str(config), str(other)], synthetic=True)
    layers = {name: spec.config["num_hidden_layers"] for name, spec in found.items()}
    assert layers == {"my-qwen": QWEN["num_hidden_layers"], "larger": 40}


def test_a_config_without_a_name_is_for_the_model_that_has_none_yet(config, tiny_llama, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**QWEN, "model_type": "qwen3"}))
    for configs in ([f"b={config}", str(other)], [str(other), f"b={config}"]):
        found = read(f"a={tiny_llama}", f"b={tiny_llama}", configs=configs, synthetic=True)
        assert {name: spec.architecture for name, spec in found.items()} == {"a": "qwen3", "b": "qwen2"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("", ""), r"the models given already have a file each; .* as a model by itself: NAME=.*config\.json$"),
        (("a=", "a="), "'a' already has .*; give one file for each model"),
        (("a=", ""), "the models given already have a file each"),
    ],
)
def test_a_second_config_for_one_model_is_refused(config, tiny_llama, names, said):
    with pytest.raises(InputError, match=said):
        read(f"a={tiny_llama}", configs=[f"{name}{config}" for name in names], synthetic=True)


@pytest.mark.parametrize("name", ["", f"{SMOLLM2}="])
def test_a_config_for_a_built_in_model_is_refused(config, name):
    with pytest.raises(InputError, match=f"'{SMOLLM2}' is a built-in model and keeps its own configuration; leave"):
        read(SMOLLM2, configs=[f"{name}{config}"], synthetic=True)


# A file of models -----------------------------------------------------------------------------------------------------


def test_a_file_names_models_with_their_markers_and_loaders(asked, tiny_llama, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "ours").symlink_to(tiny_llama)
    path = tmp_path / "team.toml"
    path.write_text(
        '[ours]\nmodel = "models/ours"\nmarker = "house"\nloaders = ["4-bit"]\n\n[theirs]\nmodel = "org/x@v2"\n'
    )
    ours, theirs = read(files=[path]).values()
    assert (ours.marker, ours.own.loaders, ours.own.folder) == ("house", ("4-bit",), tmp_path / "models" / "ours")
    assert (theirs.name, asked) == ("theirs", [("org/x", "v2")])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[x]\n", "the key 'model' is missing"),
        ('[x]\nmodel = "org/x"\nloaders = ["5-bit"]\n', "'5-bit' is not one of"),
        ('[x]\nmodel = "org/x"\nmarker = "t4"\n', "'t4' must be a word"),
        ('[x]\nmodel = "org/x"\nsize = 1\n', "unknown key 'size'"),
        ("[x\n", "cannot be read as TOML"),
    ],
)
def test_a_file_that_cannot_be_used_names_the_entry_and_the_value(asked, tmp_path, text, said):
    path = tmp_path / "team.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read(files=[path])


# Compiled loaders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "qwen2"}, ""),
        ({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": False}, ""),
        ({"model_type": "mistral", "sliding_window": 4096, "max_position_embeddings": 4096}, ""),
        ({"model_type": "mistral", "sliding_window": 64}, "slides over a window of 64 tokens"),
        ({"model_type": "gemma"}, "it is of type 'gemma', and compiled decoding knows llama, mistral"),
        ({"model_type": "phi3", "rope_scaling": {"type": "longrope"}}, "rotary embedding is of type 'longrope'"),
    ],
    ids=str,
)
def test_compiled_loaders_know_some_architectures_and_say_so_of_others(tmp_path, config, said):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**SHAPE, **config}))
    (spec,) = read(f"x={path}", synthetic=True).values()
    assert said in spec.obstacle_to_compiling
    assert bool(said) is bool(spec.obstacle_to_compiling)


@pytest.mark.parametrize("name", ["7b-chat", "4-bit", "1.5B"])
def test_pytest_accepts_the_marker_of_a_name_that_begins_with_a_digit(asked, name):
    (spec,) = read(f"{name}=org/x").values()
    check_marker(spec.marker, "marker")  # raises InputError
    assert not spec.marker.startswith("_"), "pytest.mark raises AttributeError for it"


def test_a_name_must_not_be_empty(tiny_llama):
    with pytest.raises(InputError, match="give a hub id, a folder, or NAME=X"):
        read(f"={tiny_llama}")


def test_a_folder_whose_path_has_an_equals_sign_is_a_folder(tiny_llama, tmp_path):
    folder = tmp_path / "lr=1e-5"
    folder.symlink_to(tiny_llama)
    (spec,) = read(str(folder)).values()
    assert spec.own.folder == folder


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("adapter_config.json", "an adapter is not a model: merge it into its base model"),
        ("model-Q4_K_M.gguf", "GGUF files are not loaded"),
        ("checkpoint-500/config.json", "it holds 1 model; name one of them, such as .*/checkpoint-500$"),
        ("notes.txt", "name a folder that save_pretrained wrote"),
    ],
)
def test_a_folder_without_a_config_says_what_to_name_in_its_place(tmp_path, file, said):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("{}")
    with pytest.raises(InputError, match=f"has no config.json; {said}"):
        read(str(tmp_path))


def test_an_adapter_beside_a_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"has an adapter_config\.json; an adapter is not a model"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, "describes an encoder-decoder model"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "describes a BertForMaskedLM"),
        ({"architectures": ["Qwen2ForSequenceClassification"]}, "describes a Qwen2ForSequenceClassification"),
    ],
)
def test_a_model_that_cannot_write_is_refused_before_anything_is_loaded(tmp_path, facts, said):
    (tmp_path / "config.json").write_text(json.dumps({**QWEN, **facts}))
    with pytest.raises(InputError, match=f"{said}, and only causal language models are measured"):
        read(str(tmp_path))


def test_a_file_without_models_is_refused(tmp_path):
    file = tmp_path / "team.toml"
    file.write_text("# to do\n")
    with pytest.raises(InputError, match="names no model; give each a table"):
        read(files=[file])


@pytest.mark.parametrize("marker", ["_house", "9house", "h100"])
def test_a_file_cannot_give_a_marker_that_pytest_refuses_or_another_thing_has(tmp_path, marker):
    file = tmp_path / "team.toml"
    file.write_text(f'[house]\nmodel = "org/x"\nmarker = "{marker}"\n')
    with pytest.raises(InputError, match=f"marker: .{marker}. must be a word .* begins with a letter, and none of"):
        read(files=[file])


def test_a_file_with_a_byte_order_mark_is_read(asked, tmp_path):
    file = tmp_path / "team.toml"
    file.write_text('[house]\nmodel = "org/x"\n', encoding="utf-8-sig")
    assert list(read(files=[file])) == ["house"]


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.toml: cannot be read \(No such file or directory\)"):
        read(files=[tmp_path / "absent.toml"])
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read(files=[tmp_path])
