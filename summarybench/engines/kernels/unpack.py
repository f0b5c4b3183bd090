"""Unpacking a quantized weight matrix to 16 bits.

Products with many rows of activations need it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from summarybench.engines.kernels.mantissa import signed_bytes

WORDS_A_PROGRAM = 1024
GROUPS_A_PROGRAM = 64


@triton.jit
def unpack_bytes(w_ptr, scale_ptr, out_ptr, K: tl.constexpr, BW: tl.constexpr, FP8: tl.constexpr):
    """Unpack one row per program: fp8 with its scale, or int8 without.

    `quantize.packed_for_rows` has arranged the int8 weights.
    """
    row = tl.program_id(0).to(tl.int64)
    WORDS: tl.constexpr = K // 4
    if FP8:
        at = tl.program_id(1) * BW * 4 + tl.arange(0, BW * 4)
        code = tl.load(w_ptr + row * K + at, mask=at < K, other=0)
        value = code.to(tl.float8e4nv, bitcast=True).to(tl.float16).to(tl.float32) * tl.load(scale_ptr + row)
        tl.store(out_ptr + row * K + at, value.to(out_ptr.dtype.element_ty), mask=at < K)
    else:
        word = tl.program_id(1) * BW + tl.arange(0, BW)
        w = tl.load(w_ptr + row * WORDS + word, mask=word < WORDS, other=0)
        out = out_ptr + row * K + word
        values = signed_bytes(w)
        for j in tl.static_range(4):
            tl.store(out + j * WORDS, values[j].to(out_ptr.dtype.element_ty), mask=word < WORDS)


@triton.jit
def unpack_int4(w_ptr, scale_ptr, zero_ptr, out_ptr, K: tl.constexpr, BG: tl.constexpr):
    """BG groups of one row per program, scaled. A thread has weights that are stored side by side."""
    row = tl.program_id(0).to(tl.int64)
    GROUPS: tl.constexpr = (K + 63) // 64
    group = tl.program_id(1) * BG + tl.arange(0, BG)
    weight = tl.arange(0, 64)
    inside = group < GROUPS
    words = w_ptr + row * GROUPS * 8 + group[:, None] * 8 + (weight % 8)[None, :]
    w = tl.load(words, mask=inside[:, None], other=0)
    scale = tl.load(scale_ptr + row * GROUPS + group, mask=inside, other=0).to(tl.float32)
    zero = tl.load(zero_ptr + row * GROUPS + group, mask=inside, other=0).to(tl.float32)
    code = ((w >> (weight // 8 * 4)[None, :]) & 15).to(tl.float32)
    value = (code - zero[:, None]) * scale[:, None]
    at = group[:, None] * 64 + weight[None, :]
    tl.store(out_ptr + row * K + at, value.to(out_ptr.dtype.element_ty), mask=at < K)


def int8_unpacked(packed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return _unpacked_bytes(packed.view(torch.int32), packed, packed.shape, dtype)


def fp8_unpacked(weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return _unpacked_bytes(weight.view(torch.int8), scale, weight.shape, dtype)


def _unpacked_bytes(codes: torch.Tensor, scale: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    out = torch.empty(shape, dtype=dtype, device=codes.device)
    n, k = shape
    grid = (n, triton.cdiv(k // 4, WORDS_A_PROGRAM))
    unpack_bytes[grid](codes, scale, out, K=k, BW=WORDS_A_PROGRAM, FP8=codes.dtype is torch.int8, num_warps=4)
    return out


def int4_unpacked(
    weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, row_length: int, dtype: torch.dtype
) -> torch.Tensor:
    n, groups = scale.shape
    out = torch.empty((n, row_length), dtype=dtype, device=weight.device)
    grid = (n, triton.cdiv(groups, GROUPS_A_PROGRAM))
    unpack_int4[grid](weight, scale, zero, out, K=row_length, BG=GROUPS_A_PROGRAM, num_warps=4)
    return out
