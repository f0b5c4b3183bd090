"""Predicting the memory of an experiment from its model's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

from summarybench.catalogue.kv_cache import BYTES_PER_ELEMENT, cache_bytes_per_token, key_value_heads
from summarybench.core.numbers import gib, percent
from summarybench.core.outcomes import PredictionError
from summarybench.engines.shapes import parameter_shapes, text_config_of
from summarybench.engines.workspace import workspace_bytes

NF4_BLOCK = 64
"""Weights per float32 scale in bitsandbytes' NF4."""
INT4_GROUP = 64
"""Weights per scale and zero point in int4."""
TOLERATED_ERROR = 0.05
"""The tolerated difference between prediction and measured peak, as a share of the peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPrediction:
    """Bytes at the peak of generation: weights, KV cache, workspace.

    The workspace holds the temporary tensors of the longest prompt's prefill.
    """

    weights_bytes: int
    cache_bytes: int
    workspace_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.beside_weights_bytes

    @property
    def beside_weights_bytes(self) -> int:
        """The bytes that generation needs once the model is loaded."""
        return self.cache_bytes + self.workspace_bytes

    def __str__(self) -> str:
        return (
            f"{gib(self.total_bytes)} GiB needed ({gib(self.weights_bytes)} weights, "
            f"{gib(self.cache_bytes)} cache, {gib(self.workspace_bytes)} workspace)"
        )


def predict_memory(
    config: Any, settings: Mapping[str, Any], sequence_tokens: int, batch_size: int, weights_bytes: int | None = None
) -> MemoryPrediction:
    """Predict the memory of a model for its longest sequence.

    `settings` are those of its loader.

    `config` is a transformers configuration or a `ModelShape`. `weights_bytes` is predicted if it is None.
    """
    return MemoryPrediction(
        weights_bytes=predict_weights(config, settings) if weights_bytes is None else weights_bytes,
        cache_bytes=cache_bytes_per_token(text_config_of(config), str(settings["dtype"]))
        * sequence_tokens
        * batch_size,
        workspace_bytes=workspace_bytes(text_config_of(config), settings, sequence_tokens, batch_size),
    )


def predict_paged_memory(
    config: Any, settings: Mapping[str, Any], *, weights_bytes: int, cache_tokens: int, step_tokens: int
) -> MemoryPrediction:
    """An upper bound of the memory of continuous batching without flash-attention.

    Apart from the temporary tensors of prefill, a step may read back the whole cache's keys and values for one layer, and
    expand them to all heads, with a mask of step × (cache + step) tokens. It also computes float32 logits of all its tokens
    (transformers, generation/continuous_batching/cache.py).
    """
    element_bytes = BYTES_PER_ELEMENT[str(settings["dtype"])]
    tokens = cache_tokens + step_tokens
    token_bytes = cache_bytes_per_token(text_config_of(config), str(settings["dtype"]))
    heads, shared_heads = int(config.num_attention_heads), key_value_heads(config)
    read_back = token_bytes // int(config.num_hidden_layers) * (1 + heads / shared_heads)
    mask_and_logits = step_tokens * (tokens * element_bytes + 4 * int(config.vocab_size))
    return MemoryPrediction(
        weights_bytes=weights_bytes,
        cache_bytes=token_bytes * cache_tokens,
        workspace_bytes=workspace_bytes(text_config_of(config), settings, step_tokens, 1)
        + int(read_back * tokens)
        + mask_and_logits,
    )


def predict_compiled_paged_memory(
    config: Any, settings: Mapping[str, Any], *, weights_bytes: int, cache_tokens: int, step_tokens: int
) -> MemoryPrediction:
    """The memory of compiled continuous batching, whose largest temporary tensors are those of a step of prefill."""
    return MemoryPrediction(
        weights_bytes=weights_bytes,
        cache_bytes=cache_bytes_per_token(text_config_of(config), str(settings["dtype"])) * cache_tokens,
        workspace_bytes=workspace_bytes(text_config_of(config), settings, step_tokens, 1),
    )


def assert_prediction_holds(predicted_bytes: int, measured_bytes: int) -> None:
    """Raise PredictionError if prediction and peak differ by more than 5%."""
    error = predicted_bytes / measured_bytes - 1
    if abs(error) > TOLERATED_ERROR:
        raise PredictionError(
            f"predicted {gib(predicted_bytes)} GiB, measured {gib(measured_bytes)} GiB at the peak: {percent(error, 1, signed=True)}, "
            f"and at most {percent(TOLERATED_ERROR)} is allowed; correct summarybench/engines/memory_model.py"
        )


def predict_weights(config: Any, settings: Mapping[str, Any]) -> int:
    """Predict the bytes of all parameters.

    Scales count; embeddings, output head and norms are not quantized.
    """
    quantization = settings.get("quantization")
    element_bytes = BYTES_PER_ELEMENT[str(settings["dtype"])]
    sizes = {
        "llm.int8": _int8_bytes,
        "int8 weights": _int8_bytes,
        "fp8 e4m3 weights": _int8_bytes,
        "nf4": _nf4_bytes,
        "int4 group 64": _int4_bytes,
    }
    size_of = sizes.get(str(quantization))  # None for a checkpoint's own quantization, whose files state its size
    return sum(
        size_of(shape) if size_of and is_quantized else prod(shape) * element_bytes
        for shape, is_quantized in parameter_shapes(config)
    )


def _int8_bytes(shape: tuple[int, ...]) -> int:
    """One byte per element and a float32 scale per row."""
    return prod(shape) + 4 * shape[0]


def _nf4_bytes(shape: tuple[int, ...]) -> int:
    """Half a byte per element and a float32 scale per block."""
    return ceil(prod(shape) / 2) + 4 * ceil(prod(shape) / NF4_BLOCK)


def _int4_bytes(shape: tuple[int, ...]) -> int:
    """Half a byte per element, and a float16 scale and zero point per group.

    The last group of a row is padded.
    """
    return shape[0] * ceil(shape[1] / INT4_GROUP) * (INT4_GROUP // 2 + 4)
