"""A loader's name is true of what it loads: quantized checkpoints under each loader, and layers after loading."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from distillation.loading import load_weights
from summarybench.catalogue.models import LOADERS
from summarybench.core.outcomes import ContradictedLoaderError, Outcome, PrecisionError, UnavailableError
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.not_loaded import NotLoaded
from summarybench.engines.precision import check_loaded_precision, is_unpacked
from summarybench.engines.pretrained import explaining
from summarybench.engines.quantization_packages import check_quantization_can_be_loaded
from summarybench.session.models import ask_once
from tests.checkpoints import changed_copy, quantized_copy
from tests.conftest import REAL_MODELS
from tests.engines.test_loading import BY_NAME, CPU, load_tiny

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": CPU.compute_dtype}


@pytest.fixture(scope="module")
def stored_8_bit(tiny_llama, tmp_path_factory):
    """A checkpoint as the loader 8-bit would have made it on a CPU."""
    return quantized_copy(tiny_llama, tmp_path_factory.mktemp("stored") / "int8", load_in_8bit=True)


@pytest.fixture(scope="module")
def stored_4_bit(tiny_llama, tmp_path_factory):
    """A checkpoint as the loader 4-bit would have made it on a CPU."""
    return quantized_copy(tiny_llama, tmp_path_factory.mktemp("stored") / "nf4", dtype=CPU.compute_dtype, **NF4)


def refused(folder, loader):
    """The one line in which a checkpoint is refused to a loader, and to no other."""
    found = load_tiny(folder, loader)
    assert isinstance(found, NotLoaded), found
    assert (found.outcome, found.is_of_loader) == (Outcome.UNAVAILABLE, True)
    assert found.detail.startswith(f"{folder}: is already quantized (")
    assert "\n" not in found.detail
    return found.detail


def without(part):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


# As stored -----------------------------------------------------------------------------------------------------------


def test_a_bitsandbytes_checkpoint_is_measured_as_it_is_stored(stored_8_bit, stored_4_bit):
    eight, four = (load_tiny(folder, "as-stored") for folder in (stored_8_bit, stored_4_bit))
    assert isinstance(eight, LoadedModel), eight
    assert isinstance(four, LoadedModel), four
    assert eight.settings["quantization"] == "llm.int8"
    assert (four.settings["quantization"], four.settings["compute_dtype"]) == ("nf4", CPU.compute_dtype)
    assert four.weights_bytes < eight.weights_bytes


def test_the_workload_of_a_stored_quantization_depends_on_all_of_its_configuration(stored_4_bit, tmp_path):
    config = json.loads((stored_4_bit / "config.json").read_text())["quantization_config"]
    other = changed_copy(
        stored_4_bit, tmp_path / "other", config={"quantization_config": {**config, "llm_int8_has_fp16_weight": True}}
    )
    digests = [load_tiny(folder, "as-stored").settings["quantization_config"] for folder in (stored_4_bit, other)]
    assert len(set(digests)) == 2


def test_a_plain_checkpoint_has_nothing_stored(tiny_llama):
    found = load_tiny(tiny_llama, "as-stored")
    assert isinstance(found, NotLoaded)
    assert "is not quantized, so there is nothing for as-stored" in found.detail


def line_about(tiny_llama, tmp_path, **quantization):
    """The one line after the folder's name about a checkpoint whose quantization cannot be loaded here."""
    folder = changed_copy(tiny_llama, tmp_path / "stored", config={"quantization_config": quantization})
    found = load_tiny(folder, "as-stored")
    assert isinstance(found, NotLoaded), found
    assert found.outcome is Outcome.UNAVAILABLE
    return found.detail.removeprefix(f"{folder}: ")


@pytest.mark.parametrize(
    ("method", "packages"),
    [
        ("gptq", "packages that are not installed: optimum and gptqmodel"),
        ("awq", "a package that is not installed: gptqmodel"),
        ("compressed-tensors", "a package that is not installed: compressed-tensors"),
        ("torchao", "a package that is not installed: torchao"),
    ],
)
def test_a_quantization_without_its_packages_names_all_of_them_in_one_line(tiny_llama, tmp_path, method, packages):
    install = packages.partition(": ")[2].replace(" and ", " ")
    assert line_about(tiny_llama, tmp_path, quant_method=method, bits=4) == (
        f"needs {packages}, for its quantization ({method}); pip install {install}"
    )


def test_gptq_with_optimum_alone_names_the_package_that_is_still_missing(tiny_llama, tmp_path, monkeypatch):
    metadata = tmp_path / "installed/optimum-2.3.0.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: optimum\nVersion: 2.3.0\n")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    assert line_about(tiny_llama, tmp_path, quant_method="gptq", bits=4) == (
        "needs a package that is not installed: gptqmodel, for its quantization (gptq); pip install gptqmodel"
    )


def test_a_library_that_uses_what_it_could_not_import_is_one_line():
    with pytest.raises(UnavailableError) as caught, explaining("folder"):
        raise NameError("name 'QuantizeConfig' is not defined")
    assert str(caught.value) == (
        "folder: a library that it needs lacks a package of its own, or has the wrong version (name 'QuantizeConfig' is not defined)"
    )


@pytest.mark.parametrize("method", ["fp_quant", "fbgemm_fp8", "higgs", "spqr"])
def test_a_quantization_for_gpus_alone_says_so_on_a_cpu(tiny_llama, tmp_path, method):
    assert line_about(tiny_llama, tmp_path, quant_method=method).startswith("its quantization runs on GPUs only (")


def test_a_quantization_that_transformers_does_not_know_is_refused_and_not_ignored(tiny_llama, tmp_path):
    assert "does not know its quantization (nosuch)" in line_about(tiny_llama, tmp_path, quant_method="nosuch")


@pytest.mark.parametrize(("capability", "is_refused"), [((8, 9), True), ((8, 0), False), (None, False)])
def test_fp8_needs_a_package_only_where_the_gpu_computes_with_it(capability, is_refused):
    config = SimpleNamespace(quantization_config={"quant_method": "fp8"})
    device = SimpleNamespace(compute_capability=lambda: capability)
    expected = pytest.raises(UnavailableError, match="not installed: kernels") if is_refused else nullcontext()
    with expected:
        check_quantization_can_be_loaded("folder", config, device)


def test_a_stored_quantization_that_was_unpacked_is_noticed(tiny_llama, stored_8_bit):
    assert is_unpacked(load_tiny(tiny_llama).model)
    assert not is_unpacked(load_tiny(stored_8_bit, "as-stored").model)


def test_the_workload_says_that_fp8_was_unpacked_for_want_of_a_gpu(tiny_llama, tmp_path):
    quantization = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32]}
    folder = changed_copy(tiny_llama, tmp_path / "fp8", config={"quantization_config": quantization})
    found = load_tiny(folder, "as-stored")
    assert isinstance(found, LoadedModel), found
    assert (found.settings["quantization"], found.settings["unpacked"]) == ("fp8", True)


@pytest.mark.parametrize(
    "settings",
    [
        {"bnb_4bit_quant_type": "fp4"},
        {"bnb_4bit_use_double_quant": True},
        {"llm_int8_skip_modules": ["lm_head", "q_proj"]},
    ],
    ids=str,
)
def test_4_bit_weights_of_other_settings_are_measured_as_stored(tiny_llama, tmp_path, settings):
    folder = quantized_copy(tiny_llama, tmp_path / "other", dtype=CPU.compute_dtype, **{**NF4, **settings})
    found = load_tiny(folder, "as-stored")
    assert isinstance(found, LoadedModel), found


# Before loading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", [name for name in LOADERS if name not in ("8-bit", "as-stored")])
def test_int8_checkpoint_is_refused_to_every_other_loader(stored_8_bit, loader):
    detail = refused(stored_8_bit, loader)
    assert "(llm.int8, threshold 6.0, dtype float32)" in detail
    assert f"the loader {loader} would be " in detail
    assert "measure it with 8-bit, or give the unquantized checkpoint" in detail


@pytest.mark.parametrize(
    "loader", [name for name, each in LOADERS.items() if each.quantization not in ("nf4", "as stored")]
)
def test_nf4_checkpoint_is_refused_to_every_other_loader(stored_4_bit, loader):
    detail = refused(stored_4_bit, loader)
    assert f"(nf4, compute_dtype {CPU.compute_dtype}, double_quantization False, dtype {CPU.compute_dtype})" in detail
    assert "measure it with 4-bit, or give the unquantized checkpoint" in detail


def test_checkpoint_is_refused_before_its_weights_are_read(stored_8_bit, tmp_path):
    folder = changed_copy(stored_8_bit, tmp_path / "unreadable")
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert "unquantized" in refused(folder, "default")


@pytest.mark.parametrize("predict", [True, False])
def test_int8_checkpoint_is_measured_as_8_bit(stored_8_bit, tiny_llama, predict):
    found, same = load_tiny(stored_8_bit, "8-bit", predict=predict), load_tiny(tiny_llama, "8-bit")
    assert isinstance(found, LoadedModel), found
    assert found.settings == same.settings
    assert found.weights_bytes == same.weights_bytes
    prompt = found.prepare([[5, 6, 7]])
    assert found.generate_bare(prompt, 8).tolist() == same.generate_bare(prompt, 8).tolist()


def test_nf4_checkpoint_is_measured_as_4_bit(stored_4_bit, tiny_llama):
    found, same = load_tiny(stored_4_bit, "4-bit"), load_tiny(tiny_llama, "4-bit")
    assert isinstance(found, LoadedModel), found
    assert found.settings == same.settings
    assert found.weights_bytes == same.weights_bytes
    prompt = found.prepare([[5, 6, 7]])
    assert found.generate_bare(prompt, 8).tolist() == same.generate_bare(prompt, 8).tolist()


def test_int8_weights_serve_the_loader_with_activations_of_16_bits_whatever_their_threshold(tiny_llama, tmp_path):
    folder = quantized_copy(tiny_llama, tmp_path / "int8", dtype="bfloat16", load_in_8bit=True)
    assert isinstance(load_tiny(folder, "w8a16"), LoadedModel)


@pytest.mark.parametrize(
    ("settings", "stored", "asked"),
    [
        ({"bnb_4bit_quant_type": "fp4"}, "(fp4, ", "the loader 4-bit would be nf4"),
        ({"bnb_4bit_use_double_quant": True}, "double_quantization True", "would be double_quantization False"),
        (
            {"llm_int8_skip_modules": ["lm_head", "q_proj"]},
            "unquantized_layers q_proj",
            "would be unquantized_layers none",
        ),
        ({"bnb_4bit_compute_dtype": "float16"}, "compute_dtype float16", f"would be compute_dtype {CPU.compute_dtype}"),
    ],
)
def test_4_bit_weights_with_other_settings_are_refused(tiny_llama, tmp_path, settings, stored, asked):
    folder = quantized_copy(tiny_llama, tmp_path / "other", dtype=CPU.compute_dtype, **{**NF4, **settings})
    detail = refused(folder, "4-bit")
    assert stored in detail
    assert asked in detail
    assert f"measure it as it is with --model {folder}" in detail


def test_a_quantization_that_no_loader_has_is_refused_by_its_name(tiny_llama, tmp_path):
    config = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
    folder = changed_copy(tiny_llama, tmp_path / "gptq", config=config)
    for loader in ("default", "4-bit"):
        assert "(gptq, dtype float32)" in refused(folder, loader)


def test_quantization_config_of_null_is_none(tiny_llama, tmp_path):
    folder = changed_copy(tiny_llama, tmp_path / "null", config={"quantization_config": None})
    assert isinstance(load_tiny(folder), LoadedModel)


def test_distillation_refuses_a_quantized_checkpoint(stored_8_bit):
    with pytest.raises(ContradictedLoaderError, match="distillation needs plain weights"):
        load_weights(stored_8_bit, "float32", "cpu")


@pytest.mark.parametrize(("is_of_loader", "asked"), [(True, ["default", "8-bit", "4-bit"]), (False, ["default"])])
def test_a_checkpoint_refused_to_one_loader_is_tried_with_the_next(is_of_loader, asked):
    loaders = []

    def load(experiment):
        loaders.append(experiment.loader)
        return NotLoaded(experiment=experiment, outcome=Outcome.UNAVAILABLE, detail="no", is_of_loader=is_of_loader)

    load_once = ask_once(load)
    experiments = [BY_NAME[f"smollm2-135m-instruct-{loader}"] for loader in ("default", "8-bit", "4-bit")]
    assert [load_once(each).experiment for each in experiments] == experiments
    assert loaders == asked


@pytest.mark.slow
def test_a_session_measures_a_quantized_checkpoint_as_what_it_is_and_refuses_the_rest(project, stored_8_bit):
    project.use(REAL_MODELS)
    session = project.bench(
        "--model-path", f"smollm2-135m-instruct={stored_8_bit}", "--documents", "2", "--max-new-tokens", "4"
    )
    names = {loader: f"smollm2-135m-instruct-{loader}" for loader in ("default", "8-bit", "4-bit")}
    assert {loader: session.outcomes[name] for loader, name in names.items()} == {
        "default": "unavailable",
        "8-bit": "passed",
        "4-bit": "unavailable",
    }
    assert session.exit_code == 11
    assert "Traceback" not in session.output


# After loading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", [name for name in LOADERS if name != "as-stored"])
def test_what_every_loader_loads_is_what_its_name_says(tiny_llama, loader):
    found = load_tiny(tiny_llama, loader)
    assert isinstance(found, LoadedModel), found


@pytest.mark.parametrize(
    ("loaded_by", "said_to_be", "fault"),
    [
        ("8-bit", "4-bit", r"layers\.0\.self_attn\.q_proj is Linear8bitLt, not Linear4bit \(1 of 14 such layers\)"),
        ("4-bit", "8-bit", "is Linear4bit, not Linear8bitLt"),
        ("default", "4-bit", "is Linear, not Linear4bit"),
        ("8-bit", "default", "is Linear8bitLt, not Linear"),
        ("8-bit", "w8a16", "is Linear8bitLt, not Int8WeightOnlyLinear"),
        ("default", "w4a16", "is Linear, not Int4GroupLinear"),
        ("w4a16", "fp8", "is Int4GroupLinear, not Fp8WeightOnlyLinear"),
        ("fp8", "w8a16", "is Fp8WeightOnlyLinear, not Int8WeightOnlyLinear"),
        ("8-bit", "8-bit-threshold-0", r"has threshold 6\.0, not 0\.0"),
        ("default", "fp16", r"model\.embed_tokens has dtype float32, not float16"),
    ],
)
def test_layers_of_another_precision_are_named(tiny_llama, loaded_by, said_to_be, fault):
    found = load_tiny(tiny_llama, loaded_by)
    with pytest.raises(PrecisionError, match=rf"the loader {said_to_be} has not loaded what its name says: .*{fault}"):
        check_loaded_precision(found.model, said_to_be, LOADERS[said_to_be].settings(CPU, 1))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"double_quantization": True}, "has double_quantization False, not True"),
        ({"compute_dtype": "float16"}, f"has compute_dtype {CPU.compute_dtype}, not float16"),
        ({"quantization": "nf4", "dtype": "float16"}, f"has dtype {CPU.compute_dtype}, not float16"),
    ],
)
def test_4_bit_layers_of_other_settings_are_named(tiny_llama, changed, fault):
    found = load_tiny(tiny_llama, "4-bit")
    with pytest.raises(PrecisionError, match=fault):
        check_loaded_precision(found.model, "4-bit", {**found.settings, **changed})


def test_4_bit_weights_without_their_scales_are_no_4_bit_layers(stored_4_bit, tmp_path):
    folder = changed_copy(stored_4_bit, tmp_path / "bare", tensors=without("layers.0.mlp.down_proj.weight."))
    found = load_tiny(folder, "4-bit")
    assert found.outcome is Outcome.FAILED
    assert "model.layers.0.mlp.down_proj has quantization None, not nf4" in found.detail


@pytest.mark.parametrize(("loader", "part"), [("8-bit", ".SCB"), ("4-bit", "down_proj.weight.absmax")])
def test_quantized_weights_without_some_of_their_scales_are_damaged(stored_8_bit, stored_4_bit, tmp_path, loader, part):
    stored = stored_8_bit if loader == "8-bit" else stored_4_bit
    found = load_tiny(changed_copy(stored, tmp_path / "damaged", tensors=without(part)), loader)
    assert found.outcome is Outcome.FAILED
    assert found.detail == (
        f"{tmp_path / 'damaged'}: quantized weights lack their scales or are damaged; download the checkpoint again"
    )


def test_quantized_weights_whose_configuration_is_silent_are_named_as_such(stored_8_bit, tmp_path):
    folder = changed_copy(stored_8_bit, tmp_path / "silent", config={"quantization_config": None})
    found = load_tiny(folder)
    assert found.outcome is Outcome.FAILED
    assert "it is quantized, and its config.json has no quantization_config" in found.detail
