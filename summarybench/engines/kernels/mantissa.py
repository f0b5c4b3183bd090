"""Small integers to floats without a conversion instruction.

A GPU of compute capability 8 or 9 converts integers at 16 a clock and SM, far below the rate at which memory delivers
8-bit or 4-bit weights. Instead the integer's bits become mantissa bits: (word & mask) | exponent is one LOP3, and a
subtraction of the exponent's value leaves the integer.
"""

from __future__ import annotations

import os

import triton
import triton.language as tl

USES_PTX = tl.constexpr(os.environ.get("TRITON_INTERPRET") != "1")
"""The interpreter knows no inline assembly."""
SIGN_BITS = tl.constexpr(-2139062144)  # 0x80808080: flipping the sign bits adds 128 to each byte


@triton.jit
def masked_bits(word, mask: tl.constexpr, exponent: tl.constexpr):
    """(word & mask) | exponent as float32. Inline assembly, because ptxas would make two instructions of it."""
    if USES_PTX:
        return tl.inline_asm_elementwise(
            f"lop3.b32 $0, $1, {mask}, {exponent}, 0xEA;", "=f,r", [word], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return ((word & mask) | exponent).to(tl.float32, bitcast=True)


@triton.jit
def signed_bytes(word):
    """The four signed bytes of int32 words as float32, the lowest byte first."""
    # An exponent before the last byte makes 2**23 + byte of it, before the last but one 2**15 + byte.
    word = word ^ SIGN_BITS
    first = masked_bits(word, 0xFF, 0x4B000000) - (8388608.0 + 128)
    second = masked_bits(word, 0xFF00, 0x47000000) - (32768.0 + 128)
    third = masked_bits(word >> 16, 0xFF, 0x4B000000) - (8388608.0 + 128)
    fourth = masked_bits(word >> 16, 0xFF00, 0x47000000) - (32768.0 + 128)
    return first, second, third, fourth
