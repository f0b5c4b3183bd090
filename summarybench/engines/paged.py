"""Paged continuous batching with the engine behind transformers' `generate_batch`.

The engine fills each step with whatever is ready, prompt tokens and single tokens of many documents side by side, and
keeps keys and values in pages. `generate_batch` swallows errors and allocates its cache within the call. This module
drives the engine directly, so that failures are reported and the cache is allocated outside the timed rounds.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from summarybench.core.outcomes import DeviceMemoryError, RequestsFailedError, is_device_lost, is_out_of_memory
from summarybench.documents.sources import Prompt
from summarybench.engines.loading import JsonScalar, LoadedModel
from summarybench.engines.memory_model import MemoryPrediction, predict_paged_memory
from summarybench.engines.varlen_attention import Attend, supports_varlen, torch_varlen_attn, use_varlen_attention
from summarybench.machine.device import GIB, Device

PAGE_TOKENS = 256
"""Tokens whose keys and values share a page: transformers' default, and the fewest that flash-attention 2 reads."""
UNUSED_PAGES = 2
"""That the engine keeps for what is padding."""
STEP_TOKENS = 2048
"""The most tokens of one step, of prompts and of summaries together: one prompt of the default length."""
SHARE_OF_FREE_MEMORY = 0.9
"""The rest is left to the allocator's gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the engine may use: a cache in which any `requests` of the documents fit whole, so that none is evicted."""

    requests: int
    pages: int
    predicted: MemoryPrediction


class Result(Protocol):
    """One request's end, as transformers' `GenerationOutput` tells it. Seconds are `time.perf_counter`'s."""

    request_id: str
    generated_tokens: list[int]
    error: str | None
    timestamps: list[float]
    lifespan: tuple[float, float]

    def is_finished(self) -> bool: ...


class Engine(Protocol):
    """Continuous batching with a model's weights, ready to be given prompts."""

    limits: Limits
    settings: Mapping[str, JsonScalar]

    @property
    def steps(self) -> int: ...

    def run(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Result]: ...

    def close(self) -> None: ...


StartEngine = Callable[[LoadedModel, Sequence[Prompt], int], Engine]


def limits_for(
    sequence_tokens: Sequence[int], predict: Callable[[int], MemoryPrediction], free_bytes: int, *, may_refuse: bool
) -> Limits:
    """The most requests at a time that fit: `predict` tells the need with so many pages, weights included.

    `free_bytes` are there for all but the weights. Raises DeviceMemoryError where not even the longest sequence fits,
    unless `may_refuse` is False: then that one is tried.
    """
    pages = sorted((ceil(tokens / PAGE_TOKENS) for tokens in sequence_tokens), reverse=True)
    for requests in range(len(pages), 0, -1):
        limits = Limits(requests=requests, pages=sum(pages[:requests]), predicted=predict(sum(pages[:requests])))
        needed_bytes = limits.predicted.total_bytes - limits.predicted.weights_bytes
        if needed_bytes <= SHARE_OF_FREE_MEMORY * free_bytes:
            return limits
    if may_refuse:
        raise DeviceMemoryError(
            f"out of memory (predicted): {limits.predicted} for one document at a time, and beside the weights "
            f"{free_bytes / GIB:.2f} GiB are free; --no-memory-prediction tries all the same"
        )
    return limits


def start_engine(
    loaded: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int, device: Device, *, may_refuse: bool
) -> Engine:
    """The engine with a cache for these prompts, as far as memory allows. Raises DeviceMemoryError as `limits_for`."""
    sequences = [len(prompt.token_ids) + max_new_tokens for prompt in prompts]
    attend = torch_varlen_attn() if supports_varlen(loaded.model, device) else None
    limits = limits_for(
        sequences,
        lambda pages: predict_paged_memory(
            loaded.chat.config,
            loaded.settings,
            weights_bytes=loaded.weights_bytes,
            cache_tokens=(pages + UNUSED_PAGES) * PAGE_TOKENS,
            step_tokens=STEP_TOKENS,
        ),
        min(device.free_memory_bytes(), device.memory_bytes - loaded.weights_bytes),
        may_refuse=may_refuse,
    )
    return PagedEngine(loaded.model, limits, longest_sequence=max(sequences), attend=attend)


class PagedEngine:
    """transformers' engine. Its thread runs from the making until `close`, which is to be called whatever happens.

    It attends through `attend`, a variable-length attention like torch's, or else through transformers' own choice.
    """

    def __init__(self, model: Any, limits: Limits, *, longest_sequence: int, attend: Attend | None = None) -> None:
        self.limits = limits
        self._model = model
        self._own_attention = model.config._attn_implementation
        # It prints what goes wrong, with tracebacks, on a handler of its own: here it is told in one line.
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
        if attend is not None:
            use_varlen_attention(model, attend)
        try:
            self._manager = model.init_continuous_batching(
                continuous_batching_config=_configuration(limits, longest_sequence)
            )
            self._manager.warmup()
            used = self._manager.continuous_batching_config
            self.settings: Mapping[str, JsonScalar] = {
                "batching": "continuous",
                # Some versions of transformers say paged|sdpa: the same attention, and so the same workload.
                "paged_attention": str(model.config._attn_implementation).removeprefix("paged|"),
                "page_tokens": PAGE_TOKENS,
                "step_tokens": STEP_TOKENS,
                "cuda_graphs": any(used.cuda_graph_booleans),
                "asynchronous": bool(used.use_async_batching),
            }
            self._manager.start()
        except BaseException:
            self._restore_attention()
            raise

    @property
    def steps(self) -> int:
        """How often the model has been called since the start."""
        return int(self._manager.current_batch)

    def run(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Result]:
        """Submit all prompts at once and wait for all: results in the prompts' order. Raises as `finished`."""
        return finished(self._manager, prompts, max_new_tokens)

    def close(self) -> None:
        """Stop the thread after its present step, and give the cache back."""
        try:
            self._manager.stop(block=True, hard_stop=True)
        finally:
            self._restore_attention()

    def _restore_attention(self) -> None:
        if self._model.config._attn_implementation != self._own_attention:
            self._model.set_attn_implementation(self._own_attention)


def _configuration(limits: Limits, longest_sequence: int) -> Any:
    from transformers import ContinuousBatchingConfig

    # Called block_size before transformers 5.18.
    name = "page_size" if hasattr(ContinuousBatchingConfig, "page_size") else "block_size"
    return ContinuousBatchingConfig(
        **{name: PAGE_TOKENS},
        num_blocks=limits.pages,
        max_batch_tokens=STEP_TOKENS,
        max_requests_per_batch=limits.requests,
        max_blocks_per_request=ceil(longest_sequence / PAGE_TOKENS) + 1,
        max_memory_percent=1.0,  # the limits are the bound: they know of --memory-limit, and of more than the cache
        safety_margin=0.0,  # all requests that are let in fit whole
        # Later rounds would find the prompts of the first in the cache, and not read them.
        allow_block_sharing=False,
    )


def finished(manager: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Result]:
    """What became of each prompt, in order, once all are finished.

    Raises RequestsFailedError where any request failed or is missing, saying how many and why; and what ended the
    engine's thread, where that was a lack of memory or a lost device.
    """
    request_ids = manager.add_requests(
        inputs=[list(prompt) for prompt in prompts], max_new_tokens=max_new_tokens, record_timestamps=True
    )
    results: dict[str, Result] = {}
    while len(results) < len(request_ids):
        was_running = manager.is_running()  # asked first: its last results may come just before its end
        result = manager.get_result(timeout=1)
        if result is not None and result.is_finished():
            results[result.request_id] = result
        elif result is None and not was_running:
            break
    errors = [result.error for result in results.values() if result.error is not None]
    if errors or len(results) < len(request_ids):
        _raise_failure(manager, errors, submitted=len(request_ids), missing=len(request_ids) - len(results))
    return [results[request_id] for request_id in request_ids]


def _raise_failure(manager: Any, errors: Sequence[str], *, submitted: int, missing: int) -> None:
    fatal = manager.background_thread_status.fatal_error
    manager.stop(block=True, hard_stop=True)
    if fatal is not None:
        traceback.clear_frames(fatal.__traceback__)  # its frames hold the cache
    reason = fatal or RuntimeError(errors[0] if errors else "the engine gives no reason")
    if is_out_of_memory(reason) or is_device_lost(reason):
        raise reason
    text = " ".join(str(reason).split()) or type(reason).__name__
    raise RequestsFailedError(
        f"of {submitted} requests submitted at once {len(errors)} failed and {missing} never came back: {text}"
    )
