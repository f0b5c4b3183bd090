"""Checks whether transformers can load a checkpoint's own quantization here: the method is known, its packages installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from summarybench.core.outcomes import UnavailableError
from summarybench.engines.precision import quantization_config_of
from summarybench.machine.device import Device

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "aqlm": ("aqlm",),
    "auto-round": ("auto-round",),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed-tensors",),
    "eetq": ("kernels",),
    "gptq": ("optimum", "gptqmodel"),
    "hqq": ("hqq",),
    "quanto": ("optimum-quanto",),
    "torchao": ("torchao",),
    "vptq": ("vptq",),
}
"""The packages of PyPI that transformers needs for each method. transformers itself names only the first one it misses."""

FP8_KERNELS = "kernels"
"""What fp8 needs in addition on GPUs that compute with it. Elsewhere transformers unpacks the weights."""
FP8_METHODS = ("fp8", "mxfp8")
FP8_COMPUTE_CAPABILITY = (8, 9)
"""The first NVIDIA GPUs that convert fp8 in hardware (Ada and Hopper)."""


def check_quantization_can_be_loaded(location: str, config: Any, device: Device) -> None:
    """Raise UnavailableError, with one line that names what is missing, for a checkpoint quantized by an unusable method.

    Call it before weights are loaded: transformers ignores a method that it does not know.
    """
    stored = quantization_config_of(config)
    if stored is None:
        return
    method = str(stored.get("quant_method") or "bitsandbytes")
    missing = [package for package in _packages_for(method, device) if not _is_installed(package)]
    if missing:
        names = " and ".join(missing)
        what = "a package that is" if len(missing) == 1 else "packages that are"
        raise UnavailableError(
            f"{location}: needs {what} not installed: {names}, for its quantization ({method}); "
            f"pip install {' '.join(missing)}"
        )
    _check_method_is_known(location, method, stored)


def _packages_for(method: str, device: Device) -> tuple[str, ...]:
    if method in FP8_METHODS:
        return (FP8_KERNELS,) if (device.compute_capability() or (0, 0)) >= FP8_COMPUTE_CAPABILITY else ()
    return PACKAGES.get(method, ())


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _check_method_is_known(location: str, method: str, stored: Mapping[str, Any]) -> None:
    import transformers
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    bits = "4bit" if stored.get("load_in_4bit") else "8bit"
    if (f"{method}_{bits}" if method == "bitsandbytes" else method) not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise UnavailableError(
            f"{location}: transformers {transformers.__version__} does not know its quantization ({method}); a newer version "
            "may, or give the unquantized checkpoint"
        )
