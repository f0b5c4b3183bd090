"""Product of a weight matrix [N, K] in NF4, stored as bitsandbytes stores it, and one row of activations [K].

An int32 word holds eight neighbouring weights. The activations come in the order that the words need: all that belong
to the first weight of each word, then all that belong to the second (`row_operators.nf4_ordered`).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from summarybench.engines.kernels.mantissa import USES_PTX
from summarybench.engines.kernels.tiles import Tile, Tiles

BLOCK = 64
"""Weights that share one float32 scale."""
WORDS = tl.constexpr(BLOCK // 8)
TILES = Tiles(short=Tile(rows=8, columns=4096, warps=4), long=Tile(rows=4, columns=4096, warps=4))


@triton.jit
def _levels_of_lanes(levels_ptr):
    """The value of code (lane % 16) in each lane. Inline assembly, because Triton would take it for one value."""
    if USES_PTX:
        return tl.inline_asm_elementwise(
            "{ .reg .u32 lane; .reg .u64 at; mov.u32 lane, %laneid; and.b32 lane, lane, 15; "
            "mad.wide.u32 at, lane, 4, $1; ld.global.nc.f32 $0, [at]; }",
            "=f,l",
            [levels_ptr.to(tl.int64)],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
    else:
        return tl.load(levels_ptr + tl.arange(0, 16))


@triton.jit
def _value(w, levels, shift: tl.constexpr):
    """The value of the code at bit `shift` of each word: a shuffle asks the lane of that number for it.

    Lanes 16 to 31 ask within themselves, so the bits above the code do not matter.
    """
    if USES_PTX:
        return tl.inline_asm_elementwise(
            "shfl.sync.idx.b32 $0, $1, $2, 0x101f, 0xffffffff;",
            "=f,f,r",
            [tl.full(w.shape, levels, tl.float32), w >> shift],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
    else:
        code = (w >> shift) & 15
        return tl.reshape(tl.gather(levels, tl.reshape(code, [code.numel]), 0), code.shape)


@triton.jit
def nf4_rows(x_ptr, w_ptr, scale_ptr, levels_ptr, out_ptr, K: tl.constexpr, BN: tl.constexpr, BG: tl.constexpr):
    """BN rows a program, BG blocks of each at a time; the next blocks are loaded while the current are multiplied."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    BLOCKS: tl.constexpr = K // 64
    g = tl.arange(0, BG)
    word = tl.arange(0, WORDS)
    tile = w_ptr + (rows * (K // 8))[None, :, None] + (g[:, None] * WORDS + word[None, :])[:, None, :]
    scales = scale_ptr + (rows * BLOCKS)[None, :] + g[:, None]
    inside = (g < BLOCKS)[:, None]
    w = tl.load(tile, mask=inside[:, :, None], other=0, eviction_policy="evict_first")
    s = tl.load(scales, mask=inside, other=0)
    levels = _levels_of_lanes(levels_ptr)
    acc = tl.zeros([BG, BN, WORDS], tl.float32)
    for step in tl.range(0, (BLOCKS + BG - 1) // BG):
        start = (step + 1) * BG
        ahead = (start + g < BLOCKS)[:, None]
        w_ahead = tl.load(tile + start * WORDS, mask=ahead[:, :, None], other=0, eviction_policy="evict_first")
        s_ahead = tl.load(scales + start, mask=ahead, other=0)
        here = (step * BG + g < BLOCKS)[:, None]
        part = tl.zeros([BG, BN, WORDS], tl.float32)
        for j in tl.static_range(8):
            at = j * (K // 8) + (step * BG + g)[:, None] * WORDS + word[None, :]
            if BLOCKS % BG == 0:
                x = tl.load(x_ptr + at).to(tl.float32)
            else:
                x = tl.load(x_ptr + at, mask=here, other=0).to(tl.float32)
            # Of two weights in a byte, the first has the upper half.
            part += _value(w, levels, 4 * (j + 1) if j % 2 == 0 else 4 * (j - 1)) * x[:, None, :]
        acc += part * s[:, :, None]
        w, s = w_ahead, s_ahead
    y = tl.sum(tl.sum(acc, axis=2), axis=0)
    tl.store(out_ptr + rows, y.to(out_ptr.dtype.element_ty))


def launch(
    x_ordered: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, levels: torch.Tensor, out: torch.Tensor
) -> None:
    n, k = weight.shape[0], weight.shape[1] * 8
    tile = TILES.for_rows_of(k)
    blocks = tile.columns_for(k, multiple=BLOCK) // BLOCK
    nf4_rows[(n // tile.rows,)](x_ordered, weight, scale, levels, out, K=k, BN=tile.rows, BG=blocks, **tile.options)
