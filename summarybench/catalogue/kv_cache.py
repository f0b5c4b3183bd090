"""The size of a model's KV cache, from its configuration."""

from __future__ import annotations

from typing import Any

BYTES_PER_ELEMENT = {"float32": 4, "float16": 2, "bfloat16": 2}


def cache_bytes_per_token(config: Any, dtype: str) -> int:
    """The bytes of one token's keys and values in all layers; 0 for a model without attention, such as Mamba.

    `config` is a `ModelShape` or a transformers configuration.
    """
    if not has_attention(config):
        return 0
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * int(config.num_hidden_layers) * key_value_heads(config) * int(head_width) * BYTES_PER_ELEMENT[dtype]


def key_value_heads(config: Any) -> int:
    """Heads that hold keys and values; fewer than the attention heads where several of these share one."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def has_attention(config: Any) -> bool:
    """Whether the configuration states a number of attention heads."""
    return bool(getattr(config, "num_attention_heads", None))
