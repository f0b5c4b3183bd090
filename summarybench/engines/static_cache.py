"""A KV cache of fixed size whose tensors never move.

A CUDA graph can therefore be replayed over it.
"""

from __future__ import annotations

from typing import Any

CACHE_MULTIPLE = 64
"""Cache lengths are multiples of this many tokens, so that samples of similar length share compiled code."""


def cache_tokens_for(longest_sequence: int) -> int:
    """The cache length, in tokens, for the longest sequence of a sample."""
    return -(-longest_sequence // CACHE_MULTIPLE) * CACHE_MULTIPLE


class LayerKVCache:
    """The keys and values of one layer: [batch, heads, tokens, head width] each.

    transformers calls it as it would call its own cache. No layer index is involved, so that code compiled for one layer
    serves all layers. A prompt is written from the first slot on, a single token at `slot`.
    """

    def __init__(self, shape: tuple[int, int, int, int], slot: Any, dtype: Any) -> None:
        import torch

        self._slot = slot
        self._keys, self._values = (torch.zeros(shape, dtype=dtype, device=slot.device) for _ in range(2))

    @property
    def tensors(self) -> tuple[Any, Any]:
        """The keys and the values, for a step that writes them itself."""
        return self._keys, self._values

    def update(self, keys: Any, values: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Store keys and values, and return those that the new tokens attend to."""
        tokens = keys.shape[2]
        if tokens > 1:
            self._keys[:, :, :tokens] = keys
            self._values[:, :, :tokens] = values
            return keys, values
        self._keys.index_copy_(2, self._slot, keys)
        self._values.index_copy_(2, self._slot, values)
        return self._keys, self._values


class StaticKVCache:
    """The KV cache of all layers.

    It holds `batch_size` sequences of at most `tokens` tokens.

    `slot` [1] is the place of the next token. transformers accepts this object as a cache too.
    """

    def __init__(self, config: Any, batch_size: int, tokens: int, *, dtype: Any, device: Any) -> None:
        import torch

        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.slot = torch.zeros(1, dtype=torch.long, device=device)
        self.layers = [
            LayerKVCache((batch_size, heads, tokens, width), self.slot, dtype) for _ in range(config.num_hidden_layers)
        ]

    def update(self, keys: Any, values: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        return self.layers[layer].update(keys, values)
