"""One NVIDIA GPU, through torch's CUDA allocator and NVML."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from summarybench.core.numbers import gib
from summarybench.core.outcomes import UnavailableError
from summarybench.machine.clock import Clock
from summarybench.machine.device import GIB, Device, DeviceRecord
from summarybench.machine.families import GPU_FAMILIES, major_and_minor
from summarybench.machine.nvml import MIG_REMEDY, driver_version, what_the_driver_offers
from summarybench.machine.probes import (
    COPY_BANDWIDTH,
    KERNEL_LAUNCHES,
    MATRIX_PRODUCT,
    Probe,
    copy_work,
    launch_work,
    matrix_product_work,
    repeated,
)
from summarybench.machine.telemetry import GpuMonitor, Monitor

LEAST_SHARE_OF_A_WHOLE_GPU = 0.9
"""The driver reserves some of the memory that NVML counts. A MIG slice has at most half, far below this share."""

CUDA_CONTEXT_BYTES = int(0.4 * GIB)
"""GPU memory that CUDA itself uses."""
BANDWIDTH_COPY_BYTES = 2 * 1024**3
PROBE_COPY_BYTES = 256 * 1024**2
PROBE_COPIES = 16
MATRIX_ROWS = 4096
MATRIX_PRODUCTS, FLOAT32_PRODUCTS = 16, 2
"""Queued together, so that a repetition takes milliseconds and the host can queue the timed one meanwhile. A float32
product takes ten times as long as a 16-bit one."""
LAUNCHES = 1000


@dataclass(frozen=True, slots=True)
class CudaProbes:
    """Copies, matrix products and kernel launches on a GPU.

    torch calls the GPU `device`.
    """

    device: str
    copy_bytes: ClassVar[int] = BANDWIDTH_COPY_BYTES

    def make(self, dtype: str) -> Mapping[str, Probe]:
        products = FLOAT32_PRODUCTS if dtype == "float32" else MATRIX_PRODUCTS
        return {
            COPY_BANDWIDTH: Probe(
                work=PROBE_COPIES * 2 * PROBE_COPY_BYTES,
                run=repeated(copy_work(PROBE_COPY_BYTES, self.device), PROBE_COPIES),
                is_of_device=True,
            ),
            MATRIX_PRODUCT: Probe(
                work=products * 2 * MATRIX_ROWS**3,
                run=repeated(matrix_product_work(MATRIX_ROWS, dtype, self.device), products),
                is_of_device=True,
            ),
            KERNEL_LAUNCHES: self.of_host(),
        }

    def of_host(self) -> Probe:
        return Probe(work=LAUNCHES, run=launch_work(LAUNCHES, self.device))

    def own_seconds(self, run: Callable[[], object]) -> float:
        """Time the second of two queued repetitions with CUDA events.

        The host queues it while the first one runs, so that neither a busy host nor its waiting is in the figure.
        """
        import torch

        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        run()
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaDevice(Device):
    """The first GPU that this process sees. Memory is what torch's allocator counts.

    `capability` is its compute capability as NVML states it; None asks torch.
    """

    capability: tuple[int, int] | None = None

    is_host = False
    is_shared_by_processes = False
    counts_process_memory = False
    affords_large_samples = True
    gains_from_large_batches = True
    collective_backend = "nccl"
    context_bytes = CUDA_CONTEXT_BYTES
    int8_input_dtype = "float16"
    # cuDNN's attention builds a plan for each new length, and so at each step of a new document. On an H100 that takes 84 ms
    # per token instead of 27, nearly all of it for building plans.
    eager_attention = "sdpa without cuDNN"

    @property
    def training_dtype(self) -> str:
        return "bfloat16" if self.compute_dtype == "bfloat16" else "float32"

    @property
    def compiles_decoding(self) -> bool:
        """True with bfloat16: both need compute capability 8.0."""
        return self.compute_dtype == "bfloat16"

    def clock(self) -> Clock:
        # By default CUDA orders GPUs by speed, and NVML by their bus, as nvidia-smi does.
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

    def compute_capability(self) -> tuple[int, int] | None:
        own = self.capability or _capability_from_torch()
        if not self.stands_in or self.family not in GPU_FAMILIES:
            return own
        return min(own, major_and_minor(GPU_FAMILIES[self.family].compute_capability))

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
        """Collect garbage, and release torch's cache and cuBLAS's workspace.

        cuBLAS allocates its workspace with its first product.
        """
        gc.collect()
        import torch

        torch._C._cuda_clearCublasWorkspaces()  # torch has no public name for it
        torch.cuda.empty_cache()

    @property
    def probes(self) -> CudaProbes:
        return CudaProbes(self.torch_name)

    def divide_among(self, processes: int) -> None:
        """Do nothing: each process has a GPU of its own."""

    def sharing_warning(self, holder: str) -> str:
        return (
            f"warning: {holder} is using this GPU: figures of both will be invalid; "
            "wait for its end, or choose another GPU with CUDA_VISIBLE_DEVICES"
        )


def _capability_from_torch() -> tuple[int, int]:
    import torch

    found: tuple[int, int] = torch.cuda.get_device_capability(0)
    return found


def _why_torch_has_no_gpu(device: DeviceRecord, torch_version: str, torch_cuda: str | None) -> str:
    built = f"built for CUDA {torch_cuda}" if torch_cuda else "built without CUDA"
    return (
        f"torch {torch_version} cannot use the {device.name}: it is {built}, and {what_the_driver_offers()}; update the driver, or install "
        "a torch built for its CUDA (https://pytorch.org/get-started/locally)"
    )


def check_same_gpu(device: DeviceRecord, properties: Any) -> None:
    """Raise UnavailableError if torch and NVML disagree on the first GPU.

    `properties` describe torch's GPU, `device` NVML's.
    """
    if device.gpus_in_machine > 1 and str(properties.uuid).removeprefix("GPU-") != device.uuid.removeprefix("GPU-"):
        raise UnavailableError(
            f"torch's first GPU is the {properties.name} ({properties.uuid}), and NVML's is the {device.name} ({device.uuid}): "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the GPU by its UUID in CUDA_VISIBLE_DEVICES"
        )
    # --memory-limit lowers the device's figure, not torch's, so that only a slice can have less.
    if properties.total_memory < LEAST_SHARE_OF_A_WHOLE_GPU * device.memory_bytes:
        raise UnavailableError(
            f"torch sees {gib(properties.total_memory, 1)} of the {gib(device.memory_bytes, 1)} GiB of the {device.name}: "
            f"{MIG_REMEDY}"
        )
