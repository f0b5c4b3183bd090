"""How one model is loaded and asked to generate."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from summarybench.catalogue.models import FP8_WEIGHTS, LOADERS, MODELS, WEIGHT_ONLY, Experiment
from summarybench.core.cache import cache_folder
from summarybench.core.outcomes import (
    ContradictedLoaderError,
    DeviceMemoryError,
    OffloadedError,
    Outcome,
    SuiteError,
    UnavailableError,
    first_line,
    is_device_lost,
    is_out_of_memory,
    out_of_memory_figures,
)
from summarybench.engines.chat import Chat, open_chat
from summarybench.engines.compiled import CompiledDecoders, attend_to_static_keys, cache_tokens_for
from summarybench.engines.memory_model import MemoryPrediction, predict_memory
from summarybench.engines.precision import check_loaded_precision, check_stored_precision, stored_settings
from summarybench.engines.pretrained import load_causal_lm
from summarybench.engines.weights import Weights
from summarybench.machine.clock import Clock
from summarybench.machine.cpu import wait_policy
from summarybench.machine.device import GIB, Device

JsonScalar = str | int | float | bool | None
FP8_COMPUTE_CAPABILITY = (8, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotLoaded:
    """Why there is no model: handed on in its place, so that a fixture never raises.

    `is_of_loader` says that another loader may well load this model.
    """

    experiment: Experiment
    outcome: Outcome
    detail: str
    is_of_loader: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBatch:
    """Prompts on the device, padded on the left to the longest: [batch, prompt tokens] each."""

    input_ids: Any
    attention_mask: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model on its device, ready to summarize.

    `weights_bytes` counts quantization scales too; `weights_read_bytes` are those that each decoded token reads: all
    but an input embedding of its own, of which it reads a row.
    """

    experiment: Experiment
    weights: Weights
    chat: Chat
    settings: Mapping[str, JsonScalar]
    load_seconds: float
    load_peak_memory_bytes: int
    weights_bytes: int
    weights_read_bytes: int
    predicted_memory_bytes: int
    model: Any
    decoders: CompiledDecoders | None = None

    @property
    def compile_seconds(self) -> float | None:
        """What compiling has taken until now; None for a loader that compiles nothing."""
        return None if self.decoders is None else self.decoders.compile_seconds

    @property
    def tuned_kernels(self) -> str | None:
        """What the compiler chose, as one digest; None for a loader that compiles nothing."""
        return None if self.decoders is None else self.decoders.tuned_kernels

    def memory_for(self, sequence_tokens: int, batch_size: int) -> MemoryPrediction:
        """What a batch of sequences of this length, prompt and summary together, is predicted to need."""
        tokens = sequence_tokens if self.decoders is None else cache_tokens_for(sequence_tokens)
        return predict_memory(self.chat.config, self.settings, tokens, batch_size, self.weights_bytes)

    def fit_rows(self, rows: int) -> None:
        """Let go of a compiled decoder for another number of rows, which would be filled up, and holds a cache for each."""
        if self.decoders is not None:
            self.decoders.drop_unless_for(rows)

    def as_experiment(self, experiment: Experiment, prediction: MemoryPrediction) -> LoadedModel:
        """The same model, to be measured as another experiment."""
        return replace(self, experiment=experiment, predicted_memory_bytes=prediction.total_bytes)

    def prepare(self, rows: Sequence[Sequence[int]]) -> PreparedBatch:
        """The token ids of one prompt or of several on the device, as one batch."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        pad = self.model.generation_config.pad_token_id
        prompts = [torch.tensor(row) for row in rows]
        ids = pad_sequence(prompts, batch_first=True, padding_value=pad, padding_side="left")
        mask = pad_sequence([torch.ones_like(row) for row in prompts], batch_first=True, padding_side="left")
        device = self.model.device
        return PreparedBatch(input_ids=ids.to(device), attention_mask=mask.to(device))

    def generate(self, prepared: PreparedBatch, max_new_tokens: int, on_first_token: Callable[[], None]) -> Any:
        """Greedy: [batch, prompt + generated tokens], on the device.

        `on_first_token` is called once, when the first token of every row is chosen.
        """
        if self.decoders is not None:
            decoder = self.decoders.for_rows(len(prepared.input_ids))
            return decoder.generate(prepared.input_ids, prepared.attention_mask, max_new_tokens, on_first_token)
        return self.generate_bare(prepared, max_new_tokens, stopping_criteria=[_FirstToken(on_first_token)])

    def generate_bare(self, prepared: PreparedBatch, max_new_tokens: int, **options: Any) -> Any:
        """Greedy, and nobody is told anything: what a plain loop would call."""
        import torch

        with torch.inference_mode():
            return self.model.generate(
                prepared.input_ids, attention_mask=prepared.attention_mask, max_new_tokens=max_new_tokens, **options
            )

    def summary_with_logits(self, prompt: Sequence[int], max_new_tokens: int) -> tuple[list[int], Any]:
        """A greedy summary's tokens and the logits behind each: [tokens, vocabulary] in float32, on the CPU."""
        import torch

        prepared = self.prepare([prompt])
        output = self.generate_bare(prepared, max_new_tokens, output_logits=True, return_dict_in_generate=True)
        (tokens,) = self.generated_ids(output.sequences, prepared)
        return tokens, torch.cat(output.logits)[: len(tokens)].float().cpu()

    def forced_logits(self, prompt: Sequence[int], summary: Sequence[int]) -> Any:
        """Of each token of a summary, given the ones before it: [tokens, vocabulary] in float32, on the CPU.

        They are computed as generation does, a token at a time from the kept keys and values.
        """
        import torch

        prepared = self.prepare([prompt])
        forced = torch.tensor([summary], device=self.model.device)
        if self.decoders is not None:
            found = self.decoders.for_rows(1).logits(prepared.input_ids, prepared.attention_mask, forced)[0]
        else:
            found = self._eager_logits(prepared, forced)
        return found.float().cpu()

    def _eager_logits(self, prepared: PreparedBatch, forced: Any) -> Any:
        import torch
        from transformers import DynamicCache

        cache, fed, mask = DynamicCache(config=self.model.config), prepared.input_ids, prepared.attention_mask
        steps = []
        with torch.inference_mode():
            for number in range(forced.shape[1]):
                answer = self.model(fed, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1)
                steps.append(answer.logits[0, -1])
                fed = forced[:, number : number + 1]
                mask = torch.cat([mask, mask.new_ones(1, 1)], dim=1)
            return torch.stack(steps)

    def generated_ids(self, output: Any, prepared: PreparedBatch) -> list[list[int]]:
        """What was generated for each row, end token included; what follows it in a batch is padding."""
        ends = _end_tokens(self.model)
        rows: list[list[int]] = output[:, prepared.input_ids.shape[1] :].tolist()
        return [_up_to_the_first(ends, row) for row in rows]

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self.chat.tokenizer.decode(token_ids, skip_special_tokens=True)).strip()

    def ends_by_itself(self, token_ids: Sequence[int]) -> bool:
        """Whether the last token is an end token, and not just the last that the limit allowed."""
        return bool(token_ids) and token_ids[-1] in _end_tokens(self.model)


class _FirstToken:
    """A stopping criterion that never stops: `generate` calls it after each token, which costs no synchronization.

    A streamer would be told of the first token too, but has each token copied to the host.
    """

    def __init__(self, on_first_token: Callable[[], None]) -> None:
        self._on_first_token = on_first_token
        self._never: Any = None

    def __call__(self, input_ids: Any, *_: Any, **__: Any) -> Any:
        if self._never is None:
            import torch

            self._never = input_ids.new_zeros(input_ids.shape[0], dtype=torch.bool)  # [batch]
            self._on_first_token()
        return self._never


def load(
    experiment: Experiment,
    find: Callable[[], Weights],
    device: Device,
    clock: Clock,
    *,
    longest_sequence: Callable[[Chat], int],
    predict: bool,
) -> LoadedModel | NotLoaded:
    """The experiment's model on the device, or why it is not. Never raises for what can happen to a user.

    `longest_sequence` tells the tokens of the longest prompt with its summary; with `predict`, a model that would not
    fit with them is not even tried.
    """
    try:
        return _load(experiment, find(), device, clock, longest_sequence, predict=predict)
    except Exception as error:
        failure = _explain(error, experiment)
    # Outside the handler: the exception, and with it the half-loaded model, is gone by now.
    if failure.outcome is not Outcome.INVALID:  # a lost GPU answers nothing any more
        device.release_memory()
    return failure


def _load(
    experiment: Experiment,
    weights: Weights,
    device: Device,
    clock: Clock,
    longest_sequence: Callable[[Chat], int],
    *,
    predict: bool,
) -> LoadedModel:
    import torch

    settings = LOADERS[experiment.loader].settings(device, torch.get_num_threads(), wait_policy())
    chat = open_chat(weights)
    check_stored_precision(weights.location, chat.config, experiment.loader, settings, device)
    longest = longest_sequence(chat)
    is_compiled = LOADERS[experiment.loader].is_compiled
    tokens = cache_tokens_for(longest) if is_compiled else longest
    prediction = predict_memory(chat.config, settings, tokens, experiment.batch_size)
    free_bytes = device.free_memory_bytes()
    if predict and prediction.total_bytes > free_bytes:
        raise DeviceMemoryError(
            f"out of memory (predicted): {prediction}, and {free_bytes / GIB:.2f} GiB are free; "
            "--no-memory-prediction tries all the same"
        )
    torch.backends.cuda.enable_cudnn_sdp(False)  # see Loader.settings
    device.reset_peak_memory()
    start = clock()
    model = _load_model(weights, settings, chat.config, device).eval()
    load_seconds = clock() - start
    check_nothing_offloaded(model, device)
    check_loaded_precision(model, experiment.loader, settings)
    weights_bytes = sum(size for _, size in _tensor_bytes(model))
    _generate_greedily(model, chat.tokenizer)
    decoders = _compiled_decoders(model, longest, clock) if is_compiled else None
    return LoadedModel(
        experiment=experiment,
        weights=weights,
        chat=chat,
        settings=settings,
        load_seconds=load_seconds,
        load_peak_memory_bytes=device.peak_memory_bytes(),
        weights_bytes=weights_bytes,
        weights_read_bytes=weights_bytes - _untied_embedding_bytes(model),
        predicted_memory_bytes=prediction.total_bytes,
        model=model,
        decoders=decoders,
    )


def _load_model(weights: Weights, settings: Mapping[str, JsonScalar], config: Any, device: Device) -> Any:
    """The model on one device, so that nothing can be offloaded, and quantized."""
    quantization = settings.get("quantization")
    if quantization == FP8_WEIGHTS and device.is_gpu:
        _check_fp8()
    place = 0 if device.is_gpu else "cpu"
    model = load_causal_lm(
        weights.location,
        dtype=str(settings["dtype"]),
        attn_implementation="sdpa",
        device_map={"": "cpu" if quantization in WEIGHT_ONLY else place},
        **_quantization_options(settings, config),
        **weights.from_pretrained_options,
    )
    if quantization == "int8 weights":
        from summarybench.engines.weight_only import compute_in_16_bits

        compute_in_16_bits(model)
    elif quantization in WEIGHT_ONLY:
        from summarybench.engines.quantize import quantize_on

        quantize_on(place, model, str(quantization))
    return model


def _check_fp8() -> None:
    """Raises UnavailableError for a GPU without conversions of fp8: one of no known family may be offered such a loader."""
    import torch

    found = torch.cuda.get_device_capability()
    if found < FP8_COMPUTE_CAPABILITY:
        needed, seen = (".".join(map(str, each)) for each in (FP8_COMPUTE_CAPABILITY, found))
        raise UnavailableError(
            f"fp8 needs a GPU of compute capability {needed} or newer, and this one has {seen}: measure w8a16-compiled"
        )


def _compiled_decoders(model: Any, longest_sequence: int, clock: Clock) -> CompiledDecoders:
    attend_to_static_keys(model)
    return CompiledDecoders(
        model,
        tokens=cache_tokens_for(longest_sequence),
        end_tokens=[token for token in _end_tokens(model) if token is not None],
        pad_token=model.generation_config.pad_token_id,
        clock=clock,
    )


def _quantization_options(settings: Mapping[str, JsonScalar], config: Any) -> dict[str, Any]:
    """What tells transformers how to quantize; nothing for a checkpoint that is quantized already."""
    if settings.get("quantization") in (None, *WEIGHT_ONLY) or stored_settings(config) is not None:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    if settings["quantization"] in ("llm.int8", "int8 weights"):
        chosen = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=settings.get("threshold", 0.0))
    else:
        chosen = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=settings["quantization"],
            bnb_4bit_compute_dtype=getattr(torch, str(settings["compute_dtype"])),
            bnb_4bit_use_double_quant=settings["double_quantization"],
        )
    return {"quantization_config": chosen}


def _generate_greedily(model: Any, tokenizer: Any) -> None:
    """Replace the model's generation defaults, sampling among them, by greedy decoding with a pad token it knows."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=model.generation_config.bos_token_id,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=_pad_token(tokenizer, model),
    )


def _pad_token(tokenizer: Any, model: Any) -> int:
    """The tokenizer's own pad token, or else an end token, or else any: always one that has an embedding.

    An id outside the vocabulary is an assertion on the device, which then answers nothing any more.
    """
    known = range(model.get_input_embeddings().weight.shape[0])
    candidates = (tokenizer.pad_token_id, *_end_tokens(model))
    return next((int(token) for token in candidates if token is not None and token in known), 0)


def _end_tokens(model: Any) -> tuple[int | None, ...]:
    ends = model.generation_config.eos_token_id
    return tuple(ends) if isinstance(ends, list) else (ends,)


def _up_to_the_first(ends: Collection[int | None], row: list[int]) -> list[int]:
    """A row's tokens, the first end token included and all after it left out."""
    return next((row[: index + 1] for index, token in enumerate(row) if token in ends), row)


def check_nothing_offloaded(model: Any, device: Device) -> None:
    """Raises OffloadedError with how many GiB lie where, if any of the weights are not on the device."""
    wanted = "cuda" if device.is_gpu else "cpu"
    elsewhere: dict[str, int] = {}
    for place, size in _tensor_bytes(model):
        if place != wanted:
            elsewhere[place] = elsewhere.get(place, 0) + size
    if elsewhere:
        places = ", ".join(f"{size / GIB:.2f} GiB on {place}" for place, size in elsewhere.items())
        raise OffloadedError(f"weights are offloaded: {places}; nothing measured so would be this device's speed")


def _tensor_bytes(model: Any) -> Iterator[tuple[str, int]]:
    """Device type and bytes of each weight and buffer, with the quantization scales that torch does not list."""
    for tensor in [*model.parameters(), *model.buffers()]:
        yield tensor.device.type, tensor.numel() * tensor.element_size()
        state = getattr(tensor, "quant_state", None)  # bitsandbytes' 4-bit weights
        scales = [
            getattr(tensor, "SCB", None),
            getattr(state, "absmax", None),
            getattr(getattr(state, "state2", None), "absmax", None),
        ]
        for scale in scales:
            if scale is not None:
                yield tensor.device.type, scale.numel() * scale.element_size()


def _untied_embedding_bytes(model: Any) -> int:
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return 0 if embedding is head else int(embedding.numel() * embedding.element_size())


def _explain(error: BaseException, experiment: Experiment) -> NotLoaded:
    spec = MODELS[experiment.model]
    if isinstance(error, DeviceMemoryError):
        return NotLoaded(experiment=experiment, outcome=Outcome.OUT_OF_MEMORY, detail=str(error))
    if is_out_of_memory(error):
        detail = f"out of memory while loading: {out_of_memory_figures(error)}"
        return NotLoaded(experiment=experiment, outcome=Outcome.OUT_OF_MEMORY, detail=detail)
    if is_device_lost(error):
        return NotLoaded(
            experiment=experiment, outcome=Outcome.INVALID, detail=f"the GPU was lost: {first_line(error)}"
        )
    if isinstance(error, UnavailableError):
        is_of_loader = isinstance(error, ContradictedLoaderError)
        return NotLoaded(
            experiment=experiment, outcome=Outcome.UNAVAILABLE, detail=str(error), is_of_loader=is_of_loader
        )
    if isinstance(error, SuiteError):
        return NotLoaded(experiment=experiment, outcome=Outcome.FAILED, detail=str(error))
    if "GatedRepoError" in _names_of_causes(error):
        detail = (
            f"{spec.repository} is gated: accept the licence at {spec.licence_url}, then run 'hf auth login'; "
            "without an account, use -m embedded or --model-path"
        )
        return NotLoaded(experiment=experiment, outcome=Outcome.UNAVAILABLE, detail=detail)
    if isinstance(error, OSError):
        detail = (
            f"{spec.repository} cannot be had ({first_line(error)}): connect to the hub, log in with 'hf auth login' "
            f"and accept the licence at {spec.licence_url}; without an account, use -m embedded or --model-path {spec.name}=FOLDER"
        )
        return NotLoaded(experiment=experiment, outcome=Outcome.UNAVAILABLE, detail=detail)
    return NotLoaded(
        experiment=experiment,
        outcome=Outcome.FAILED,
        detail=f"loading failed: {type(error).__name__}: {first_line(error)}",
    )


def _names_of_causes(error: BaseException | None) -> set[str]:
    names: set[str] = set()
    while error is not None:
        names.add(type(error).__name__)
        error = error.__cause__ or error.__context__
    return names


def quiet_libraries(*, show_progress: bool) -> None:
    """Keep the libraries' chatter out of the output; their progress bars stay where there is a terminal to draw on.

    To be called before bitsandbytes is imported, which logs a line a matrix product on CPUs, and before transformers is,
    which settles where inductor keeps what it compiled: beside the suite's own files, so that a second session starts warm.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from huggingface_hub.utils import disable_progress_bars
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    hub_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    if not show_progress:
        disable_progress_bars()
        transformers_logging.disable_progress_bar()
