"""Attention for continuous batching: torch's variable-length kernel.

Without the flash-attn package transformers computes `scaled_dot_product_attention` over the cached tokens of all documents
with one mask, whose cost grows with the square of the number of documents. torch.nn.attention.varlen computes each
document's attention separately, without a mask, and lets transformers capture its steps as CUDA graphs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from summarybench.machine.device import Device

VARLEN = "torch_flash_varlen"
"""Its name in transformers. For a name with "flash" in it transformers makes no mask. It expects the block tables of the
flash-attn package only if a version number follows."""
LEAST_COMPUTE_CAPABILITY = (8, 0)
"""The minimum for torch's FlashAttention (Ampere)."""
HALF_PRECISIONS = ("float16", "bfloat16")

Attend = Callable[..., Any]


def supports_varlen(model: Any, device: Device) -> bool:
    """Whether torch's variable-length attention supports model and device.

    False if the flash-attn package is installed, which transformers then uses.
    """
    from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

    capability = device.compute_capability()
    return (
        capability is not None
        and capability >= LEAST_COMPUTE_CAPABILITY
        and str(model.dtype).removeprefix("torch.") in HALF_PRECISIONS
        and bool(getattr(model, "_supports_flash_attn", False))
        and not (is_flash_attn_2_available() or is_flash_attn_3_available())
        and torch_varlen_attn() is not None
    )


def torch_varlen_attn() -> Attend | None:
    """`torch.nn.attention.varlen.varlen_attn`.

    None before torch 2.11, where it has no causal window.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    parameters = inspect.signature(varlen_attn).parameters
    return varlen_attn if "window_size" in parameters else None


def use_varlen_attention(model: Any, attend: Attend) -> None:
    """Make the model's layers call `attend`.

    It has the parameters of `varlen_attn`.

    `model.set_attn_implementation` undoes this, but cannot do it: for a name with "flash" in it, that method imports a
    package or downloads a kernel.
    """
    from transformers import AttentionInterface

    # Before transformers 5.18 continuous batching looks up a name with this prefix; later versions do not.
    prefix = "paged|" if "paged|sdpa" in AttentionInterface().valid_keys() else ""
    AttentionInterface.register(prefix + VARLEN, varlen_attention(attend))
    model.config._attn_implementation = prefix + VARLEN


def varlen_attention(attend: Attend) -> Callable[..., tuple[Any, None]]:
    """An attention function for transformers' continuous batching.

    It writes the step's keys and values to the paged cache, and calls `attend` with those of each document.
    """
    grouped_heads = options_for_grouped_heads(attend)

    def forward(
        module: Any,
        query: Any,  # [1, heads, query tokens, head width]
        key: Any,  # [1, key-value heads, query tokens, head width]
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **kwargs: Any,
    ) -> tuple[Any, None]:
        del attention_mask  # transformers makes none
        longest_query = kwargs.get("max_length_q") or kwargs["max_seqlen_q"]  # max_seqlen_q before transformers 5.19
        keys, values, key_lengths, longest_key = _written_and_read(module, key, value, kwargs)
        output = attend(
            query[0].transpose(0, 1).contiguous(),
            keys,
            values,
            kwargs["cu_seq_lens_q"],
            key_lengths,
            longest_query,
            longest_key,
            scale=scaling,
            window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
            **grouped_heads,
        )
        return output.unsqueeze(0), None  # [1, query tokens, heads, head width]

    return forward


def options_for_grouped_heads(attend: Attend) -> dict[str, bool]:
    """What `attend` must be told before it accepts fewer key heads than query heads; older versions accept them as is."""
    return {"enable_gqa": True} if "enable_gqa" in inspect.signature(attend).parameters else {}


def _written_and_read(module: Any, key: Any, value: Any, kwargs: dict[str, Any]) -> tuple[Any, Any, Any, int]:
    """Write this step's keys and values to the cache, and read the cache.

    Returns keys and values, [key tokens, key-value heads, head width] each, one document after the other; the cumulative
    lengths of the documents, [documents + 1]; and the longest length.
    """
    cache, layer = kwargs["cache"], module.layer_idx
    if "kwargs" in inspect.signature(cache.update).parameters:
        keys, values = cache.update(
            key, value, layer, kwargs
        )  # this replaces the lengths in kwargs by those of this layer
        keys, values = (each[0].transpose(0, 1) for each in (keys, values))
        lengths, longest = kwargs["cu_seq_lens_k"], kwargs["max_length_k"]
    else:  # before transformers 5.19
        keys, values = cache.update(key, value, layer, kwargs["read_index"], kwargs["write_index"])
        lengths, longest = kwargs["cu_seq_lens_k"], kwargs["max_seqlen_k"]
        if isinstance(lengths, dict):
            layer_type = "sliding_attention" if getattr(module, "sliding_window", None) else "full_attention"
            lengths, longest = lengths[layer_type], longest[layer_type]
    return keys.contiguous(), values.contiguous(), lengths, longest
