"""The temporary memory of a prompt's prefill, from a model's configuration.

tests/engines/test_workspace.py compares it with the tensors that live at one time in models of each family, and
tests/engines/test_memory_model.py with peaks of a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from summarybench.catalogue.kv_cache import BYTES_PER_ELEMENT, cache_bytes_per_token, has_attention, key_value_heads
from summarybench.catalogue.models import ModelShape

LIBRARY_BYTES = 64 * 1024**2
"""Memory that matrix libraries reserve: 32 MiB of cuBLAS workspace on Hopper, and small buffers."""


EAGER_ATTENTION = "eager"
"""transformers' attention of separate operators, for models that it has no fused attention for."""


@dataclass(frozen=True, slots=True)
class FeedForward:
    """What a feed-forward network holds at its peak, in tensors of the inner width, and the width of its widest layer."""

    tensors: int
    widest: int = 1


GATED = FeedForward(3)
"""Gate, up projection and their product."""
FEED_FORWARDS: Mapping[str, FeedForward] = {
    "phi3": FeedForward(
        4, widest=2
    ),  # one layer computes gate and up projection, and both stay while they are multiplied
    **dict.fromkeys(
        ("phi", "gpt2", "gpt_neo", "gptj", "codegen", "bloom"), FeedForward(4)
    ),  # a GELU of several operators
    **dict.fromkeys(
        ("starcoder2", "gpt_neox", "falcon", "mpt", "opt"), FeedForward(2)
    ),  # no gate, and a fused activation
}
"""By architecture. All others are gated."""
WIDTHS = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
"""The names that configurations have for the inner width of a feed-forward network."""


def feed_forward_width(config: Any) -> int:
    """The inner width of a feed-forward network, the largest of all layers.

    It is four times the hidden width where the configuration states none, as for GPT-2.
    """
    for stated in (getattr(config, name, None) for name in WIDTHS):
        if stated:
            return int(max(stated) if isinstance(stated, Sequence) else stated)
    return 4 * int(config.hidden_size)


def workspace_bytes(config: Any, settings: Mapping[str, Any], sequence_tokens: int, batch_size: int) -> int:
    """The largest temporary memory of prefill, in bytes, beside weights and KV cache.

    `config` is a `ModelShape` or transformers' configuration of a language model; `settings` are those of a loader. The
    peak is in one layer's feed-forward network, in its attention, or where a mask is made before the first layer.
    """
    element_bytes = BYTES_PER_ELEMENT[str(settings["dtype"])]
    mask = _mask_bytes(config, sequence_tokens, batch_size)
    layer = max(
        _feed_forward_bytes(config, settings, sequence_tokens * batch_size, element_bytes),
        _attention_bytes(config, settings, sequence_tokens, batch_size),
    )
    cache = cache_bytes_per_token(config, str(settings["dtype"])) * sequence_tokens * batch_size
    return (
        max(layer + mask, _mask_making(config) * mask - cache) + LIBRARY_BYTES
    )  # there is no cache yet when masks are made


def _feed_forward_bytes(config: Any, settings: Mapping[str, Any], tokens: int, element_bytes: int) -> int:
    """Tensors of the inner width, and four of the hidden width.

    LLM.int8() adds its int32 output. It also adds the layer unpacked to float32 and to 16 bits, because over a whole prompt
    nearly every column has an outlier in some token. The other quantizations hold the layer that they unpack in place of the
    last tensor, which exists only after the layer's product.
    """
    hidden, inner = int(config.hidden_size), feed_forward_width(config)
    kind = FEED_FORWARDS.get(_architecture(config), GATED)
    layer = kind.widest * hidden * inner
    last = tokens * inner * element_bytes
    rest = tokens * ((kind.tensors - 1) * inner + 4 * hidden) * element_bytes
    if settings.get("quantization") == "llm.int8":
        return rest + last + 6 * layer + 4 * kind.widest * inner * tokens
    unpacked = element_bytes * layer if settings.get("quantization") else 0
    return rest + max(last, unpacked)


def _attention_bytes(config: Any, settings: Mapping[str, Any], sequence_tokens: int, batch_size: int) -> int:
    """Two tensors of the hidden width, five of the queries' width and one of the keys': rotating, or norms in float32.

    Scores and their softmax are stored, with six tensors of the hidden width, in two cases: in float32 with grouped heads,
    which torch's fused kernels do not support, and in a model that transformers has no fused attention for, where the
    softmax is in float32.
    """
    if not has_attention(config):
        return 0
    element_bytes = BYTES_PER_ELEMENT[str(settings["dtype"])]
    hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
    head_width = int(getattr(config, "head_dim", None) or hidden // heads)
    widths = 2 * hidden + (5 * heads + key_value_heads(config)) * head_width
    score_bytes = 2 * element_bytes if element_bytes == 4 and key_value_heads(config) < heads else 0
    if settings.get("attention") == EAGER_ATTENTION:
        score_bytes = 8 + element_bytes
    scores = heads * sequence_tokens**2 * batch_size * score_bytes
    tokens = sequence_tokens * batch_size
    return max(widths * tokens * element_bytes, scores + 6 * hidden * tokens * element_bytes if scores else 0)


def _mask_bytes(config: Any, sequence_tokens: int, batch_size: int) -> int:
    """The boolean mask of a sliding window, [batch, 1, tokens, tokens]; 0 where all of a prompt lies within the window."""
    window = _stated(config, "sliding_window")
    if window is None or _stated(config, "use_sliding_window") is False or int(window) >= sequence_tokens:
        return 0
    return int(sequence_tokens**2 * batch_size)


def _mask_making(config: Any) -> int:
    """How many tensors of the mask's size transformers 5 holds while it makes it: more with two kinds of layers."""
    kinds = set(_stated(config, "layer_types") or ())
    has_two_kinds = len(kinds) > 1 or _architecture(config).startswith(("gemma2", "gemma3"))
    return 8 if has_two_kinds else 6


def _architecture(config: Any) -> str:
    return str(getattr(config, "model_type", None) or getattr(config, "architecture", ""))


def _stated(config: Any, key: str) -> Any:
    """A value of the configuration; None where it states none."""
    if not isinstance(config, ModelShape):
        return getattr(config, key, None)
    text = config.config.get("text_config")
    return (text if isinstance(text, Mapping) else config.config).get(key)
