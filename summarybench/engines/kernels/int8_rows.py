"""Product of a weight matrix [N, K] in int8, with a scale for each row, and one row of activations [K].

The kernel reads int32 words of four weights. `quantize.packed_for_rows` arranges a row so that byte j of word i is weight j·K/4 + i: each
quarter of the activations is then read as it lies.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from summarybench.engines.kernels.mantissa import signed_bytes
from summarybench.engines.kernels.tiles import Tile, Tiles, overlap_options

TILES = Tiles(short=Tile(rows=4, columns=4096, warps=8), long=Tile(rows=4, columns=2048, warps=4))


@triton.jit
def int8_rows(
    x_ptr, w_ptr, scale_ptr, out_ptr, K: tl.constexpr, BN: tl.constexpr, BW: tl.constexpr, OVERLAPS: tl.constexpr
):
    """BN rows a program, BW words of each at a time; the next words are loaded while the current ones are multiplied."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    WORDS: tl.constexpr = K // 4
    word = tl.arange(0, BW)
    tile = w_ptr + rows[:, None] * WORDS + word[None, :]
    w = tl.load(tile, mask=(word < WORDS)[None, :], other=0, eviction_policy="evict_first")
    if OVERLAPS:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    acc = tl.zeros([BN, BW], tl.float32)
    for step in tl.range(0, (WORDS + BW - 1) // BW):
        start = (step + 1) * BW
        ahead = tl.load(tile + start, mask=(start + word < WORDS)[None, :], other=0, eviction_policy="evict_first")
        inside = step * BW + word < WORDS
        x = x_ptr + step * BW + word
        x0 = tl.load(x, mask=inside, other=0).to(tl.float32)
        x1 = tl.load(x + WORDS, mask=inside, other=0).to(tl.float32)
        x2 = tl.load(x + WORDS * 2, mask=inside, other=0).to(tl.float32)
        x3 = tl.load(x + WORDS * 3, mask=inside, other=0).to(tl.float32)
        w0, w1, w2, w3 = signed_bytes(w)
        acc += w0 * x0[None, :]
        acc += w1 * x1[None, :]
        acc += w2 * x2[None, :]
        acc += w3 * x3[None, :]
        w = ahead
    y = tl.sum(acc, axis=1) * tl.load(scale_ptr + rows)
    tl.store(out_ptr + rows, y.to(out_ptr.dtype.element_ty))


def launch(
    x: torch.Tensor, packed: torch.Tensor, scale: torch.Tensor, out: torch.Tensor, *, overlaps: bool = False
) -> None:
    n, k = packed.shape
    tile = TILES.for_rows_of(k)
    words = tile.columns_for(k, multiple=4) // 4
    int8_rows[(n // tile.rows,)](
        x,
        packed.view(torch.int32),
        scale,
        out,
        K=k,
        BN=tile.rows,
        BW=words,
        **tile.options,
        **overlap_options(overlaps),
    )
