"""Weight-only quantization to 4 or 8 bits at load, without calibration data.

Activations keep 16 bits.

- int4 group 64: each group of 64 weights in a row has a scale and a zero point, from its smallest and largest weight.
- fp8 e4m3: each row has a scale, from its largest absolute weight.

This module imports torch, so import it only when a model is loaded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear, pad

from summarybench.catalogue.models import FP8_WEIGHTS, INT4_GROUPS

GROUP = 64
LARGEST_CODE = 15
LARGEST_E4M3 = 448.0
SMALLEST_SCALE = 2.0**-24
"""float16's smallest positive number: the scale of weights that are all zero."""


class Int4GroupLinear(torch.nn.Module):
    """A linear layer with int4 weights in groups.

    `weight` is [out, words] in int32; `scale` and `zero` are [out, groups] in float16.

    A weight is (code - zero) · scale; nibble j of word i of a group is the group's weight j·8 + i.
    """

    def __init__(self, weight: Any, scale: Any, zero: Any, in_features: int, bias: Any) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, weight.shape[0]
        self.weight, self.scale, self.zero = (_parameter(each) for each in (weight, scale, zero))
        self.bias = bias

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """The dequantized matrix [out, in]."""
        if _has_kernels(self.weight):
            from summarybench.engines.kernels.unpack import int4_unpacked

            return int4_unpacked(self.weight.data, self.scale.data, self.zero.data, self.in_features, dtype)
        return int4_values(self.weight, self.scale, self.zero)[:, : self.in_features].to(dtype)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return linear(activations, self.dense(activations.dtype), self.bias)


class Fp8WeightOnlyLinear(torch.nn.Module):
    """A linear layer: `weight` [out, in] in float8 e4m3, `scale` [out] in float32."""

    def __init__(self, weight: Any, scale: Any, bias: Any) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight, self.scale = _parameter(weight), _parameter(scale)
        self.bias = bias

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """The dequantized matrix [out, in]."""
        if _has_kernels(self.weight):
            from summarybench.engines.kernels.unpack import fp8_unpacked

            return fp8_unpacked(self.weight.data, self.scale.data, dtype)
        return (self.weight.float() * self.scale[:, None]).to(dtype)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return linear(activations, self.dense(activations.dtype), self.bias)


def _parameter(tensor: Any) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)


def _has_kernels(weight: Any) -> bool:
    """Whether a Triton kernel unpacks the weights.

    It does on a GPU, unless inductor generates its own kernel.
    """
    return bool(weight.is_cuda) and not torch.compiler.is_compiling()


def int4_layer(weight: torch.Tensor, bias: Any) -> Int4GroupLinear:
    """Quantize weights [out, in].

    The last group of a row may be shorter than the others.
    """
    rows, length = weight.shape
    grouped = pad(weight.float(), (0, -length % GROUP)).view(rows, -1, GROUP)
    low, high = grouped.amin(2).clamp(max=0), grouped.amax(2).clamp(min=0)  # the range must contain zero
    scale = ((high - low) / LARGEST_CODE).clamp(min=SMALLEST_SCALE).half()
    zero = (-low / scale.float()).half()  # not rounded to an integer, which would shift the range by up to half a step
    codes = (grouped / scale.float()[:, :, None] + zero.float()[:, :, None]).round().clamp(0, LARGEST_CODE)
    return Int4GroupLinear(_packed_nibbles(codes.to(torch.int32)), scale, zero, length, bias)


def _packed_nibbles(codes: torch.Tensor) -> torch.Tensor:
    """Pack int32 codes [out, groups, 64] into int32 words [out, words]."""
    planes = codes.view(codes.shape[0], -1, 8, GROUP // 8)
    words = planes[:, :, 0].clone()
    for j in range(1, 8):
        words |= planes[:, :, j] << 4 * j
    return words.view(codes.shape[0], -1)


def int4_values(weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    """Dequantize to float32 [out, in], with `in` padded to whole groups."""
    rows, groups = scale.shape
    shifts = 4 * torch.arange(8, device=weight.device, dtype=torch.int32)
    codes = (weight.view(rows, groups, 1, GROUP // 8) >> shifts[:, None]) & 15
    values = (codes.view(rows, groups, GROUP).float() - zero.float()[:, :, None]) * scale.float()[:, :, None]
    return values.view(rows, groups * GROUP)


def fp8_layer(weight: torch.Tensor, bias: Any) -> Fp8WeightOnlyLinear:
    """Quantize weights [out, in]."""
    scale = (weight.float().abs().amax(1) / LARGEST_E4M3).clamp(min=SMALLEST_SCALE)
    return Fp8WeightOnlyLinear((weight.float() / scale[:, None]).to(torch.float8_e4m3fn), scale, bias)


def packed_for_rows(codes: torch.Tensor) -> torch.Tensor:
    """Rearrange 8-bit weights [out, in] within rows.

    Byte j of int32 word i becomes weight j·in/4 + i.
    """
    rows, length = codes.shape
    return codes.view(rows, 4, length // 4).transpose(1, 2).reshape(rows, length)


def unpacked_rows(packed: torch.Tensor) -> torch.Tensor:
    """The reverse of `packed_for_rows`."""
    rows, length = packed.shape
    return packed.view(rows, length // 4, 4).transpose(1, 2).reshape(rows, length)


LAYERS = {INT4_GROUPS: int4_layer, FP8_WEIGHTS: fp8_layer}


def quantize_on(device: Any, model: Any, quantization: str) -> None:
    """Quantize a model's linear layers on the device, one at a time.

    The rest of the model is moved there afterwards.

    The output head is not quantized. The model must be on the CPU, so that the device never holds its 16-bit weights.
    """
    head = model.get_output_embeddings()
    layers = [
        (name, each) for name, each in model.named_modules() if type(each) is torch.nn.Linear and each is not head
    ]
    with torch.no_grad():
        for name, layer in layers:
            bias = None if layer.bias is None else _parameter(layer.bias.data.to(device))
            model.set_submodule(name, LAYERS[quantization](layer.weight.data.to(device), bias))
        model.to(device)
