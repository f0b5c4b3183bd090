"""One NVIDIA GPU, through torch's CUDA allocator and NVML."""

from __future__ import annotations

import gc
import os
from typing import Any

from summarybench.core.outcomes import UnavailableError
from summarybench.machine.clock import Clock
from summarybench.machine.device import GIB, Device, DeviceRecord
from summarybench.machine.nvml import MIG_REMEDY, driver_version, what_the_driver_offers
from summarybench.machine.telemetry import GpuMonitor, Monitor

LEAST_SHARE_OF_A_WHOLE_GPU = 0.9
"""The driver keeps some of what NVML counts for itself; a slice of half a GPU or less is surely below this."""


class CudaDevice(Device):
    """The first GPU that this process sees. Memory is what torch's allocator counts."""

    __slots__ = ()

    def clock(self) -> Clock:
        # CUDA counts the fastest GPU first unless told otherwise, and NVML, like nvidia-smi, by the bus.
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        import torch

        if not torch.cuda.is_available():
            raise UnavailableError(_why_torch_has_no_gpu(self, str(torch.__version__), torch.version.cuda))
        check_same_gpu(self, torch.cuda.get_device_properties(0))
        return Clock(lambda: torch.cuda.synchronize(0))

    def monitor(self) -> Monitor:
        return GpuMonitor(self)

    def driver_version(self) -> str | None:
        return driver_version()

    def reset_peak_memory(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(0)

    def peak_memory_bytes(self) -> int:
        import torch

        return int(torch.cuda.max_memory_allocated(0))

    def allocated_memory_bytes(self) -> int | None:
        import torch

        return int(torch.cuda.memory_allocated(0))

    def free_memory_bytes(self) -> int:
        import torch

        allocated = torch.cuda.memory_allocated(0)
        free = torch.cuda.mem_get_info(0)[0] + torch.cuda.memory_reserved(0) - allocated
        return int(min(free, self.memory_bytes - allocated))

    def hold_to_memory_limit(self) -> None:
        if self.is_limited:
            import torch

            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, self.memory_bytes / total), 0)

    def release_memory(self) -> None:
        """Collect garbage, empty torch's cache, and free the workspace that cuBLAS keeps from its first product on."""
        gc.collect()
        import torch

        torch._C._cuda_clearCublasWorkspaces()  # torch has no public name for it
        torch.cuda.empty_cache()


def _why_torch_has_no_gpu(device: DeviceRecord, torch_version: str, torch_cuda: str | None) -> str:
    built = f"built for CUDA {torch_cuda}" if torch_cuda else "built without CUDA"
    return (
        f"torch {torch_version} cannot use the {device.name}: it is {built}, and {what_the_driver_offers()}; update the driver, or install "
        "a torch built for its CUDA (https://pytorch.org/get-started/locally)"
    )


def check_same_gpu(device: DeviceRecord, properties: Any) -> None:
    """Raises UnavailableError where torch's first GPU, given by its properties, is not the device that NVML described."""
    if device.gpus_in_machine > 1 and str(properties.uuid).removeprefix("GPU-") != device.uuid.removeprefix("GPU-"):
        raise UnavailableError(
            f"torch's first GPU is the {properties.name} ({properties.uuid}), and NVML's is the {device.name} ({device.uuid}): "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the GPU by its UUID in CUDA_VISIBLE_DEVICES"
        )
    # --memory-limit lowers the device's figure, never torch's: only a slice can have less.
    if properties.total_memory < LEAST_SHARE_OF_A_WHOLE_GPU * device.memory_bytes:
        raise UnavailableError(
            f"torch sees {properties.total_memory / GIB:.1f} of the {device.memory_bytes / GIB:.1f} GiB of the {device.name}: "
            f"{MIG_REMEDY}"
        )
