"""Choosing the device of a session.

NVML is asked instead of torch, whose import takes seconds.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from summarybench.core.outcomes import InputError, first_line
from summarybench.machine.control_groups import limits
from summarybench.machine.cpu import cpu_facts, has_avx512, has_bfloat16
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.device import Device, slugify
from summarybench.machine.families import CPU_FAMILY, family_of
from summarybench.machine.nvml import HIDES_EVERY_GPU, NoNvmlError, NvmlGpu, opened_nvml, visible_index


def detect_device(environment: Mapping[str, str] = os.environ) -> Device:
    """The first visible GPU, or the CPU if there is none.

    CUDA_VISIBLE_DEVICES decides which GPUs are visible.

    Raises InputError if there is a GPU but its driver does not respond, or if CUDA_VISIBLE_DEVICES does not name an existing
    GPU. Only '' and -1 select the CPU.
    """
    return _detect_gpu(environment.get("CUDA_VISIBLE_DEVICES")) or _detect_cpu(environment)


def leave_one_gpu_visible(place: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Hide all visible GPUs except one from this process.

    The GPU at this place becomes the process's first GPU.

    Call it before torch is imported. Does nothing without visible GPUs. Raises InputError if fewer GPUs are visible.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    with suppress(NoNvmlError), opened_nvml() as nvml:  # `detect_device` reports a driver that does not respond
        if visible_index(nvml, visible) is None:
            return
        names = [str(index) for index in range(nvml.nvmlDeviceGetCount())] if visible is None else visible.split(",")
        if place >= len(names):
            raise InputError(
                f"process {place} of this machine has no GPU: {len(names)} are visible; start at most as many processes here"
            )
        handle = nvml.nvmlDeviceGetHandleByIndex(visible_index(nvml, names[place]))
        environment["CUDA_VISIBLE_DEVICES"] = str(nvml.nvmlDeviceGetUUID(handle))


def _detect_gpu(visible: str | None) -> CudaDevice | None:
    import pynvml

    try:
        with opened_nvml() as nvml:
            index = visible_index(nvml, visible)
            return None if index is None else _described(nvml, index)
    except NoNvmlError as error:
        if _has_nvidia_device_file() and (visible is None or visible.strip() not in HIDES_EVERY_GPU):
            raise InputError(
                f"there is an NVIDIA GPU but its driver cannot be reached ({error}): run 'summarybench doctor' (make doctor); "
                "CUDA_VISIBLE_DEVICES= (empty) measures on the CPU"
            ) from error
        return None
    except pynvml.NVMLError as error:
        raise InputError(
            f"NVML does not describe the GPU ({error}): run 'summarybench doctor' (make doctor); "
            "CUDA_VISIBLE_DEVICES= (empty) measures on the CPU"
        ) from error


def _described(nvml: Any, index: int) -> CudaDevice:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    gpu = NvmlGpu(nvml, handle)
    name = str(nvml.nvmlDeviceGetName(handle))
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return CudaDevice(
        kind="cuda",
        name=name,
        slug=slugify(name),
        family=family_of(name),
        memory_bytes=_gpu_memory_bytes(gpu, name),
        compute_dtype="bfloat16" if major >= 8 else "float16",
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        index=index,
        gpus_in_machine=int(nvml.nvmlDeviceGetCount()),
        power_limit_watts=gpu.watts("nvmlDeviceGetEnforcedPowerLimit"),
        pcie=_pcie(gpu),
        compute_mode=_compute_mode(gpu),
        capability=(major, minor),
    )


def _gpu_memory_bytes(gpu: NvmlGpu, name: str) -> int:
    """The GPU's memory. Where it shares the host's, NVML states none (GB10), and torch is asked.

    Raises InputError if neither states it.
    """
    found = gpu.ask("nvmlDeviceGetMemoryInfo")
    if found is not None:
        return int(found.total)
    import torch

    try:
        return int(torch.cuda.get_device_properties(0).total_memory)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"neither NVML nor torch states the memory of the {name} ({first_line(error)}): run 'summarybench doctor' "
            "(make doctor); CUDA_VISIBLE_DEVICES= (empty) measures on the CPU"
        ) from error


def _pcie(gpu: NvmlGpu) -> str | None:
    """The fastest link that the GPU and its slot support.

    An idle GPU reduces its current link.
    """
    generation = gpu.ask("nvmlDeviceGetMaxPcieLinkGeneration")
    lanes = gpu.ask("nvmlDeviceGetMaxPcieLinkWidth")
    return None if generation is None or lanes is None else f"generation {generation}, {lanes} lanes"


def _compute_mode(gpu: NvmlGpu) -> str | None:
    """NVML's compute mode in words. Raises InputError if the mode prohibits computing."""
    mode = gpu.ask("nvmlDeviceGetComputeMode")
    if mode == 2:  # NVML_COMPUTEMODE_PROHIBITED
        raise InputError("the GPU's compute mode is 'prohibited': allow it with 'nvidia-smi -c DEFAULT'")
    return {0: "default", 1: "exclusive thread", 3: "exclusive process"}.get(mode)


def _has_nvidia_device_file() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _host_memory_bytes() -> int:
    """The machine's memory, or less in a container that may not use all of it."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(installed, limits().memory_bytes or installed)


def _detect_cpu(environment: Mapping[str, str]) -> CpuDevice:
    cpu = cpu_facts()
    name = cpu.get("model name") or platform.processor() or platform.machine()
    return CpuDevice(
        kind="cpu",
        name=name,
        slug=slugify(name),
        family=CPU_FAMILY,
        memory_bytes=_host_memory_bytes(),
        compute_dtype="bfloat16" if has_bfloat16(cpu, environment) else "float32",
        has_avx512=has_avx512(cpu, environment),
    )
