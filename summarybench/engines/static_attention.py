"""Attention over the static KV cache, registered with transformers.

Models need it if their decoding is compiled.
"""

from __future__ import annotations

from typing import Any

ATTENTION = "static keys"
"""The name of `attend` in transformers. Run files contain it, so it never changes."""


def attend(
    _module: Any, query: Any, keys: Any, values: Any, mask: Any, *, scaling: float, **_: Any
) -> tuple[Any, None]:
    """Attention for transformers over the static KV cache.

    A prompt uses fused kernels, a single token plain operations.

    `query` is [batch, heads, tokens, width]. `mask` is boolean [batch, 1, tokens, keys], or None without padding.
    Returns [batch, tokens, heads, width].
    """
    import torch

    batch, heads, tokens, width = query.shape
    groups = heads // keys.shape[1]
    if tokens > 1:
        if groups > 1:
            keys, values = (each.repeat_interleave(groups, dim=1) for each in (keys, values))
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=mask is None, scale=scaling
        )
        return mixed.transpose(1, 2).contiguous(), None
    if not torch.compiler.is_compiling():  # without a compiler the products below would be stored, several GB of them
        grouped = query.view(batch, keys.shape[1], groups, width)
        mixed = torch.nn.functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=scaling)
        return mixed.view(batch, 1, heads, width), None
    # For one query the fused kernels start one block per head, which leaves most of a large GPU idle. Here the heads
    # that share keys become rows of one product.
    grouped = query.view(batch, keys.shape[1], groups, width)
    # Scores are float32 as in the fused kernels. The compiler fuses this into one reduction without storing products.
    scores = (grouped[:, :, :, None].float() * keys[:, :, None].float()).sum(
        -1
    ) * scaling  # [batch, key heads, groups, keys]
    shares = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1).to(values.dtype)
    return (shares @ values).view(batch, 1, heads, width), None


def attend_to_static_cache(model: Any) -> None:
    """Switch a model to the attention that its compiled decoders need."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)
    model.set_attn_implementation(ATTENTION)
