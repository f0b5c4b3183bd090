"""Product of a 16-bit or 32-bit weight matrix [N, K] with one row of activations [K]."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from summarybench.engines.kernels.tiles import Tile, Tiles, overlap_options

TILES = Tiles(short=Tile(rows=1, columns=4096, warps=4), long=Tile(rows=1, columns=4096, warps=4))


@triton.jit
def plain_rows(x_ptr, w_ptr, out_ptr, K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, OVERLAPS: tl.constexpr):
    """BN rows a program. The next tile of weights is loaded into registers while the current one is multiplied."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    columns = tl.arange(0, BK)
    tile = w_ptr + rows[:, None] * K + columns[None, :]
    w = tl.load(tile, mask=(columns < K)[None, :], other=0, eviction_policy="evict_first")
    if OVERLAPS:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    acc = tl.zeros([BN, BK], tl.float32)
    for step in tl.range(0, (K + BK - 1) // BK):
        start = (step + 1) * BK
        ahead = tl.load(tile + start, mask=(start + columns < K)[None, :], other=0, eviction_policy="evict_first")
        at = step * BK + columns
        x = tl.load(x_ptr + at, mask=at < K, other=0).to(tl.float32)
        acc += w.to(tl.float32) * x[None, :]
        w = ahead
    tl.store(out_ptr + rows, tl.sum(acc, axis=1).to(out_ptr.dtype.element_ty))


def launch(x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, *, overlaps: bool = False) -> None:
    n, k = weight.shape
    tile = TILES.for_rows_of(k)
    plain_rows[(n // tile.rows,)](
        x, weight, out, K=k, BN=tile.rows, BK=tile.columns_for(k), **tile.options, **overlap_options(overlaps)
    )
