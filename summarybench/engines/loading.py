"""Loading a model: memory prediction, weights, quantization, checks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from summarybench.catalogue.kv_cache import cache_bytes_per_token
from summarybench.catalogue.models import AS_STORED, LOADERS, Experiment
from summarybench.core.cache import cache_folder
from summarybench.core.home import provide_home
from summarybench.core.numbers import gib
from summarybench.core.outcomes import DeviceMemoryError, Outcome
from summarybench.engines.chat import Chat, open_chat
from summarybench.engines.checkpoint_files import weights_bytes
from summarybench.engines.compiled import CompiledDecoders
from summarybench.engines.loaded_model import LoadedModel, decode_greedily, end_tokens_of
from summarybench.engines.memory_model import predict_memory
from summarybench.engines.not_loaded import NotLoaded, explain
from summarybench.engines.placement import check_nothing_offloaded, tensor_bytes, untied_embedding_bytes
from summarybench.engines.precision import (
    BITSANDBYTES,
    UNPACKED,
    check_loaded_precision,
    check_stored_precision,
    is_unpacked,
    settings_as_stored,
)
from summarybench.engines.pretrained import explaining, has_fused_attention
from summarybench.engines.quantization import load_quantized
from summarybench.engines.quantization_packages import check_quantization_can_be_loaded
from summarybench.engines.shapes import text_config_of
from summarybench.engines.static_attention import attend_to_static_cache
from summarybench.engines.static_cache import cache_tokens_for
from summarybench.engines.weights import Weights
from summarybench.engines.workspace import EAGER_ATTENTION
from summarybench.machine.clock import Clock
from summarybench.machine.cpu import wait_policy
from summarybench.machine.device import Device


def load(
    experiment: Experiment,
    find: Callable[[], Weights],
    device: Device,
    clock: Clock,
    *,
    longest_sequence: Callable[[Chat], int],
    predict: bool,
) -> LoadedModel | NotLoaded:
    """Load the experiment's model onto the device, or explain why that failed.

    Never raises for a user's problem.

    `longest_sequence` returns the tokens of the longest prompt with its summary. With `predict`, loading is not attempted
    if the memory is predicted not to suffice for it.
    """
    has_begun_loading = False
    try:
        weights = find()
        chat = open_chat(weights)
        longest = longest_sequence(chat)
        has_begun_loading = True
        return _load(experiment, weights, chat, longest, device, clock, predict=predict)
    except Exception as error:
        failure = explain(error, experiment, is_of_loader=has_begun_loading)
    # Outside the handler, since the exception's frames hold the half-loaded model until the handler ends.
    if failure.outcome is not Outcome.INVALID:  # a lost GPU fails on every call
        device.release_memory()
    return failure


def _load(
    experiment: Experiment,
    weights: Weights,
    chat: Chat,
    longest: int,
    device: Device,
    clock: Clock,
    *,
    predict: bool,
) -> LoadedModel:
    import torch

    settings = LOADERS[experiment.loader].settings(device, torch.get_num_threads(), wait_policy())
    if not has_fused_attention(chat.config):
        settings = {**settings, "attention": EAGER_ATTENTION}
    is_as_stored = settings.get("quantization") == AS_STORED
    if is_as_stored:
        settings = settings_as_stored(weights.location, chat.config, settings)
    check_stored_precision(weights.location, chat.config, experiment.loader, settings, device)
    check_quantization_can_be_loaded(weights.location, chat.config, device)
    is_compiled = LOADERS[experiment.loader].is_compiled
    tokens = cache_tokens_for(longest) if is_compiled else longest
    stored_bytes = weights_bytes(Path(weights.location)) if is_as_stored else None
    prediction = predict_memory(chat.config, settings, tokens, experiment.batch_size, stored_bytes)
    free_bytes = device.free_memory_bytes()
    if predict and prediction.total_bytes > free_bytes:
        raise DeviceMemoryError(
            f"out of memory (predicted): {prediction}, and {gib(free_bytes)} GiB are free; "
            "--no-memory-prediction tries all the same"
        )
    torch.backends.cuda.enable_cudnn_sdp(False)  # see CudaDevice.eager_attention
    device.reset_peak_memory()
    start = clock()
    model = load_quantized(weights, settings, chat.config, device).eval()
    load_seconds = clock() - start
    if is_as_stored and settings["quantization"] not in BITSANDBYTES:
        with explaining(weights.location):  # a library may load its kernels in the first forward pass
            settings = {**settings, UNPACKED: _is_unpacked(model)}
    check_nothing_offloaded(model, device)
    check_loaded_precision(model, experiment.loader, settings)
    loaded_bytes = sum(size for _, size in tensor_bytes(model))
    if settings.get(UNPACKED):  # which the size of the files did not tell
        prediction = predict_memory(chat.config, settings, tokens, experiment.batch_size, loaded_bytes)
    decode_greedily(model, chat)
    decoders = _compiled_decoders(model, longest, device, clock) if is_compiled else None
    return LoadedModel(
        experiment=experiment,
        weights=weights,
        chat=chat,
        settings=settings,
        load_seconds=load_seconds,
        load_peak_memory_bytes=device.peak_memory_bytes(),
        weights_bytes=loaded_bytes,
        weights_read_bytes=loaded_bytes - untied_embedding_bytes(model),
        cache_bytes_per_token=cache_bytes_per_token(text_config_of(chat.config), str(settings["dtype"])),
        predicted_memory_bytes=prediction.total_bytes,
        model=model,
        decoders=decoders,
    )


def _is_unpacked(model: Any) -> bool:
    """Whether a checkpoint's own quantization is gone after a forward pass of one token."""
    import torch

    with torch.inference_mode():
        model(torch.zeros((1, 1), dtype=torch.long, device=model.device))
    return is_unpacked(model)


def _compiled_decoders(model: Any, longest_sequence: int, device: Device, clock: Clock) -> CompiledDecoders:
    attend_to_static_cache(model)
    return CompiledDecoders(
        model,
        tokens=cache_tokens_for(longest_sequence),
        end_tokens=[token for token in end_tokens_of(model) if token is not None],
        pad_token=model.generation_config.pad_token_id,
        clock=clock,
        uses_inductor=device.compiles_decoding,
    )


def quiet_libraries(*, show_progress: bool) -> None:
    """Silence the libraries' log messages.

    Progress bars remain only with `show_progress`.

    Call it before bitsandbytes is imported, which on CPUs logs a line per matrix product, and before transformers is
    imported, which fixes inductor's cache folder. The suite keeps that folder beside its own files, so that later
    sessions reuse compiled code.
    """
    provide_home()
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
