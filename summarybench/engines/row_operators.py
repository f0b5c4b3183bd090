"""Custom operators for batch size 1: matrix-vector product, attention.

torch.compile does not look into them.

On a GPU they run the Triton kernels of `summarybench.engines.kernels`. On a CPU they run plain torch, so that the compiled
step can be tested without GPU and Triton. This module imports torch, so import it only when a model is compiled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from summarybench.engines.kernels.tiles import TOKENS_A_PROGRAM
from summarybench.engines.quantize import int4_values, unpacked_rows

PLAIN, INT8, FP8, INT4, NF4 = "plain", "int8", "fp8", "int4", "nf4"

KERNELS = {PLAIN: "plain_rows", INT8: "int8_rows", FP8: "fp8_rows", INT4: "int4_rows", NF4: "nf4_rows"}
"""The kernel module of each kind of weight."""
ATTENTION = "attention_row"
OVERLAPPING = frozenset({PLAIN, INT8, INT4})
"""Kinds of weights whose steps are faster if each kernel starts before the one before it has ended (see `overlap_options`).

On H200s, steps with fp8 and NF4 were 5 to 7% slower."""


@torch.library.custom_op("summarybench::row_product", mutates_args=(), device_types="cpu")
def row_product(
    x: Tensor, weight: Tensor, scale: Tensor | None, table: Tensor | None, kind: str, overlaps: bool
) -> Tensor:
    """Multiply a weight matrix [N, …] with x [K]: [N] in the dtype of x.

    Sums are accumulated in float32.

    `table` holds the zero points for int4, and the 16 values for NF4. For NF4, x must be in the order of `nf4_ordered`.
    int8 weights are packed by `quantize.packed_for_rows`. `overlaps` is for kernels of the `OVERLAPPING` kinds.
    """
    return (_dense(x.numel(), weight, scale, table, kind) @ x.float()).to(x.dtype)


@row_product.register_fake
def _(x: Tensor, weight: Tensor, scale: Tensor | None, table: Tensor | None, kind: str, overlaps: bool) -> Tensor:
    return x.new_empty(weight.shape[0])


@row_product.register_kernel("cuda")
def _(x: Tensor, weight: Tensor, scale: Tensor | None, table: Tensor | None, kind: str, overlaps: bool) -> Tensor:
    from importlib import import_module

    out = x.new_empty(weight.shape[0])
    given = [each for each in (scale, table) if each is not None]
    options = {"overlaps": True} if overlaps else {}
    import_module(f"summarybench.engines.kernels.{KERNELS[kind]}").launch(x, weight, *given, out, **options)
    return out


def nf4_ordered(x: Tensor) -> Tensor:
    """Order activations [K] for NF4.

    First come those of the first weight in each int32 word, then of the second, up to the eighth.
    """
    return x.view(-1, 8).t().reshape(-1)


def _dense(length: int, weight: Tensor, scale: Tensor | None, table: Tensor | None, kind: str) -> Tensor:
    """Dequantize to float32 [N, K], with the columns in the order of x."""
    if kind == INT4 and scale is not None and table is not None:
        return int4_values(weight, scale, table)[:, :length]
    if kind == NF4 and scale is not None and table is not None:
        pairs = weight.view(torch.uint8)
        codes = torch.stack([pairs >> 4, pairs & 15], dim=2).view(len(weight), -1, 64)
        values = (table[codes.long()] * scale[:, :, None]).view(len(weight), -1, 8)
        return values.transpose(1, 2).reshape(len(weight), length)
    if kind == INT8:
        weight = unpacked_rows(weight)
    return weight.float() if scale is None else weight.float() * scale[:, None]


@torch.library.custom_op(
    "summarybench::attend_one_token", mutates_args=("keys", "values", "scratch"), device_types="cpu"
)
def attend_one_token(
    qkv: Tensor, keys: Tensor, values: Tensor, rotation: Tensor, slot: Tensor, scratch: Tensor, overlaps: bool
) -> Tensor:
    """Compute the attention of one token: [heads · width].

    Applies the rotary embedding, writes key and value to `slot` of the cache, and attends to all tokens.

    `qkv` is [(heads + 2 key heads) · width]. Keys and values are [1, key heads, tokens, width]. `rotation` is [2, width]:
    cosine and sine. `scratch` has `scratch_elements` elements, which must be zero before the first call.
    """
    _, key_heads, _, width = keys.shape
    vectors = qkv.view(-1, width)
    heads = len(vectors) - 2 * key_heads
    query, key = _rotated(vectors[:heads], rotation), _rotated(vectors[heads : heads + key_heads], rotation)
    here = int(slot)
    keys[0, :, here] = key.to(keys.dtype)
    values[0, :, here] = vectors[heads + key_heads :]
    query = query.to(keys.dtype).float().view(key_heads, -1, width)
    scores = query @ keys[0, :, : here + 1].float().transpose(1, 2) * width**-0.5
    mixed: Tensor = scores.softmax(-1) @ values[0, :, : here + 1].float()
    return mixed.reshape(-1).to(qkv.dtype)


@attend_one_token.register_fake
def _(
    qkv: Tensor, keys: Tensor, values: Tensor, rotation: Tensor, slot: Tensor, scratch: Tensor, overlaps: bool
) -> Tensor:
    _, key_heads, _, width = keys.shape
    return qkv.new_empty(qkv.numel() - 2 * key_heads * width)


@attend_one_token.register_kernel("cuda")
def _(
    qkv: Tensor, keys: Tensor, values: Tensor, rotation: Tensor, slot: Tensor, scratch: Tensor, overlaps: bool
) -> Tensor:
    from summarybench.engines.kernels.attention_row import launch

    _, key_heads, _, width = keys.shape
    out = qkv.new_empty(qkv.numel() - 2 * key_heads * width)
    launch(qkv, keys, values, rotation, slot, scratch, out, overlaps=overlaps)
    return out


def _rotated(vectors: Tensor, rotation: Tensor) -> Tensor:
    first, second = vectors.float().chunk(2, dim=-1)
    return vectors.float() * rotation[0].float() + torch.cat([-second, first], dim=-1) * rotation[1].float()


def scratch_elements(heads: int, tokens: int, width: int) -> int:
    """The number of float32 elements that the attention kernel's programs exchange."""
    return heads * (-(-tokens // TOKENS_A_PROGRAM) * (width + 2) + 1)


def can_overlap(kinds: Iterable[str], capability: tuple[int, int]) -> bool:
    """Whether a step with these kinds of weights is faster if its kernels overlap, on a GPU of this compute capability."""
    return capability >= (9, 0) and OVERLAPPING.issuperset(kinds)


def described(kinds: Iterable[str]) -> list[str]:
    """A line for each kernel module that decodes one sequence with weights of these kinds.

    It contains a digest of the module's source, tiles included.

    The lines are part of a run's `tuned_kernels`. Any edit of these files, even in a comment, changes the digest: stored runs
    then count as tuned apart from new ones.
    """
    return source_digests({*(KERNELS[kind] for kind in kinds), ATTENTION, "tiles", "mantissa"})


def source_digests(kernels: Iterable[str]) -> list[str]:
    """The names of kernel modules, each with the digest of its source."""
    folder = Path(__file__).parent / "kernels"
    return [f"{name} {hashlib.sha256((folder / f'{name}.py').read_bytes()).hexdigest()}" for name in sorted(kernels)]
