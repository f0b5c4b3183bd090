"""Product of a weight matrix [N, K] in fp8 e4m3, with a scale for each row, and one row of activations [K].

Needs compute capability 8.9 for the conversion of fp8.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from summarybench.engines.kernels.tiles import Tile, Tiles

TILES = Tiles(short=Tile(rows=4, columns=4096, warps=8), long=Tile(rows=8, columns=1024, warps=2))


@triton.jit
def fp8_rows(x_ptr, w_ptr, scale_ptr, out_ptr, K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Reads the bytes through shared memory, four tiles ahead: carried in registers, each byte would fill one."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    columns = tl.arange(0, BK)
    tile = w_ptr + rows[:, None] * K + columns[None, :]
    acc = tl.zeros([BN, BK], tl.float32)
    for step in tl.range(0, (K + BK - 1) // BK, num_stages=4):
        at = step * BK + columns
        if K % BK == 0:
            w = tl.load(tile + step * BK, eviction_policy="evict_first")
        else:
            w = tl.load(tile + step * BK, mask=(at < K)[None, :], other=0, eviction_policy="evict_first")
        x = tl.load(x_ptr + at, mask=at < K, other=0).to(tl.float32)
        acc += w.to(tl.float8e4nv, bitcast=True).to(tl.float16).to(tl.float32) * x[None, :]
    y = tl.sum(acc, axis=1) * tl.load(scale_ptr + rows)
    tl.store(out_ptr + rows, y.to(out_ptr.dtype.element_ty))


def launch(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, out: torch.Tensor) -> None:
    n, k = weight.shape
    tile = TILES.for_rows_of(k)
    codes = weight.view(torch.int8)  # Triton's masked loads of fp8 take no `other`
    fp8_rows[(n // tile.rows,)](x, codes, scale, out, K=k, BN=tile.rows, BK=tile.columns_for(k), **tile.options)
