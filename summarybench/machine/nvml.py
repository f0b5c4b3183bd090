"""NVML, NVIDIA's management library: opened here, and asked so that what it does not answer is None."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from summarybench.core.outcomes import DeviceInvalidError, DeviceLostError, InputError

HIDES_EVERY_GPU = ("", "-1")
"""Values of CUDA_VISIBLE_DEVICES that ask for the CPU."""
MIG_REMEDY = (
    "a MIG slice shares its GPU's clocks, power and throttling, so that no figure would be its own: "
    "measure a whole GPU, with MIG switched off (sudo nvidia-smi -mig 0)"
)


class NoNvmlError(Exception):
    """There is no NVIDIA driver, or it does not answer."""


@contextmanager
def opened_nvml() -> Iterator[Any]:
    """The pynvml module while NVML is initialized. Raises NoNvmlError where it cannot be."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoNvmlError(str(error)) from error
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


class NvmlGpu:
    """NVML's answers about one GPU. `nvml` is pynvml, or what replaces it in a test."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._lost = False

    def ask(self, query: str, *arguments: Any) -> Any:
        """One answer; None where this product or driver does not offer it. Raises DeviceLostError once the GPU is lost."""
        try:
            return getattr(self._nvml, query)(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            gone = isinstance(error, self._nvml.NVMLError_GpuIsLost)
            self._lost = self._lost or gone
            if gone or (self._lost and isinstance(error, self._nvml.NVMLError_Unknown)):
                raise DeviceLostError(f"the GPU was lost: {error}; the records before it are kept") from error
            return None

    def watts(self, query: str) -> float | None:
        milliwatts = self.ask(query)
        return None if milliwatts is None else milliwatts / 1000


def open_gpu(nvml: Any, name: str, uuid: str) -> NvmlGpu:
    """The GPU with this UUID; NVML stays initialized for it. Raises DeviceInvalidError where NVML cannot open it."""
    try:
        nvml.nvmlInit()
        try:
            return NvmlGpu(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid))
        except nvml.NVMLError:
            nvml.nvmlShutdown()
            raise
    except nvml.NVMLError as error:
        raise DeviceInvalidError(
            f"NVML cannot open the {name} ({uuid}): {error}; see whether nvidia-smi still lists it"
        ) from error


def driver_version() -> str:
    """The driver's version; 'unknown' where NVML does not say."""
    import pynvml

    try:
        with opened_nvml() as nvml:
            return str(nvml.nvmlSystemGetDriverVersion())
    except (NoNvmlError, pynvml.NVMLError):
        return "unknown"


def what_the_driver_offers() -> str:
    """'driver 570.1 offers CUDA 12.8'."""
    import pynvml

    try:
        with opened_nvml() as nvml:
            driver, cuda = nvml.nvmlSystemGetDriverVersion(), nvml.nvmlSystemGetCudaDriverVersion_v2()
    except (NoNvmlError, pynvml.NVMLError) as error:
        return f"the driver does not say what it offers ({error})"
    return f"driver {driver} offers CUDA {cuda // 1000}.{cuda % 1000 // 10}"


def visible_index(nvml: Any, visible: str | None) -> int | None:
    """NVML's index of the first visible GPU; None where the machine has none, or all are hidden on purpose."""
    uuids = [
        str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index)))
        for index in range(nvml.nvmlDeviceGetCount())
    ]
    if not uuids or (visible is not None and visible.strip() in HIDES_EVERY_GPU):
        return None
    if visible is None:
        return 0
    first = visible.split(",")[0].strip()
    if first.startswith("MIG-"):
        raise InputError(f"CUDA_VISIBLE_DEVICES={visible}: {MIG_REMEDY}")
    if first.isdigit() and int(first) < len(uuids):
        return int(first)
    named = [index for index, uuid in enumerate(uuids) if first and uuid.startswith(first)]
    if not named:
        raise InputError(
            f"CUDA_VISIBLE_DEVICES={visible!r} begins with none of this machine's GPUs (0 to {len(uuids) - 1}, or a UUID that "
            "nvidia-smi -L lists): name one, or unset it; empty, it measures on the CPU"
        )
    return named[0]
