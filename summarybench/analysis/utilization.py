"""Model bandwidth utilization: the bytes that decoding reads per second ÷ the copy bandwidth.

A decode step reads the weights once, and the KV cache of every sequence in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from summarybench.catalogue.kv_cache import BYTES_PER_ELEMENT, cache_bytes_per_token
from summarybench.catalogue.models import MODELS
from summarybench.runs.run_file import Entry, rounds_of


def cache_tokens_read(prompt_tokens: Sequence[int], generated_tokens: Sequence[int]) -> int:
    """The cached tokens that all decode steps of one batch read together.

    The batch is decoded until its longest summary ends. A step reads each sequence from its beginning, and the cache has
    room for the longest prompt in each.
    """
    steps = max(generated_tokens) - 1
    return len(prompt_tokens) * (steps * max(prompt_tokens) + steps * (steps + 1) // 2)


def utilization_of(entry: Entry) -> float | None:
    """The model bandwidth utilization of a stored experiment.

    Runs that do not state the size of their KV cache counted only the weights: the cache's part is added if the catalogue
    knows the model. None if it does not, or if nothing was measured.
    """
    info = entry.extra_info
    stated, copy_bandwidth = info["model_bandwidth_utilization"], info["copy_bandwidth_bytes_per_second"]
    if stated is None or info["cache_bytes_per_token"] is not None:
        return stated
    dtype = str(info["workload_settings"]["loader_settings"].get("dtype"))
    if copy_bandwidth is None or info["model"] not in MODELS or dtype not in BYTES_PER_ELEMENT:
        return None
    cache_bytes = cache_bytes_per_token(MODELS[info["model"]].shape, dtype) * _cache_tokens_per_second(entry)
    return stated + cache_bytes / copy_bandwidth


def _cache_tokens_per_second(entry: Entry) -> float:
    """By the seconds of decoding; by all seconds where prompts and summaries share the steps."""
    info = entry.extra_info
    prompts = dict(zip(info["document_ids"], info["prompt_tokens"], strict=True))
    generated = dict(zip(info["document_ids"], info["generated_tokens"], strict=True))
    if entry.is_at_once:
        a_round = sum(cache_tokens_read([prompts[each]], [generated[each]]) for each in prompts)
        return a_round * len(entry.seconds) / fsum(entry.seconds)
    tokens = sum(
        cache_tokens_read([prompts[each] for each in ids], [generated[each] for each in ids]) for ids in rounds_of(info)
    )
    return tokens / (fsum(entry.seconds) - fsum(entry.first_token_seconds.values()))
