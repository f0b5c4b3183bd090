"""The device that a session measures on: what is recorded of it, and what can be asked of it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from summarybench.core import numbers
from summarybench.core.outcomes import InputError
from summarybench.machine.clock import Clock
from summarybench.machine.families import FAMILIES

if TYPE_CHECKING:
    from summarybench.machine.telemetry import Monitor

GIB = numbers.GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """What a run file says of the device that its session measured on.

    `name` is the product as NVML (or the CPU) gives it; `slug` names its baseline folder; `compute_dtype` is the 16-bit
    type it multiplies natively, or float32 where it has none. `stands_in` marks a device that --gpu-family lets stand in
    for another family, `is_limited` one that --memory-limit holds to `memory_bytes`: neither makes a baseline. `index` is
    a GPU's among those of the machine, as nvidia-smi counts them. `has_avx512` says whether torch and bitsandbytes use a
    CPU's AVX-512; None for a GPU, and for the CPU of a run that did not record it.
    """

    kind: str  # "cuda" or "cpu"
    name: str
    slug: str
    family: str
    memory_bytes: int
    compute_dtype: str
    uuid: str = ""
    index: int = 0
    gpus_in_machine: int = 0
    power_limit_watts: float | None = None
    pcie: str | None = None  # "generation 5, 16 lanes"
    compute_mode: str | None = None
    stands_in: bool = False
    is_limited: bool = False
    has_avx512: bool | None = None

    @property
    def torch_name(self) -> str:
        return "cuda:0" if self.kind == "cuda" else "cpu"

    @property
    def is_gpu(self) -> bool:
        return self.kind == "cuda"

    @property
    def is_cpu_without_avx512(self) -> bool:
        """Whether bitsandbytes has no fast kernels here: it unpacks all 4-bit or 8-bit weights again for every token."""
        return not self.is_gpu and self.has_avx512 is False

    def standing_in_for(self, family: str) -> Self:
        return replace(self, family=family, stands_in=True)

    def __str__(self) -> str:
        as_family = f", standing in for {self.family}" if self.stands_in else ""
        return f"{self.family if not self.stands_in else self.kind} ({self.name}{as_family})"

    def as_record(self) -> dict[str, Any]:
        """These facts alone, as plain JSON types."""
        return {each.name: getattr(self, each.name) for each in fields(DeviceRecord)}


class Device(DeviceRecord, ABC):
    """The one device that a session measures on: its facts, and what is asked of it.

    Each kind of accelerator implements it in a module of its own; detection.py chooses one.
    """

    __slots__ = ()

    @abstractmethod
    def clock(self) -> Clock:
        """A clock that waits for the device. Raises UnavailableError where torch cannot use the device that was detected."""

    @abstractmethod
    def monitor(self) -> Monitor:
        """What watches the device around timed rounds. Raises DeviceInvalidError where the device cannot be watched."""

    @abstractmethod
    def driver_version(self) -> str | None:
        """None for a device without a driver of its own."""

    @abstractmethod
    def reset_peak_memory(self) -> None:
        """Start a new peak."""

    @abstractmethod
    def peak_memory_bytes(self) -> int:
        """The most bytes in use since `reset_peak_memory`."""

    @abstractmethod
    def allocated_memory_bytes(self) -> int | None:
        """Bytes of tensors now; None where nothing counts them."""

    @abstractmethod
    def free_memory_bytes(self) -> int:
        """Bytes that can still be allocated, within the session's limit."""

    @abstractmethod
    def hold_to_memory_limit(self) -> None:
        """Let allocations beyond `memory_bytes` fail where the session has a limit and the device can enforce it."""

    @abstractmethod
    def release_memory(self) -> None:
        """Give memory back that nothing refers to any more."""


def slugify(name: str) -> str:
    """'NVIDIA A100-SXM4-40GB' → 'nvidia-a100-sxm4-40gb'; trademark signs and clock rates are dropped."""
    plain = re.sub(r"\((R|TM|C)\)|\bCPU\b|@.*$", " ", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def stand_in(device: Device, family: str | None) -> Device:
    """The device, or the device in the place of another family. Raises InputError for a family the suite does not know."""
    if family is None or family == device.family:
        return device
    if family not in FAMILIES:
        raise InputError(
            f"--gpu-family {family} is not a family the suite knows; choose one of {', '.join(sorted(FAMILIES))}"
        )
    return device.standing_in_for(family)


def limit_memory(device: Device, limit_gib: float | None) -> Device:
    """The device held to fewer GiB than it has. Raises InputError for a limit that it does not have, or below 1 GiB."""
    if limit_gib is None:
        return device
    if not 1 <= limit_gib <= device.memory_bytes / GIB:
        raise InputError(
            f"--memory-limit {limit_gib:g}: give between 1 and the {device.memory_bytes / GIB:.1f} GiB of the {device.name}"
        )
    return replace(device, memory_bytes=int(limit_gib * GIB), is_limited=True)
