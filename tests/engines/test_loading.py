"""Real loading and real generation, with a tiny random Llama saved to a folder."""

from __future__ import annotations

import gc
import multiprocessing
import shutil
import weakref
from types import SimpleNamespace

import pytest

from summarybench.catalogue.models import EXPERIMENTS, MODELS
from summarybench.core.outcomes import OffloadedError, Outcome, UnavailableError
from summarybench.documents.sources import embedded_documents
from summarybench.engines import embedded, loading
from summarybench.engines.loaded_model import LoadedModel, pad_token_of
from summarybench.engines.loading import load
from summarybench.engines.not_loaded import NotLoaded
from summarybench.engines.placement import check_nothing_offloaded
from summarybench.engines.pretrained import explaining
from summarybench.engines.quantization import load_quantized
from summarybench.engines.weights import find_weights, folder_digest
from summarybench.machine.detection import detect_device
from summarybench.machine.telemetry import NullMonitor
from summarybench.measure.generation import Instruments, build_prompts, measure
from summarybench.session.models import ask_once
from tests.checkpoints import tiny_model

BY_NAME = {experiment.name: experiment for experiment in EXPERIMENTS}
CPU = detect_device({"CUDA_VISIBLE_DEVICES": ""})


def load_tiny(
    folder, loader="default", model="smollm2-135m-instruct", device=CPU, predict=True, longest_sequence=lambda chat: 100
):
    return load(
        BY_NAME[f"{model}-default"].loaded_as(loader),
        lambda: find_weights(MODELS[model], {model: folder}),
        device,
        device.clock(),
        longest_sequence=longest_sequence,
        predict=predict,
    )


@pytest.fixture(scope="module")
def loaded(tiny_llama):
    found = load_tiny(tiny_llama)
    assert isinstance(found, LoadedModel), found
    return found


@pytest.mark.parametrize(
    ("loader", "dtype", "quantized"),
    [("default", "float32", None), ("8-bit", "int8", "SCB"), ("4-bit", "uint8", "quant_state")],
)
def test_loader_gives_weights_of_its_precision(tiny_llama, loader, dtype, quantized):
    found = load_tiny(tiny_llama, loader)
    weight = found.model.model.layers[0].mlp.down_proj.weight
    assert str(weight.dtype) == f"torch.{dtype}"
    assert quantized is None or getattr(weight, quantized) is not None


def test_4_bit_layers_of_odd_widths_are_multiplied_on_a_cpu_with_bf16_avx512(tiny_llama, tmp_path, monkeypatch):
    from bitsandbytes.nn import modules

    folder = tiny_model(tiny_llama, tmp_path / "odd", "llama", hidden_size=80, intermediate_size=112)
    with_avx2 = load_tiny(folder, "4-bit")
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    with_avx512 = load_tiny(folder, "4-bit")
    logits = [found.summary_with_logits([1, 2, 3], 4)[1] for found in (with_avx2, with_avx512)]
    assert logits[0].equal(logits[1])


def test_quantized_weights_take_less_memory_and_count_their_scales(tiny_llama):
    default, eight, four = (load_tiny(tiny_llama, loader).weights_bytes for loader in ("default", "8-bit", "4-bit"))
    assert four < eight < default
    hidden, inner, layers = 64, 128, 2
    linear = layers * (4 * hidden * hidden + 3 * hidden * inner)
    rows = layers * (4 * hidden + 2 * inner + hidden)
    assert default - eight == 4 * linear - (linear + 4 * rows)  # int8 and one float32 scale a row, for float32


def test_published_sampling_defaults_are_cleared(loaded):
    assert loaded.model.generation_config.do_sample is False
    assert loaded.model.generation_config.temperature is None
    assert loaded.model.generation_config.top_p is None


def with_pad_token(tiny_llama, folder, pad_token):
    """The tiny Llama with another pad token, or none, as its tokenizer has it; and the id of that token."""
    from transformers import AutoTokenizer

    shutil.copytree(tiny_llama, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.pad_token = None
    if pad_token:
        tokenizer.add_special_tokens({"pad_token": pad_token})
    tokenizer.save_pretrained(folder)
    return load_tiny(folder), tokenizer.pad_token_id


@pytest.mark.parametrize(
    ("pad_token", "its_id", "used"),
    [
        (None, None, 0),  # as Llama-2 is published: its end token stands in
        ("<one-past-the-vocabulary>", 1_000, 0),  # as it is often patched
        ("<user>", 1, 1),
    ],
)
def test_pad_token_is_one_that_has_an_embedding_and_rows_can_be_padded_with_it(
    tiny_llama, tmp_path, pad_token, its_id, used
):
    found, pad_id = with_pad_token(tiny_llama, tmp_path / "odd", pad_token)
    assert pad_id == its_id
    assert found.model.config.vocab_size == 1_000
    assert found.model.generation_config.pad_token_id == used
    prepared = found.prepare([[5, 6, 7], [8]])
    assert prepared.input_ids.tolist() == [[5, 6, 7], [used, used, 8]]
    assert prepared.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert len(found.generated_ids(found.generate(prepared, 2, lambda: None), prepared)) == 2


def test_model_without_any_end_token_is_padded_inside_its_vocabulary(loaded):
    tokenizer = SimpleNamespace(pad_token_id=1_000)
    model = SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=None),
        get_input_embeddings=loaded.model.get_input_embeddings,
    )
    assert pad_token_of(tokenizer, model) == 0


def test_rows_of_a_batch_are_answered_as_they_are_alone(loaded):
    rows = [
        loaded.chat.chat_ids(message) for message in ("Say something.", "Say something longer, and then more.", "Hi.")
    ]
    assert len({len(row) for row in rows}) == 3
    prepared = loaded.prepare(rows)
    told = []
    together = loaded.generated_ids(loaded.generate(prepared, 12, lambda: told.append(True)), prepared)
    alone = []
    for row in rows:
        single = loaded.prepare([row])
        alone += loaded.generated_ids(loaded.generate(single, 12, lambda: None), single)
    assert together == alone
    assert told == [True]


def test_what_follows_a_rows_end_token_is_padding_and_not_counted(loaded):
    import torch

    prepared = loaded.prepare([[5, 6], [7]])
    output = torch.tensor([[5, 6, 9, 0, 0, 0], [0, 7, 9, 9, 9, 9]])  # 0 is the end token, and pads
    assert loaded.generated_ids(output, prepared) == [[9, 0], [9, 9, 9, 9]]


def test_first_token_is_told_once_and_greedy_output_repeats(loaded):
    told = []
    prepared = loaded.prepare([loaded.chat.chat_ids("Say something.")])
    first, second = (loaded.generate(prepared, 12, lambda: told.append(True)) for _ in range(2))
    assert told == [True, True]
    assert first.tolist() == second.tolist()
    (generated,) = loaded.generated_ids(first, prepared)
    assert 1 <= len(generated) <= 12


def test_prompt_with_new_tokens_stays_within_the_context(loaded):
    longest = max(embedded_documents().documents, key=lambda document: len(document.text))
    prompt = build_prompts(loaded.chat, [longest], max_prompt_tokens=100_000, max_new_tokens=50)[0]
    assert prompt.truncated
    assert len(prompt.token_ids) <= loaded.chat.context_tokens - 50
    assert loaded.chat.tokenizer.decode(prompt.token_ids).startswith(
        "<user> Summarize the following text in 1-3 sentences."
    )


def test_measured_summaries_are_those_that_were_generated(loaded):
    prompts = build_prompts(loaded.chat, embedded_documents().sample(3, 0), 256, 8)
    told = []

    def pedantic(target, *, setup, rounds):
        for _ in range(rounds):
            arguments, keywords = setup()
            target(*arguments, **keywords)

    measured = measure(
        SimpleNamespace(pedantic=pedantic),
        loaded,
        prompts,
        max_new_tokens=8,
        instruments=Instruments(device=CPU, clock=CPU.clock(), monitor=NullMonitor()),
        on_record=told.append,
    )
    assert list(measured.records) == told
    for record, prompt in zip(told, prompts, strict=True):
        prepared = loaded.prepare([prompt.token_ids])
        (generated,) = loaded.generated_ids(loaded.generate(prepared, 8, lambda: None), prepared)
        assert record.summary == loaded.decode(generated)
    assert measured.peak_memory_bytes > loaded.weights_bytes


def test_model_is_gone_when_nobody_holds_it(tiny_llama):
    found = load_tiny(tiny_llama)
    reference = weakref.ref(found.model)
    del found
    gc.collect()
    assert reference() is None


def test_weights_elsewhere_are_named_with_their_size(loaded):
    gpu = SimpleNamespace(kind="cuda")
    with pytest.raises(OffloadedError, match=r"0\.\d\d GiB on cpu"):
        check_nothing_offloaded(loaded.model, gpu)


def test_damaged_weights_are_an_outcome_and_no_exception(tiny_llama, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_llama, folder)
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    found = load_tiny(folder)
    assert isinstance(found, NotLoaded)
    assert found.outcome is Outcome.FAILED
    assert "\n" not in found.detail


def test_packages_that_one_loader_lacks_do_not_keep_others_from_loading(tiny_llama, monkeypatch):
    def load_weights(weights, settings, config, device):
        if settings.get("quantization"):
            with explaining(weights.location):
                raise ImportError("bitsandbytes is too old")
        return load_quantized(weights, settings, config, device)

    monkeypatch.setattr(loading, "load_quantized", load_weights)
    load_once = ask_once(lambda experiment: load_tiny(tiny_llama, experiment.loader))
    found = [load_once(BY_NAME[f"smollm2-135m-instruct-{loader}"]) for loader in ("8-bit", "default")]
    assert "bitsandbytes is too old" in found[0].detail
    assert found[0].outcome is Outcome.UNAVAILABLE
    assert isinstance(found[1], LoadedModel)


def test_missing_weights_templates_and_documents_keep_every_loader_from_loading(tiny_llama, tmp_path):
    def unavailable(*_):
        raise UnavailableError("no network")

    without_template = shutil.copytree(tiny_llama, tmp_path / "without-template")
    (without_template / "chat_template.jinja").unlink()
    experiment = BY_NAME["smollm2-135m-instruct-default"]
    found = [
        load(experiment, unavailable, CPU, CPU.clock(), longest_sequence=lambda chat: 100, predict=True),
        load_tiny(without_template),
        load_tiny(tiny_llama, longest_sequence=unavailable),
    ]
    assert [each.outcome for each in found] == [Outcome.UNAVAILABLE, Outcome.FAILED, Outcome.UNAVAILABLE]
    assert [each.is_wrong_input for each in found] == [False, True, False]
    assert not any(each.is_of_loader for each in found)


def test_digest_of_a_folder_follows_its_configuration_but_not_its_path(tiny_llama, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_llama, copy)
    assert folder_digest(copy) == folder_digest(tiny_llama)
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"rope_theta": 10000.0', '"rope_theta": 20000.0') + " ")
    assert folder_digest(copy) != folder_digest(tiny_llama)


def test_local_folder_goes_before_the_hub(tiny_llama):
    spec = MODELS["llama2-7b-chat"]
    assert find_weights(spec, {}, download=lambda _: tiny_llama).kind == "hub"
    assert find_weights(spec, {spec.name: tiny_llama}).kind == "path"


# The embedded model --------------------------------------------------------------------------------------------------


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_damaged_wheel_is_named_with_both_digests(empty_cache, tmp_path, monkeypatch):
    damaged = tmp_path / "model.gguf"
    damaged.write_bytes(b"not a model")
    entry = SimpleNamespace(suffix=".gguf", locate=lambda: damaged)
    monkeypatch.setattr(embedded.importlib.metadata, "files", lambda _: [entry])
    with pytest.raises(UnavailableError, match=r"damaged: sha256 [0-9a-f]{12}…, not b179c9523d0e"):
        embedded.embedded_model_folder()
    assert not list(empty_cache.rglob("*.safetensors"))


def test_wheel_that_lost_its_file_is_named(empty_cache, monkeypatch):
    monkeypatch.setattr(embedded.importlib.metadata, "files", lambda _: [])
    with pytest.raises(UnavailableError, match=r"has lost its \.gguf file"):
        embedded.embedded_model_folder()


def test_unwritable_cache_says_what_to_set(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    with pytest.raises(UnavailableError, match="set XDG_CACHE_HOME"):
        embedded.embedded_model_folder()


def test_failed_conversion_leaves_nothing_behind(empty_cache, monkeypatch):
    def fails(gguf, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded, "_convert", fails)
    with pytest.raises(UnavailableError, match="No space left on device"):
        embedded.embedded_model_folder()
    assert not list(empty_cache.rglob("model.safetensors"))


def convert_in_turn(barrier, results):
    def slowly(gguf, folder):
        (folder / "model.safetensors").write_bytes(b"whole")
        barrier.wait(30)  # both have written before either renames

    embedded._convert = slowly
    results.put((embedded.embedded_model_folder() / "model.safetensors").read_bytes())


def test_two_processes_may_convert_at_once(empty_cache):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=convert_in_turn, args=(barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [b"whole", b"whole"]
    for process in processes:
        process.join()
    assert len(list(empty_cache.rglob("model.safetensors"))) == 1
