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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.machine.control_groups import limits
from summarybench.machine.cpu import cpu_facts
from summarybench.machine.device import Device, is_same_device

VERSIONS = ("driver", "cuda", "python", "torch", "transformers", "bitsandbytes", "accelerate")
HOST_NAME_VARIABLE = "SUMMARYBENCH_HOST_NAME"
"""The environment variable that --host-name overrides."""
HOST_KEYS = ("host", "host_id", "host_name")
DEVICE_FACTS = ("device_memory_bytes", "driver", "cuda")
"""Unknown for the device of another machine."""
MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine that a run was measured on: an anonymous ID, and the name that reports show. Both may be empty if unknown."""

    id: str
    name: str


def host_in(environment: Mapping[str, Any]) -> Host:
    """The host that a run's `machine_info` states. Runs from before hosts were identified have only the key `host`."""
    identity = str(environment.get("host_id") or environment.get("host") or "")
    return Host(id=identity, name=str(environment.get("host_name") or default_host_name(identity)))


def default_host_name(identity: str) -> str:
    return f"host-{identity[:6]}" if identity else ""


def host_id_of(device: Device, host_name: str = "") -> str:
    """The anonymous ID of this host: its GPU's, wherever the container runs; on a CPU the given name's or the machine's.

    Containers get a new host name each time they start. A GPU's UUID stays, and so does the machine ID of systemd
    (machine-id(5)). Where an image lacks that, give a name.
    """
    if device.uuid:
        return gpu_host_id(device.uuid)
    return _anonymous(f"name {host_name}" if host_name else f"machine {_machine_id()}")


def gpu_host_id(uuid: str) -> str:
    """The anonymous ID of the host that holds this GPU."""
    return _anonymous(f"gpu {uuid.removeprefix('GPU-')}")


def _machine_id() -> str:
    return (
        next((path.read_text(encoding="ascii").strip() for path in MACHINE_ID_FILES if path.is_file()), "")
        or platform.node()
    )


def _anonymous(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def environment_differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """The differences between two environments, one phrase each. Hosts are compared by ID and shown by name.

    A device that one of them names by its slug is no difference.
    """
    here, there = host_in(now), host_in(before)
    if here.id != there.id:
        yield f"host {here.name or 'unknown'} here, {there.name or 'unknown'} there"
    is_one_device = is_same_device(str(now.get("device")), str(before.get("device")))
    for key in sorted({*now, *before} - {*HOST_KEYS}):
        if now.get(key) != before.get(key) and not (key == "device" and is_one_device):
            yield f"{key} {_shown(key, now)} here, {_shown(key, before)} there"


def _shown(key: str, environment: Mapping[str, Any]) -> Any:
    found = environment.get(key)
    return "unknown" if found is None and key in DEVICE_FACTS else found


def describe_environment(device: Device, host_name: str = "") -> dict[str, str | int | None]:
    """Describe the driver, CUDA, CPU, host and package versions, in plain JSON types.

    `host_name` is the name that reports show for this host; without one it is made from the host's ID.
    """
    packages = ("torch", "transformers", "bitsandbytes", "accelerate")
    return {
        "device": device.name,
        "device_memory_bytes": None if device.is_remote else device.memory_bytes,
        "driver": None if device.is_remote else device.driver_version(),
        "cuda": None if device.is_remote else torch_cuda_version(),
        "cpu": cpu_facts().get("model name") or platform.machine(),
        "cpu_count": usable_cpus(),
        "host": host_of(device),
        "host_id": (identity := host_id_of(device, host_name)),
        "host_name": host_name or default_host_name(identity),
        "python": platform.python_version(),
        **{package: _version(package) for package in packages},
    }


def host_of(device: Device) -> str:
    """The ID that runs had before `host_id`: it changes with the network name, and still finds this host's older runs."""
    return hashlib.sha256(f"{platform.node()} {device.uuid}".encode()).hexdigest()[:12]


def usable_cpus() -> int:
    """The number of CPUs that this process may use: those that it may run on, and no more than its container's quota."""
    quota = limits().cpus
    allowed = len(os.sched_getaffinity(0))
    return allowed if quota is None else max(1, min(allowed, int(quota)))


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
