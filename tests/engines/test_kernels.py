"""Triton kernels against float64: on a GPU where there is one, and in Triton's interpreter elsewhere.

Triton comes with torch's CUDA wheels. It is not among the requirements of the tests, because the wheel has 190 MB:
`pip install triton` on a machine without a GPU makes these tests run instead of being skipped.
"""

from __future__ import annotations

import importlib
import os

import pytest
import torch

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
pytest.importorskip("triton", reason="Triton is not installed (it comes with torch for CUDA): kernels cannot run here")

DEVICE = "cuda" if ON_GPU else "cpu"
OVERLAPS = (False, True) if ON_GPU and torch.cuda.get_device_capability() >= (9, 0) else (False,)
HAS_FP8 = not ON_GPU or torch.cuda.get_device_capability() >= (8, 9)
SEVEN_BILLION = [(4096, 4096), (4096, 11008)] if ON_GPU else []
SHAPES = [(16, 512), (24, 192), (8, 64), (16, 576), *SEVEN_BILLION]
"""Rows and columns: a whole tile, parts of one, and on a GPU those of a 7B model, in both shape classes."""
DTYPES = {"float16": 4e-4, "bfloat16": 8e-3, "float32": 2e-4}
"""Types of the activations, and the error allowed: a rounding of the result (the interpreter cuts bfloat16 off instead),
and in float32 what `int4_rows` gives up for having no conversion instruction."""

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
whether_it_overlaps = pytest.mark.parametrize("overlaps", OVERLAPS, ids=lambda overlaps: "overlaps" if overlaps else "")
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def kernel(name):
    return importlib.import_module(f"summarybench.engines.kernels.{name}")


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def row_and_result(shape, dtype):
    x = drawn(shape[1], seed=1).to(getattr(torch, dtype))
    return x, torch.full((shape[0],), float("nan"), dtype=x.dtype, device=DEVICE)


def assert_product(out, weight, x, dtype):
    expected = weight.double() @ x.double()
    assert (out.double() - expected).norm() / expected.norm() < DTYPES[dtype]


@every_shape
@every_dtype
@whether_it_overlaps
def test_plain_rows(shape, dtype, overlaps):
    x, out = row_and_result(shape, dtype)
    weight = drawn(*shape).to(x.dtype)
    kernel("plain_rows").launch(x, weight, out, overlaps=overlaps)
    assert_product(out, weight, x, dtype)


@every_shape
@every_dtype
@whether_it_overlaps
def test_int8_rows_read_packed_codes(shape, dtype, overlaps):
    from summarybench.engines.quantize import packed_for_rows, unpacked_rows

    x, out = row_and_result(shape, dtype)
    codes = (drawn(*shape) * 60).clamp(-128, 127).to(torch.int8)
    codes[0, :2] = torch.tensor([-128, 127])
    scale = drawn(shape[0]).abs()
    packed = packed_for_rows(codes)
    kernel("int8_rows").launch(x, packed, scale, out, overlaps=overlaps)
    assert_product(out, codes.double() * scale.double()[:, None], x, dtype)
    assert unpacked_rows(packed).equal(codes)
    assert kernel("unpack").int8_unpacked(packed, x.dtype).double().equal(codes.double())


@pytest.mark.skipif(not HAS_FP8, reason="fp8 needs compute capability 8.9")
@every_shape
@every_dtype
def test_fp8_rows(shape, dtype):
    x, out = row_and_result(shape, dtype)
    codes, scale = (drawn(*shape) * 100).clamp(-448, 448).to(torch.float8_e4m3fn), drawn(shape[0]).abs() / 100
    kernel("fp8_rows").launch(x, codes, scale, out)
    weight = codes.double() * scale.double()[:, None]
    assert_product(out, weight, x, dtype)
    unpacked = kernel("unpack").fp8_unpacked(codes, scale, x.dtype)
    assert (unpacked.double() - weight).norm() / weight.norm() < DTYPES[dtype]


@every_shape
@every_dtype
@whether_it_overlaps
def test_int4_rows_in_groups_of_64_the_last_of_which_may_be_shorter(shape, dtype, overlaps):
    from summarybench.engines.quantize import int4_layer, int4_values

    x, out = row_and_result(shape, dtype)
    layer = int4_layer(drawn(*shape) * 0.02 + 0.01, None)
    parts = layer.weight.data, layer.scale.data, layer.zero.data
    kernel("int4_rows").launch(x, *parts, out, overlaps=overlaps)
    weight = int4_values(*parts)[:, : shape[1]]
    assert_product(out, weight, x, dtype)
    unpacked = kernel("unpack").int4_unpacked(*parts, shape[1], x.dtype)
    assert (unpacked.double() - weight.double()).norm() / weight.norm() < DTYPES[dtype]


@every_shape
@every_dtype
def test_nf4_rows_read_the_bytes_of_bitsandbytes(shape, dtype):
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    from summarybench.engines.row_operators import nf4_ordered

    x, out = row_and_result(shape, dtype)
    packed, state = quantize_4bit(drawn(*shape), blocksize=64, quant_type="nf4")
    words, scale = packed.view(shape[0], -1).view(torch.int32), state.absmax.view(shape[0], -1)
    kernel("nf4_rows").launch(nf4_ordered(x), words, scale, state.code.float(), out)
    assert_product(out, dequantize_4bit(packed, state), x, dtype)


@pytest.mark.parametrize(("heads", "key_heads", "width", "tokens"), [(4, 2, 16, 128), (9, 3, 64, 320), (8, 8, 128, 64)])
@pytest.mark.parametrize("dtype", DTYPES)
@whether_it_overlaps
def test_attention_of_one_token_rotates_writes_the_cache_and_attends_to_it(
    heads, key_heads, width, tokens, dtype, overlaps
):
    from summarybench.engines.row_operators import attend_one_token, scratch_elements

    dtype_of_all = getattr(torch, dtype)
    keys, values = (drawn(1, key_heads, tokens, width, seed=seed).to(dtype_of_all) for seed in (1, 2))
    scratch = torch.zeros(scratch_elements(heads, tokens, width), device=DEVICE)
    for slot in (1, tokens // 2 - 1, tokens // 2, tokens - 1):
        qkv = drawn((heads + 2 * key_heads) * width, seed=slot).to(dtype_of_all)
        rotation = drawn(2, width, seed=slot + 1).to(dtype_of_all)
        beside = [each.cpu().clone() for each in (qkv, keys, values, rotation, torch.tensor([slot]), scratch)]
        expected = attend_one_token(*beside, overlaps=False)
        out = torch.full((heads * width,), float("nan"), dtype=dtype_of_all, device=DEVICE)
        where = torch.tensor([slot], device=DEVICE)
        kernel("attention_row").launch(qkv, keys, values, rotation, where, scratch, out, overlaps=overlaps)
        difference = out.cpu().double() - expected.double()
        assert difference.norm() / expected.double().norm() < 3 * DTYPES[dtype]  # query, key and result are rounded
        torch.testing.assert_close(keys.cpu().float(), beside[1].float(), rtol=2 * DTYPES[dtype], atol=1e-5)
        assert values.cpu().equal(beside[2])


@pytest.mark.parametrize("key_heads", [4, 1], ids=["own keys", "grouped heads"])
@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_attention_pages(key_heads, splits, dtype, monkeypatch):
    """Sequences of no token, of a part of a page, of whole pages and of parts, with pages in any order."""
    module = kernel("attention_pages")
    monkeypatch.setattr(module, "PROGRAMS", splits * 4 * key_heads)
    element = getattr(torch, dtype)
    lengths = torch.tensor([0, 5, 128, 150], dtype=torch.int32, device=DEVICE)
    table = torch.tensor([[0, 0, 0], [3, 0, 0], [7, 1, 0], [2, 6, 4]], dtype=torch.int32, device=DEVICE)
    queries = drawn(4, 4, 32, seed=1).to(element)
    keys, values = (drawn(8, key_heads, 64, 32, seed=seed).to(element) for seed in (2, 3))
    out = module.launch(queries, keys, values, table, lengths, 0.2)
    assert not out[0].any()
    for sequence, length in enumerate(lengths.tolist()[1:], start=1):
        read = [each[table[sequence].long()].transpose(0, 1).reshape(key_heads, -1, 32) for each in (keys, values)]
        keys_here, values_here = (each[:, :length].double() for each in read)
        scores = queries[sequence].view(key_heads, -1, 32).double() @ keys_here.transpose(1, 2) * 0.2
        expected = (scores.softmax(-1) @ values_here).view(4, 32)
        assert (out[sequence].double() - expected).norm() / expected.norm() < 2e-3
