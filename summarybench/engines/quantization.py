"""From a loader's settings to a quantized model on its device.

transformers and bitsandbytes quantize, or this project's own layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from summarybench.catalogue.models import FP8_WEIGHTS, WEIGHT_ONLY
from summarybench.core.outcomes import UnavailableError
from summarybench.engines.engine import JsonScalar
from summarybench.engines.precision import stored_settings
from summarybench.engines.pretrained import load_causal_lm
from summarybench.engines.quantization_packages import FP8_COMPUTE_CAPABILITY
from summarybench.engines.weights import Weights
from summarybench.engines.workspace import EAGER_ATTENTION
from summarybench.machine.device import Device

CPU_TILE_ROWS = 32
"""The rows of weights that bitsandbytes' kernel for bf16 AVX-512 multiplies together."""


def load_quantized(weights: Weights, settings: Mapping[str, JsonScalar], config: Any, device: Device) -> Any:
    """Load the model onto one device and quantize it.

    On a single device nothing can be offloaded.

    Raises UnavailableError if the device cannot compute with this quantization.
    """
    quantization = settings.get("quantization")
    if quantization == FP8_WEIGHTS:
        _check_fp8(device)
    place = device.placement
    model = load_causal_lm(
        weights.location,
        dtype=str(settings["dtype"]),
        attn_implementation=EAGER_ATTENTION if settings.get("attention") == EAGER_ATTENTION else "sdpa",
        device_map={"": "cpu" if quantization in WEIGHT_ONLY else place},
        **quantization_options(settings, config),
    )
    if quantization in ("nf4", "fp4"):
        _unpack_what_cpu_kernels_cannot_multiply(model)
    if quantization == "int8 weights":
        from summarybench.engines.weight_only import compute_in_16_bits

        compute_in_16_bits(model)
    elif quantization in WEIGHT_ONLY:
        from summarybench.engines.quantize import quantize_on

        quantize_on(place, model, str(quantization))
    return model


def _unpack_what_cpu_kernels_cannot_multiply(model: Any) -> None:
    """Make layers of odd shapes unpack their weights for each product, as all layers do on CPUs without bf16 AVX-512.

    With bf16 AVX-512, bitsandbytes 0.50 rearranges the weights in the first forward pass (`_convert_weight_packed_for_cpu`) and
    fails with an AssertionError or a RuntimeError where blocks of weights do not fill whole rows, or rows whole tiles.
    """
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None and (module.in_features % state.blocksize or module.out_features % CPU_TILE_ROWS):
            module.support_avx512bf16_for_cpu = False


def _check_fp8(device: Device) -> None:
    """Raise UnavailableError for a GPU that cannot convert fp8.

    The catalogue does not know every GPU family.
    """
    found = device.compute_capability()
    if found is not None and found < FP8_COMPUTE_CAPABILITY:
        needed, seen = (".".join(map(str, each)) for each in (FP8_COMPUTE_CAPABILITY, found))
        raise UnavailableError(
            f"fp8 needs a GPU of compute capability {needed} or newer, and this one has {seen}: measure w8a16-compiled"
        )


def quantization_options(settings: Mapping[str, JsonScalar], config: Any) -> dict[str, Any]:
    """The options that make transformers quantize with bitsandbytes.

    Empty for a checkpoint that is already quantized.
    """
    if settings.get("quantization") in (None, *WEIGHT_ONLY) or stored_settings(config) is not None:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    if settings["quantization"] in ("llm.int8", "int8 weights"):
        chosen = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=settings.get("threshold", 0.0))
    else:
        chosen = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=settings["quantization"],
            bnb_4bit_compute_dtype=getattr(torch, str(settings["compute_dtype"])),
            bnb_4bit_use_double_quant=settings["double_quantization"],
        )
    return {"quantization_config": chosen}
