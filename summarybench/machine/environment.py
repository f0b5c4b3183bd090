"""The environment of a run: what may differ between comparable runs.

Every difference is shown.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import runpy
from pathlib import Path

from summarybench.machine.cpu import cpu_facts
from summarybench.machine.device import Device

VERSIONS = ("driver", "cuda", "python", "torch", "transformers", "bitsandbytes", "accelerate")


def describe_environment(device: Device) -> dict[str, str | int | None]:
    """Describe the driver, CUDA, CPU, host and package versions, in plain JSON types."""
    packages = ("torch", "transformers", "bitsandbytes", "accelerate")
    return {
        "device": device.name,
        "device_memory_bytes": device.memory_bytes,
        "driver": device.driver_version(),
        "cuda": torch_cuda_version(),
        "cpu": cpu_facts().get("model name") or platform.machine(),
        "cpu_count": usable_cpus(),
        "host": host_of(device),
        "python": platform.python_version(),
        **{package: _version(package) for package in packages},
    }


def host_of(device: Device) -> str:
    """Anonymous ID of this host and device."""
    return hashlib.sha256(f"{platform.node()} {device.uuid}".encode()).hexdigest()[:12]


def usable_cpus() -> int:
    """The number of CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_cuda_version() -> str | None:
    """The CUDA version that torch was built for.

    It is read from torch's version file, since importing torch takes seconds.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    cuda = runpy.run_path(str(Path(spec.origin).parent / "version.py")).get("cuda")
    return None if cuda is None else str(cuda)
