"""Product of a weight matrix [N, K] in 4 bits and one row of activations [K]: groups of 64 with scale and zero point.

A weight is (code - zero point) · scale. Nibble j of int32 word i of a group is the group's weight j·8 + i. The last
group of a row may be shorter: it is filled up with codes that no activation meets.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from summarybench.engines.kernels.mantissa import masked_bits
from summarybench.engines.kernels.tiles import Tile, Tiles, overlap_options
from summarybench.engines.quantize import GROUP

WORDS = tl.constexpr(GROUP // 8)
TILES = Tiles(short=Tile(rows=8, columns=4096, warps=4, registers=128), long=Tile(rows=8, columns=2048, warps=2))


@triton.jit
def _code(w, j: tl.constexpr):
    """Nibble j of each word as a float, plus what `_base` says."""
    if j == 0:
        return masked_bits(w, 0xF, 0x4B000000) - 8388608.0
    elif j == 1:
        return masked_bits(w, 0xF0, 0x49000000) - 524288.0
    elif j == 2:
        return masked_bits(w, 0xF00, 0x47000000) - 32768.0
    elif j == 3 or j == 5:
        return masked_bits(w if j == 3 else w >> 8, 0xF000, 0x45000000)
    else:
        return masked_bits(w if j == 4 else w >> (8 if j == 6 else 12), 0xF0000, 0x43000000)


@triton.jit
def _base(j: tl.constexpr):
    """What `_code` leaves in: the larger bases would cost precision in a sum, these are subtracted once a word."""
    return 0.0 if j < 3 else (2048.0 if j == 3 or j == 5 else 128.0)


@triton.jit
def int4_rows(
    x_ptr,
    w_ptr,
    scale_ptr,
    zero_ptr,
    out_ptr,
    K: tl.constexpr,
    BN: tl.constexpr,
    BG: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """BN rows a program, BG groups of each at a time; the next groups are loaded while the current are multiplied.

    Tiles are [groups, rows, words]: in this order a thread has all rows of its words, and so its activations once.
    """
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    GROUPS: tl.constexpr = (K + 63) // 64
    g = tl.arange(0, BG)
    word = tl.arange(0, WORDS)
    tile = w_ptr + (rows * (GROUPS * WORDS))[None, :, None] + (g[:, None] * WORDS + word[None, :])[:, None, :]
    of_group = (rows * GROUPS)[None, :] + g[:, None]
    inside = (g < GROUPS)[:, None]
    w = tl.load(tile, mask=inside[:, :, None], other=0, eviction_policy="evict_first")
    s = tl.load(scale_ptr + of_group, mask=inside, other=0)
    z = tl.load(zero_ptr + of_group, mask=inside, other=0)
    if OVERLAPS:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    acc = tl.zeros([BG, BN, WORDS], tl.float32)
    for step in tl.range(0, (GROUPS + BG - 1) // BG):
        start = (step + 1) * BG
        inside = (start + g < GROUPS)[:, None]
        w_ahead = tl.load(tile + start * WORDS, mask=inside[:, :, None], other=0, eviction_policy="evict_first")
        s_ahead = tl.load(scale_ptr + of_group + start, mask=inside, other=0)
        z_ahead = tl.load(zero_ptr + of_group + start, mask=inside, other=0)
        part = tl.zeros([BG, BN, WORDS], tl.float32)
        plain = tl.zeros([BG, WORDS], tl.float32)
        offset = tl.zeros([BG, WORDS], tl.float32)
        for j in tl.static_range(8):
            at = (step * BG + g)[:, None] * 64 + j * WORDS + word[None, :]
            if K % (BG * 64) == 0:
                x = tl.load(x_ptr + at).to(tl.float32)
            else:
                x = tl.load(x_ptr + at, mask=at < K, other=0).to(tl.float32)
            part += _code(w, j) * x[:, None, :]
            plain += x
            if j > 2:
                offset += _base(j) * x
        part -= offset[:, None, :]
        part -= z.to(tl.float32)[:, :, None] * plain[:, None, :]
        acc += part * s.to(tl.float32)[:, :, None]
        w, s, z = w_ahead, s_ahead, z_ahead
    y = tl.sum(tl.sum(acc, axis=2), axis=0)
    tl.store(out_ptr + rows, y.to(out_ptr.dtype.element_ty))


def launch(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    zero: torch.Tensor,
    out: torch.Tensor,
    *,
    overlaps: bool = False,
) -> None:
    n, k = weight.shape[0], x.numel()
    tile = TILES.for_rows_of(k)
    groups = tile.columns_for(k, multiple=GROUP) // GROUP
    int4_rows[(n // tile.rows,)](
        x, weight, scale, zero, out, K=k, BN=tile.rows, BG=groups, **tile.options, **overlap_options(overlaps)
    )
