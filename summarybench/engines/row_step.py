"""One decoding step at batch size 1 through the layers of a Llama, Mistral or Qwen.

It uses the operators of `row_operators`.

A layer consists of four products, attention, and what torch.compile fuses: norms, activation and residuals. Query, key and
value projections are merged into one matrix, and so are gate and up projections. The original layers keep views of it:
prefill still runs transformers' modules, and no weight is stored twice.

This module imports torch and bitsandbytes, so import it only when a model is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit

from summarybench.engines import row_operators as rows
from summarybench.engines.kernels.tiles import ROWS_MULTIPLE
from summarybench.engines.quantize import Fp8WeightOnlyLinear, Int4GroupLinear
from summarybench.engines.weight_only import Int8WeightOnlyLinear

LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")
"""The supported types of layers. A step repeats what their `forward` does between their parts."""
NF4_BLOCK = 64
MOST_ELEMENTS = 2**31
"""The kernels index elements with 32 bits."""


@dataclass(frozen=True, slots=True)
class RowProduct:
    """A weight matrix, or several merged ones, multiplied by one of the operators."""

    kind: str
    weight: Any
    scale: Any = None
    table: Any = None
    bias: Any = None

    def __call__(self, x: Any, overlaps: bool) -> Any:
        """Multiply one row of activations: [..., K] to [..., N].

        With `overlaps` the kernel starts before the previous one has ended.
        """
        row = rows.nf4_ordered(x) if self.kind == rows.NF4 else x.reshape(-1)
        product = rows.row_product(row, self.weight, self.scale, self.table, self.kind, overlaps).view(
            *x.shape[:-1], -1
        )
        return product if self.bias is None else product + self.bias


@dataclass(frozen=True, slots=True)
class LinearProduct:
    """A weight matrix, or several merged ones, multiplied by torch's own product."""

    weight: Any
    bias: Any = None

    def __call__(self, x: Any) -> Any:
        """Multiply rows of activations: [..., K] to [..., N]."""
        return torch.nn.functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class ModuleProduct:
    """Layers without an operator, such as those of LLM.int8(), which run unchanged."""

    modules: tuple[Any, ...]
    kind: str = ""

    def __call__(self, x: Any, _overlaps: bool = False) -> Any:
        return torch.cat([module(x) for module in self.modules], dim=-1)


Product = RowProduct | ModuleProduct


@dataclass(frozen=True, slots=True)
class RowLayer:
    """One layer: its module, its products, and its part of the KV cache.

    The module provides norms and activation.
    """

    module: Any
    qkv: Product
    out: Product
    gate_up: Product
    down: Product
    keys: Any
    values: Any

    @property
    def products(self) -> tuple[Product, ...]:
        return self.qkv, self.out, self.gate_up, self.down


@dataclass(frozen=True, slots=True)
class RowStep:
    """All layers and the output head.

    `scratch` is for the attention kernel; `kernels` describes each kernel in use; `overlaps` says whether each kernel starts
    before the previous one has ended.
    """

    layers: tuple[RowLayer, ...]
    head: Product
    slot: Any
    scratch: Any
    kernels: tuple[str, ...]
    overlaps: bool

    def through_layer(self, layer: RowLayer, hidden: Any, rotation: Any) -> Any:
        """Run one layer for the token at `slot` of the cache.

        Returns a hidden state of the same shape, [1, 1, width].
        """
        qkv = layer.qkv(layer.module.input_layernorm(hidden), self.overlaps)
        if normalizes_heads(layer.module):
            key_heads, width = layer.keys.shape[1], layer.keys.shape[3]
            queries, keys, values = qkv.view(-1, width).tensor_split((-2 * key_heads, -key_heads))
            qkv = torch.cat([*normed_heads(layer.module, queries, keys), values])
        cache = layer.keys, layer.values
        mixed = rows.attend_one_token(qkv.view(-1), *cache, rotation, self.slot, self.scratch, self.overlaps)
        hidden = hidden + layer.out(mixed.view(1, 1, -1), self.overlaps)
        gate, up = layer.gate_up(layer.module.post_attention_layernorm(hidden), self.overlaps).chunk(2, dim=-1)
        return hidden + layer.down(layer.module.mlp.act_fn(gate) * up, self.overlaps)

    def logits(self, hidden: Any) -> Any:
        """The output head's product with a normalized hidden state: [1, width] to [1, vocabulary]."""
        return self.head(hidden, self.overlaps)

    @staticmethod
    def stacked(rotation: tuple[Any, Any]) -> Any:
        """Stack cosine and sine, [1, 1, width] each, into one tensor [2, width]."""
        return torch.stack([each.view(-1) for each in rotation])


def row_step(model: Any, cache: Any) -> RowStep | None:
    """Merge the weights of a supported model.

    None for an unsupported model, which is not changed.
    """
    modules = list(model.model.layers)
    if not all(_is_supported(module) for module in modules):
        return None
    with torch.no_grad():
        layers = tuple(_row_layer(module, *each.tensors) for module, each in zip(modules, cache.layers, strict=True))
    head = _head_product(model.lm_head)
    products = [head, *(each for layer in layers for each in layer.products)]
    kinds = {each.kind for each in products}
    _, _, tokens, width = layers[0].keys.shape
    on_gpu = model.device.type == "cuda"
    size = rows.scratch_elements(int(model.config.num_attention_heads), tokens, width)
    return RowStep(
        layers=layers,
        head=head,
        slot=cache.slot,
        scratch=torch.zeros(size, dtype=torch.float32, device=model.device),
        kernels=tuple(rows.described(kinds - {""})) if on_gpu else (),
        overlaps=on_gpu and rows.can_overlap(kinds, torch.cuda.get_device_capability(model.device)),
    )


def _row_layer(module: Any, keys: Any, values: Any) -> RowLayer:
    qkv, out, gate_up, down = map(_merged_product, projections_of(module))
    return RowLayer(module=module, qkv=qkv, out=out, gate_up=gate_up, down=down, keys=keys, values=values)


def projections_of(module: Any) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """The projections of a layer, in the order of their use. Those of one list have the same input."""
    attention, mlp = module.self_attn, module.mlp
    return (
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    )


def normalizes_heads(module: Any) -> bool:
    """Whether a layer normalizes the query and key of each head, as Qwen3's do."""
    return hasattr(module.self_attn, "q_norm")


def normed_heads(module: Any, queries: Any, keys: Any) -> tuple[Any, Any]:
    """Normalize queries and keys [..., heads, width] of such a layer."""
    return module.self_attn.q_norm(queries), module.self_attn.k_norm(keys)


def _is_supported(layer: Any) -> bool:
    if type(layer).__name__ not in LAYERS:
        return False
    attention = layer.self_attn
    width = int(attention.head_dim)
    return width & (width - 1) == 0 and abs(float(attention.scaling) - width**-0.5) < 1e-6


def _merged_product(modules: Sequence[Any]) -> Product:
    """Merge layers with the same input into one product.

    Their weights become views of one matrix.
    """
    merge = _MERGES.get(type(modules[0]))
    alike = _have_the_same_parts(modules)
    if merge is None or not alike or not all(_has_kernel(module, type(modules[0])) for module in modules):
        return ModuleProduct(tuple(modules))
    return replace(merge(modules), bias=_merged_bias(modules))


def _head_product(head: Any) -> Product:
    """The output head's product.

    The embedding may share its weight, which is therefore not changed.
    """
    if head.bias is not None or not _has_kernel(head, torch.nn.Linear):
        return ModuleProduct((head,))
    return RowProduct(rows.PLAIN, head.weight.data)


def merged_linear(modules: Sequence[Any]) -> LinearProduct | ModuleProduct:
    """Layers with the same input as one product of any number of rows.

    Plain layers are merged into one matrix, of which they keep views. Others run one after the other.
    """
    if type(modules[0]) is torch.nn.Linear and _have_the_same_parts(modules):
        return LinearProduct(_merged(modules, "weight"), _merged_bias(modules))
    return ModuleProduct(tuple(modules))


def _have_the_same_parts(modules: Sequence[Any]) -> bool:
    """Whether the layers are of one type, and all or none of them have a bias."""
    return len({(type(module), module.bias is None) for module in modules}) == 1


def _merged_bias(modules: Sequence[Any]) -> Any:
    if modules[0].bias is None:
        return None
    return torch.cat([module.bias.data for module in modules])


def _has_kernel(module: Any, kind: Any) -> bool:
    """Whether a kernel supports this layer: its type, and a shape that the tiles cover."""
    if type(module) is not kind:
        return False
    shape = module.out_features, module.in_features
    fits = shape[0] % ROWS_MULTIPLE == 0 and shape[1] % 8 == 0 and shape[0] * shape[1] < MOST_ELEMENTS
    return fits and (kind is not Linear4bit or _is_plain_nf4(module))


def _is_plain_nf4(module: Any) -> bool:
    """Whether the weights are in the GPU's NF4 layout.

    On a CPU bitsandbytes rearranges them in their first product.
    """
    state = getattr(module.weight, "quant_state", None)
    return (
        state is not None
        and state.quant_type == "nf4"
        and not state.nested
        and state.blocksize == NF4_BLOCK
        and module.in_features % NF4_BLOCK == 0
        and not getattr(state, "packing_format_for_cpu", False)
    )


def _merge_plain(modules: Sequence[Any]) -> RowProduct:
    return RowProduct(rows.PLAIN, _merged(modules, "weight"))


def _merge_int8(modules: Sequence[Int8WeightOnlyLinear]) -> RowProduct:
    for module in modules:
        module.pack_for_rows()
    return RowProduct(rows.INT8, _merged(modules, "weight"), _merged(modules, "scale"))


def _merge_fp8(modules: Sequence[Any]) -> RowProduct:
    return RowProduct(rows.FP8, _merged(modules, "weight"), _merged(modules, "scale"))


def _merge_int4(modules: Sequence[Any]) -> RowProduct:
    return RowProduct(rows.INT4, *(_merged(modules, name) for name in ("weight", "scale", "zero")))


def _merge_nf4(modules: Sequence[Any]) -> RowProduct:
    states = [module.weight.quant_state for module in modules]
    weight = _merged(modules, "weight").view(-1, modules[0].in_features // 2).view(torch.int32)
    if len(modules) > 1:
        merged = torch.cat([state.absmax for state in states])
        for state, part in zip(states, _split_like(merged, [state.absmax for state in states]), strict=True):
            state.absmax = part
    else:
        merged = states[0].absmax
    return RowProduct(rows.NF4, weight, merged.view(len(weight), -1), states[0].code.float())


def _merged(modules: Sequence[Any], name: str) -> Any:
    """Concatenate the layers' parameters of this name by rows.

    Each layer keeps a view of its part.
    """
    parts = [getattr(module, name) for module in modules]
    if len(parts) == 1:
        return parts[0].data
    merged = torch.cat([part.data.view(_storable(part.dtype)) for part in parts]).view(parts[0].dtype)
    for part, view in zip(parts, _split_like(merged, parts), strict=True):
        part.data = view
    return merged


def _storable(dtype: Any) -> Any:
    """A dtype that torch.cat supports in place of float8."""
    return torch.int8 if dtype is torch.float8_e4m3fn else dtype


def _split_like(merged: Any, parts: Sequence[Any]) -> Iterator[Any]:
    yield from merged.split([len(part) for part in parts])


_MERGES: dict[type, Callable[[Sequence[Any]], RowProduct]] = {
    torch.nn.Linear: _merge_plain,
    Int8WeightOnlyLinear: _merge_int8,
    Fp8WeightOnlyLinear: _merge_fp8,
    Int4GroupLinear: _merge_int4,
    Linear4bit: _merge_nf4,
}
