"""A Llama, Mistral or Qwen over a paged KV cache: packed prefill of whole prompts, and one decoding step for many sequences.

A layer is two pieces that torch.compile fuses, before and after its attention, and the attention itself. Prefill and
decoding run the same pieces; only their attention differs. Query, key and value projections are merged into one matrix,
and so are gate and up projections; the original layers keep views of it.

This module imports torch and bitsandbytes, so import it only when a model is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from summarybench.engines.graph_decoder import uncompiled
from summarybench.engines.page_operators import ATTENTION, attend_pages
from summarybench.engines.row_operators import source_digests
from summarybench.engines.row_step import (
    LAYERS,
    LinearProduct,
    ModuleProduct,
    merged_linear,
    normalizes_heads,
    normed_heads,
    projections_of,
)
from summarybench.engines.varlen_attention import Attend, options_for_grouped_heads

PAGE_TOKENS = 64
"""Tokens per page: the tile of keys that the attention kernel reads at a time."""
SUPPORTED_MODELS = "a Llama, Mistral, Qwen2 or Qwen3 without a sliding window"
UNUSED_PAGE = 0
"""Sequences that hold no document write here; nothing reads it."""


@dataclass(frozen=True, slots=True)
class PageLayer:
    """One layer: its module, which provides norms and activation, its products, and its part of the KV cache.

    Keys and values are [pages, key heads, PAGE_TOKENS, width] each.
    """

    module: Any
    qkv: LinearProduct | ModuleProduct
    out: LinearProduct | ModuleProduct
    gate_up: LinearProduct | ModuleProduct
    down: LinearProduct | ModuleProduct
    keys: Any
    values: Any


class DecodingState:
    """What a decoding step reads and writes: the same tensors in each step, so that it can be captured.

    `token` [sequences] is each sequence's newest token, and `position` [sequences] counts the tokens before it, which the
    cache has. `table` [sequences, pages] has each sequence's pages. `is_active` [sequences] is 0 for a sequence that holds
    no document.
    """

    def __init__(self, sequences: int, pages: int, device: Any) -> None:
        self.token, self.position, self.is_active = (
            torch.zeros(sequences, dtype=torch.long, device=device) for _ in range(3)
        )
        self.table = torch.full((sequences, pages), UNUSED_PAGE, dtype=torch.int32, device=device)

    def enter(self, sequences: list[int], tokens: Any, positions: list[int], pages: list[list[int]]) -> None:
        """Put documents into these sequences: their first tokens, prompt lengths, and pages, padded to the table's width."""
        here = _on(self.token.device, sequences)
        self.token[here] = tokens
        self.position[here] = _on(self.token.device, positions)
        self.table[here] = _on(self.token.device, pages).int()
        self.is_active[here] = 1

    def leave(self, sequences: list[int]) -> None:
        here = _on(self.token.device, sequences)
        self.position[here] = 0
        self.table[here] = UNUSED_PAGE
        self.is_active[here] = 0

    def advance(self, tokens: Any) -> None:
        self.token.copy_(tokens)
        self.position.add_(self.is_active)


class PageModel:
    """Prefill and decoding of a supported model over pages of KV cache.

    `pages` includes the unused page. `attend` has the parameters of torch's `varlen_attn`. `compiled` compiles a piece for
    one shape, `compiled_for_any` for every number of tokens; both are None in tests.
    """

    def __init__(
        self,
        model: Any,
        pages: int,
        attend: Attend,
        *,
        compiled: Callable[..., Any] | None = None,
        compiled_for_any: Callable[..., Any] | None = None,
    ) -> None:
        self._model = model
        self._attend = partial(attend, window_size=(-1, 0), **options_for_grouped_heads(attend))
        config = model.config
        attention = model.model.layers[0].self_attn
        self._width = int(attention.head_dim)
        self._scaling = float(attention.scaling)
        self._heads = int(config.num_attention_heads)
        self._key_heads = int(config.num_key_value_heads)
        shape = (pages, self._key_heads, PAGE_TOKENS, self._width)
        with torch.no_grad():
            self._layers = [
                _page_layer(module, *(torch.zeros(shape, dtype=model.dtype, device=model.device) for _ in range(2)))
                for module in model.model.layers
            ]
        self.own_kernels = source_digests([ATTENTION]) if model.device.type == "cuda" else []
        compiled = compiled or uncompiled
        self._decoding = compiled(self._before_attention), compiled(self._after_attention), compiled(self._choose)
        compiled_for_any = compiled_for_any or uncompiled
        self._prefilling = compiled_for_any(self._before_attention), compiled_for_any(self._after_attention)

    @property
    def device(self) -> Any:
        return self._model.device

    def prefill(self, prompts: Sequence[Sequence[int]], pages: Sequence[Sequence[int]]) -> Any:
        """Process whole prompts side by side, and fill their pages: the first token of each summary [prompts]."""
        lengths = [len(each) for each in prompts]
        ids = _on(self.device, [token for prompt in prompts for token in prompt])
        positions = _on(self.device, [position for length in lengths for position in range(length)])
        page = _on(
            self.device,
            [
                own[position // PAGE_TOKENS]
                for own, length in zip(pages, lengths, strict=True)
                for position in range(length)
            ],
        )
        ends = _on(self.device, [0, *lengths]).cumsum(0).int()
        offset = positions % PAGE_TOKENS
        longest = max(lengths)
        hidden = self._model.model.embed_tokens(ids)  # [tokens, hidden width]
        rotation = self._rotation(hidden, positions)
        before, after = self._prefilling
        for layer in self._layers:
            queries, keys, values = before(layer, hidden, rotation, page, offset)
            mixed = self._attend(queries, keys, values, ends, ends, longest, longest, scale=self._scaling)
            hidden = after(layer, hidden, mixed)
        return self._choose(hidden[(ends[1:] - 1).long()])

    def step(self, state: DecodingState) -> Any:
        """The next token of each sequence [sequences]; advances the state."""
        hidden = self._model.model.embed_tokens(state.token)
        rotation = self._rotation(hidden, state.position)
        row = (state.position // PAGE_TOKENS).unsqueeze(1)
        page, offset = state.table.gather(1, row).squeeze(1).long(), state.position % PAGE_TOKENS
        lengths = ((state.position + 1) * state.is_active).int()
        before, after, choose = self._decoding
        for layer in self._layers:
            queries, _, _ = before(layer, hidden, rotation, page, offset)
            mixed = attend_pages(queries, layer.keys, layer.values, state.table, lengths, self._scaling)
            hidden = after(layer, hidden, mixed)
        tokens = choose(hidden)
        state.advance(tokens)
        return tokens

    def _before_attention(
        self, layer: PageLayer, hidden: Any, rotation: tuple[Any, Any], page: Any, offset: Any
    ) -> tuple[Any, Any, Any]:
        """Write each token's key and value to its place in the cache.

        Returns queries [tokens, heads, width], keys and values [tokens, key heads, width] of hidden states [tokens, hidden].
        """
        qkv = layer.qkv(layer.module.input_layernorm(hidden)).view(hidden.shape[0], -1, self._width)
        queries, keys, values = qkv.split([self._heads, self._key_heads, self._key_heads], dim=1)
        if normalizes_heads(layer.module):
            queries, keys = normed_heads(layer.module, queries, keys)
        keys = _rotated(keys, rotation)
        layer.keys[page, :, offset] = keys
        layer.values[page, :, offset] = values
        return _rotated(queries, rotation), keys, values.contiguous()

    @staticmethod
    def _after_attention(layer: PageLayer, hidden: Any, mixed: Any) -> Any:
        hidden = hidden + layer.out(mixed.reshape(hidden.shape[0], -1))
        gate, up = layer.gate_up(layer.module.post_attention_layernorm(hidden)).chunk(2, dim=-1)
        return hidden + layer.down(layer.module.mlp.act_fn(gate) * up)

    def _choose(self, hidden: Any) -> Any:
        return self._model.lm_head(self._model.model.norm(hidden)).argmax(-1)

    def _rotation(self, hidden: Any, positions: Any) -> tuple[Any, Any]:
        """Cosine and sine of the rotary embedding, [tokens, 1, width] each."""
        cosine, sine = self._model.model.rotary_emb(hidden, position_ids=positions[None])
        return cosine[0, :, None], sine[0, :, None]


def supports_pages(model: Any) -> bool:
    """Whether it is one of `SUPPORTED_MODELS`: the pieces repeat the `forward` of their layers."""
    layers = getattr(getattr(model, "model", None), "layers", None)
    return (
        layers is not None
        and all(type(layer).__name__ in LAYERS for layer in layers)
        and getattr(model.config, "sliding_window", None) is None
    )


def _page_layer(module: Any, keys: Any, values: Any) -> PageLayer:
    qkv, out, gate_up, down = map(merged_linear, projections_of(module))
    return PageLayer(module=module, qkv=qkv, out=out, gate_up=gate_up, down=down, keys=keys, values=values)


def _rotated(vectors: Any, rotation: tuple[Any, Any]) -> Any:
    first, second = vectors.chunk(2, dim=-1)
    return vectors * rotation[0] + torch.cat([-second, first], dim=-1) * rotation[1]


def _on(device: Any, numbers: Any) -> Any:
    """Whole numbers as a tensor on the device. The copy does not wait for work in flight: its source is pinned."""
    here = torch.tensor(numbers, dtype=torch.long)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here
