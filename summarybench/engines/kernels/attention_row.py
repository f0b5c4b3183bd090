"""Attention of one new token over a static KV cache, in one kernel: rotary embedding, cache write, softmax, sum.

A program has one head and a part of the cache. The last program of a head to finish combines the parts, and counts on
`scratch` being zero before the first launch; it leaves the count at zero.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from summarybench.engines.kernels.tiles import TOKENS_A_PROGRAM, overlap_options

WARPS = 4


@triton.jit
def _rotated(vector_ptr, rotation_ptr, D: tl.constexpr):
    """A head's query or key after the rotary embedding, in float32; `rotation` is cosine [D], then sine [D]."""
    d = tl.arange(0, D)
    x = tl.load(vector_ptr + d).to(tl.float32)
    other = tl.load(vector_ptr + (d + D // 2) % D).to(tl.float32)
    other = tl.where(d < D // 2, -other, other)
    cosine = tl.load(rotation_ptr + d).to(tl.float32)
    sine = tl.load(rotation_ptr + D + d).to(tl.float32)
    return x * cosine + other * sine


@triton.jit
def _combined(parts_ptr, sums_ptr, SPLITS: tl.constexpr, PARTS: tl.constexpr, D: tl.constexpr):
    """A head's output [D] from its parts: each has its own softmax, with its own maximum."""
    s = tl.arange(0, PARTS)
    has = s < SPLITS
    d = tl.arange(0, D)
    tops = tl.load(sums_ptr + s * 2, mask=has, other=-1e30, cache_modifier=".cg")
    sums = tl.load(sums_ptr + s * 2 + 1, mask=has, other=0.0, cache_modifier=".cg")
    parts = tl.load(parts_ptr + s[:, None] * D + d[None, :], mask=has[:, None], other=0.0, cache_modifier=".cg")
    shares = tl.exp(tops - tl.max(tops, axis=0))
    return tl.sum(parts * shares[:, None], axis=0) / tl.sum(sums * shares, axis=0)


@triton.jit
def attention_row(
    qkv_ptr,
    keys_ptr,
    values_ptr,
    rotation_ptr,
    slot_ptr,
    scratch_ptr,
    out_ptr,
    SHAPE: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """For qkv [heads + 2 key heads, D]; keys and values [key heads, T, D]; slot [1]: tokens in the cache before this one.

    SHAPE is heads, key heads, D, T, BT (tokens of a program), SPLITS (programs of a head), PARTS (SPLITS up to the
    next power of two). `scratch` has the parts [heads, SPLITS, D], their maxima and sums [heads, SPLITS, 2], and a
    count of finished programs [heads].
    """
    HEADS: tl.constexpr = SHAPE[0]
    KEY_HEADS: tl.constexpr = SHAPE[1]
    D: tl.constexpr = SHAPE[2]
    T: tl.constexpr = SHAPE[3]
    BT: tl.constexpr = SHAPE[4]
    SPLITS: tl.constexpr = SHAPE[5]
    head = tl.program_id(0)
    split = tl.program_id(1)
    key_head = head // (HEADS // KEY_HEADS)
    slot = tl.load(slot_ptr).to(tl.int32)
    d = tl.arange(0, D)
    t = split * BT + tl.arange(0, BT)
    at = key_head * T * D + t[:, None] * D + d[None, :]
    keys = tl.load(keys_ptr + at, mask=(t < slot)[:, None], other=0.0)
    values = tl.load(values_ptr + at, mask=(t < slot)[:, None], other=0.0)
    if OVERLAPS:  # `slot` and the cache before it were written in the step before this one
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    query = _rotated(qkv_ptr + head * D, rotation_ptr, D)
    new_key = _rotated(qkv_ptr + (HEADS + key_head) * D, rotation_ptr, D).to(keys_ptr.dtype.element_ty)
    new_value = tl.load(qkv_ptr + (HEADS + KEY_HEADS + key_head) * D + d)
    is_new = (t == slot)[:, None]
    keys = tl.where(is_new, new_key[None, :], keys)
    values = tl.where(is_new, new_value[None, :], values)
    if head % (HEADS // KEY_HEADS) == 0:
        tl.store(keys_ptr + at, keys, mask=is_new)
        tl.store(values_ptr + at, values, mask=is_new)
    query = query.to(keys_ptr.dtype.element_ty).to(tl.float32)
    scores = tl.sum(keys.to(tl.float32) * query[None, :], axis=1) * (D**-0.5)
    scores = tl.where(t <= slot, scores, -1e30)
    top = tl.max(scores, axis=0)
    shares = tl.where(t <= slot, tl.exp(scores - top), 0.0)
    parts_ptr = scratch_ptr + head * SPLITS * D
    sums_ptr = scratch_ptr + HEADS * SPLITS * D + head * SPLITS * 2
    tl.store(parts_ptr + split * D + d, tl.sum(shares[:, None] * values.to(tl.float32), axis=0))
    tl.store(sums_ptr + split * 2, top)
    tl.store(sums_ptr + split * 2 + 1, tl.sum(shares, axis=0))
    tl.debug_barrier()  # all of this program's stores come before one of its threads counts it
    count_ptr = scratch_ptr + HEADS * SPLITS * (D + 2) + head
    if tl.atomic_add(count_ptr, 1.0, sem="acq_rel") == SPLITS - 1:
        out = _combined(parts_ptr, sums_ptr, SPLITS, SHAPE[6], D)
        tl.store(out_ptr + head * D + d, out.to(out_ptr.dtype.element_ty))
        tl.store(count_ptr, 0.0)


def launch(
    qkv: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    rotation: torch.Tensor,
    slot: torch.Tensor,
    scratch: torch.Tensor,
    out: torch.Tensor,
    *,
    overlaps: bool = False,
) -> None:
    """Keys and values are [1, key heads, tokens, width] and get the new token's; `scratch` as `scratch_elements` says."""
    _, key_heads, tokens, width = keys.shape
    heads = out.numel() // width
    splits = splits_of(tokens)
    shape = (heads, key_heads, width, tokens, TOKENS_A_PROGRAM, splits, 1 << (splits - 1).bit_length())
    attention_row[(heads, splits)](
        qkv, keys, values, rotation, slot, scratch, out, SHAPE=shape, num_warps=WARPS, **overlap_options(overlaps)
    )


def splits_of(tokens: int) -> int:
    return -(-tokens // TOKENS_A_PROGRAM)
