"""NVML, NVIDIA's management library.

Values that a product or driver does not offer are None.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from summarybench.core.outcomes import DeviceInvalidError, DeviceLostError, InputError

HIDES_EVERY_GPU = ("", "-1")
"""Values of CUDA_VISIBLE_DEVICES that select the CPU."""
MIG_REMEDY = (
    "a MIG slice shares clocks, power and throttling with the rest of its GPU, which distorts its figures: "
    "measure a whole GPU, with MIG switched off (sudo nvidia-smi -mig 0)"
)


class NoNvmlError(Exception):
    """There is no NVIDIA driver, or it does not respond."""


@contextmanager
def opened_nvml() -> Iterator[Any]:
    """Initialize NVML and return the pynvml module. Raises NoNvmlError if that fails."""
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
    """Queries NVML about one GPU. `nvml` is pynvml, or its replacement in a test."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._lost = False

    def ask(self, query: str, *arguments: Any) -> Any:
        """The answer to one query; None if the product or driver does not offer it.

        Raises DeviceLostError for a lost GPU.
        """
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
    """Open the GPU with this UUID and keep NVML initialized.

    Raises DeviceInvalidError if NVML cannot open it.
    """
    try:
        nvml.nvmlInit()
        try:
            return NvmlGpu(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid))
        except nvml.NVMLError:
            nvml.nvmlShutdown()
            raise
    except nvml.NVMLError as error:
        raise DeviceInvalidError(
            f"NVML cannot open the {name} ({uuid}): {error}; check whether nvidia-smi still lists it"
        ) from error


def driver_version() -> str:
    """The driver's version; 'unknown' if NVML does not report it."""
    import pynvml

    try:
        with opened_nvml() as nvml:
            return str(nvml.nvmlSystemGetDriverVersion())
    except (NoNvmlError, pynvml.NVMLError):
        return "unknown"


def what_the_driver_offers() -> str:
    """The driver and its CUDA version, as 'driver 570.1 offers CUDA 12.8'."""
    import pynvml

    try:
        with opened_nvml() as nvml:
            driver, cuda = nvml.nvmlSystemGetDriverVersion(), nvml.nvmlSystemGetCudaDriverVersion_v2()
    except (NoNvmlError, pynvml.NVMLError) as error:
        return f"the driver does not report its CUDA version ({error})"
    return f"driver {driver} offers CUDA {cuda // 1000}.{cuda % 1000 // 10}"


def visible_index(nvml: Any, visible: str | None) -> int | None:
    """NVML's index of the first visible GPU.

    None if there is no GPU, or if all are hidden deliberately.

    Raises InputError if `visible`, the value of CUDA_VISIBLE_DEVICES, does not begin with a GPU of this machine.
    """
    uuids = [_uuid(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    if not any(uuids) or (visible is not None and visible.strip() in HIDES_EVERY_GPU):
        return None
    if visible is None:
        return next(index for index, uuid in enumerate(uuids) if uuid)
    first = visible.split(",")[0].strip()
    if first.startswith("MIG-"):
        raise InputError(f"CUDA_VISIBLE_DEVICES={visible}: {MIG_REMEDY}")
    if first.isdigit() and int(first) < len(uuids):
        return int(first)
    named = [index for index, uuid in enumerate(uuids) if first and uuid.startswith(first)]
    if not named:
        raise InputError(
            f"CUDA_VISIBLE_DEVICES={visible!r} does not begin with a GPU of this machine (0 to {len(uuids) - 1}, or a UUID that "
            "nvidia-smi -L lists): name one or unset it; empty, it selects the CPU"
        )
    return named[0]


def _uuid(nvml: Any, index: int) -> str:
    """A GPU's UUID; empty for one that cannot be opened, such as one that is lost. CUDA leaves such a GPU out too."""
    try:
        return str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index)))
    except nvml.NVMLError:
        return ""
