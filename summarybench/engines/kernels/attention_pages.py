"""Attention of one new token in each of many sequences over a paged KV cache.

A program has one sequence, one key head with the query heads that share it, and a part of the pages. It reads its pages
one by one and keeps a running softmax (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

LEAST_ROWS = 16
"""Triton's matrix products have at least this many rows, so query heads are padded to it."""
PROGRAMS = 512
"""With fewer sequences, each sequence's pages are split between programs until about this many run at once: the largest
GPUs have 132 to 148 multiprocessors with room for two to four programs each."""
MOST_SPLITS = 16
WARPS, STAGES = 4, 3


@triton.jit
def attention_pages(
    queries_ptr, keys_ptr, values_ptr, table_ptr, lengths_ptr, parts_ptr, sums_ptr, SHAPE: tl.constexpr
):
    """For queries [sequences, heads, D]; keys and values [pages, key heads, PAGE, D]; table [sequences, WIDEST].

    SHAPE is heads, key heads, D, PAGE, WIDEST (pages of the longest sequence), SPLITS, ROWS (query heads of a key head,
    padded), SCALE (of the scores). Sequence s has lengths[s] tokens; with none, its result is zero. Each split has a
    result of its own: unnormalized parts [sequences, heads, SPLITS, D], and in sums [sequences, heads, SPLITS, 2] the
    greatest score and the sum of the exponentials.
    """
    HEADS: tl.constexpr = SHAPE[0]
    KEY_HEADS: tl.constexpr = SHAPE[1]
    D: tl.constexpr = SHAPE[2]
    PAGE: tl.constexpr = SHAPE[3]
    SPLITS: tl.constexpr = SHAPE[5]
    ROWS: tl.constexpr = SHAPE[6]
    GROUP: tl.constexpr = HEADS // KEY_HEADS
    sequence = tl.program_id(0)
    key_head = tl.program_id(1)
    split = tl.program_id(2)
    length = tl.load(lengths_ptr + sequence).to(tl.int32)
    pages = tl.cdiv(length, PAGE)
    of_split = tl.cdiv(pages, SPLITS)
    first = split * of_split
    d = tl.arange(0, D)
    t = tl.arange(0, PAGE)
    row = tl.arange(0, ROWS)
    heads = sequence * HEADS + key_head * GROUP + row
    has_head = row < GROUP
    queries = tl.load(queries_ptr + heads[:, None] * D + d[None, :], mask=has_head[:, None], other=0.0)
    top = tl.full([ROWS], -1e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, D], tl.float32)
    for index in range(first, tl.minimum(first + of_split, pages)):
        page = tl.load(table_ptr + sequence * SHAPE[4] + index).to(tl.int64)
        at = (page * KEY_HEADS + key_head) * PAGE * D
        keys = tl.load(keys_ptr + at + t[None, :] * D + d[:, None])  # [D, PAGE]
        scores = tl.dot(queries, keys) * SHAPE[7]
        scores = tl.where((index * PAGE + t < length)[None, :], scores, -1e30)
        new_top = tl.maximum(top, tl.max(scores, axis=1))
        shrink = tl.exp2(top - new_top)
        shares = tl.exp2(scores - new_top[:, None])
        values = tl.load(values_ptr + at + t[:, None] * D + d[None, :])  # [PAGE, D]
        mixed = mixed * shrink[:, None] + tl.dot(shares.to(values.dtype), values)
        total = total * shrink + tl.sum(shares, axis=1)
        top = new_top
    result = heads * SPLITS + split
    if SPLITS == 1:
        mixed = mixed / tl.maximum(total, 1e-20)[:, None]
    tl.store(parts_ptr + result[:, None] * D + d[None, :], mixed.to(parts_ptr.dtype.element_ty), mask=has_head[:, None])
    if SPLITS > 1:
        tl.store(sums_ptr + result * 2, top, mask=has_head)
        tl.store(sums_ptr + result * 2 + 1, total, mask=has_head)


def launch(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Returns [sequences, heads, D] in the queries' dtype. `scaling` multiplies the scores, before the softmax."""
    sequences, heads, width = queries.shape
    key_heads, page = keys.shape[1:3]
    splits = splits_of(sequences * key_heads)
    rows = max(LEAST_ROWS, 1 << (heads // key_heads - 1).bit_length())
    scale = scaling * 1.4426950408889634  # exponentials of base 2 are what the hardware has
    shape = (heads, key_heads, width, page, table.shape[1], splits, rows, scale)
    dtype = queries.dtype if splits == 1 else torch.float32
    parts = torch.empty((sequences, heads, splits, width), dtype=dtype, device=queries.device)
    sums = torch.empty((sequences, heads, splits, 2), dtype=torch.float32, device=queries.device)
    attention_pages[(sequences, key_heads, splits)](
        queries, keys, values, table, lengths, parts, sums, SHAPE=shape, num_warps=WARPS, num_stages=STAGES
    )
    if splits == 1:
        return parts[:, :, 0]
    tops, totals = sums.unbind(-1)
    shares = torch.exp2(tops - tops.amax(-1, keepdim=True))
    mixed: torch.Tensor = (parts * shares[..., None]).sum(2) / (totals * shares).sum(-1, keepdim=True).clamp(min=1e-20)
    return mixed.to(queries.dtype)


def splits_of(programs: int) -> int:
    """Between how many programs a sequence's pages are divided: a power of two."""
    wanted = -(-PROGRAMS // programs)
    return min(MOST_SPLITS, 1 << (wanted - 1).bit_length())
