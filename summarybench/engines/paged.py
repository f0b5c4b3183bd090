"""Paged continuous batching with the engine behind transformers' `generate_batch`.

Each step of the engine processes whatever is ready, prompt tokens and single tokens of many documents side by side. Keys
and values are kept in pages. `generate_batch` hides errors and allocates its cache within the call. This module drives the
engine directly, so that failures are reported and the cache is allocated outside the timed rounds.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

from summarybench.core.device_errors import is_device_lost, is_out_of_memory
from summarybench.core.numbers import gib
from summarybench.core.outcomes import DeviceMemoryError, RequestsFailedError
from summarybench.documents.prompts import Prompt
from summarybench.engines.engine import ConcurrentEngine, JsonScalar, Limits, RequestResult
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.memory_model import MemoryPrediction, predict_paged_memory
from summarybench.engines.varlen_attention import Attend, supports_varlen, torch_varlen_attn, use_varlen_attention
from summarybench.machine.device import Device

PAGE_TOKENS = 256
"""Tokens per page of the KV cache: transformers' default, and the smallest page that flash-attention 2 reads."""
UNUSED_PAGES = 2
"""Pages that the engine reserves for padding."""
STEP_TOKENS = 2048
"""The most tokens of one step, prompts and summaries together: one prompt of the default length."""
SHARE_OF_FREE_MEMORY = 0.9
"""The rest is left for fragmentation in the allocator."""


def limits_for(
    sequence_tokens: Sequence[int],
    predict: Callable[[int], MemoryPrediction],
    free_bytes: int,
    *,
    may_refuse: bool,
    page_tokens: int = PAGE_TOKENS,
    step_tokens: int = STEP_TOKENS,
) -> Limits:
    """The largest number of concurrent requests that fits.

    No request is ever evicted.

    `predict` returns the memory needed with a number of pages, weights included. `free_bytes` is the memory available for
    everything but the weights. Raises DeviceMemoryError if not even the longest sequence fits; with `may_refuse` False it
    returns the limits for that sequence instead.
    """
    pages = sorted((ceil(tokens / page_tokens) for tokens in sequence_tokens), reverse=True)
    for requests in range(len(pages), 0, -1):
        needed = sum(pages[:requests])
        limits = Limits(
            requests=requests,
            pages=needed,
            page_tokens=page_tokens,
            step_tokens=step_tokens,
            predicted=predict(needed),
        )
        needed_bytes = limits.predicted.total_bytes - limits.predicted.weights_bytes
        if needed_bytes <= SHARE_OF_FREE_MEMORY * free_bytes:
            return limits
    if may_refuse:
        raise DeviceMemoryError(
            f"out of memory (predicted): {limits.predicted} for one document at a time, and beside the weights "
            f"{gib(free_bytes)} GiB are free; --no-memory-prediction tries all the same"
        )
    return limits


def start_engine(
    loaded: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int, device: Device, *, may_refuse: bool
) -> ConcurrentEngine:
    """Start the engine with a cache for as many of these prompts as fit.

    Raises DeviceMemoryError as `limits_for`.
    """
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
    """transformers' continuous batching.

    Its thread runs until `close`, which must always be called.

    Attention is `attend`, a variable-length attention like torch's; for None, transformers chooses.
    """

    def __init__(self, model: Any, limits: Limits, *, longest_sequence: int, attend: Attend | None = None) -> None:
        self.limits = limits
        self._model = model
        self._own_attention = model.config._attn_implementation
        # The engine logs tracebacks on a handler of its own; this module reports failures in one line.
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
                # Some versions of transformers write paged|sdpa for the same attention: the workload must not differ.
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
        """The number of forward passes since the start."""
        return int(self._manager.current_batch)

    def run(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[RequestResult]:
        """Submit all prompts at once, and return results in the same order.

        Raises as `finished`.
        """
        return finished(self._manager, prompts, max_new_tokens)

    def close(self) -> None:
        """Stop the thread after its current step, and release the cache."""
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
        max_memory_percent=1.0,  # `limits` already respects --memory-limit, and counts more than the cache
        safety_margin=0.0,  # every admitted request fits whole
        # With sharing, later rounds would find the first round's prompts in the cache and skip their prefill.
        allow_block_sharing=False,
    )


def finished(manager: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[RequestResult]:
    """Submit prompts to transformers' manager, and return all results.

    They are in the order of the prompts.

    Raises RequestsFailedError if any request failed or is missing, with how many and why. Raises the error that ended the
    engine's thread if memory ran out or the device was lost.
    """
    request_ids = manager.add_requests(
        inputs=[list(prompt) for prompt in prompts], max_new_tokens=max_new_tokens, record_timestamps=True
    )
    results: dict[str, RequestResult] = {}
    while len(results) < len(request_ids):
        was_running = manager.is_running()  # before get_result, since the last results can arrive just before the end
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
