"""The device of a session: recorded facts, and a protocol per kind."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from summarybench.core import numbers
from summarybench.core.outcomes import InputError
from summarybench.machine.clock import Clock
from summarybench.machine.families import BFLOAT16_CAPABILITY, FAMILIES, GPU_FAMILIES
from summarybench.machine.probes import DeviceProbes

if TYPE_CHECKING:
    from summarybench.machine.telemetry import Monitor

GIB = numbers.GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """What a run file says about the device of its session.

    - `kind`: torch's device type.
    - `name`: the product, as NVML or /proc/cpuinfo names it. `slug` names its baseline folder.
    - `compute_dtype`: the 16-bit type that it multiplies natively, or float32 if it has none.
    - `stands_in`: --gpu-family makes it emulate another family. `is_limited`: --memory-limit holds it to `memory_bytes`.
      Neither kind of run becomes a baseline. `is_remote`: it is in another machine, and only its name is known.
    - `index`: a GPU's number in this machine, as nvidia-smi counts.
    - `has_avx512`: whether torch and bitsandbytes use a CPU's AVX-512; None for a GPU, and for a CPU whose run did not
      record it.
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
    is_remote: bool = False
    has_avx512: bool | None = None

    @property
    def is_gpu(self) -> bool:
        return self.kind != "cpu"

    @property
    def torch_name(self) -> str:
        """The device as torch names it."""
        return f"{self.kind}:0" if self.is_gpu else self.kind

    @property
    def placement(self) -> str | int:
        """The device as transformers' `device_map` names it."""
        return 0 if self.is_gpu else self.kind

    @property
    def is_cpu_without_avx512(self) -> bool:
        """Whether bitsandbytes lacks fast kernels here.

        It then unpacks all quantized weights again for every token.
        """
        return not self.is_gpu and self.has_avx512 is False

    def elsewhere(self, slug: str) -> Self:
        """A device of another machine, which only its name is known of; the rest describes this machine's."""
        return replace(self, slug=slug, name=slug, is_remote=True)

    def emulating(self, family: str) -> Self:
        """The device, with the 16-bit type and the kernels that the other family has."""
        other = GPU_FAMILIES.get(family)
        is_older = other is not None and other.compute_capability < BFLOAT16_CAPABILITY
        dtype = "float16" if self.is_gpu and is_older else self.compute_dtype
        return replace(self, family=family, stands_in=True, compute_dtype=dtype)

    def __str__(self) -> str:
        as_family = f", emulating {self.family}" if self.stands_in else ""
        return f"{self.family if not self.stands_in else self.kind} ({self.name}{as_family})"

    def as_record(self) -> dict[str, Any]:
        """The recorded facts alone, in plain JSON types."""
        return {each.name: getattr(self, each.name) for each in fields(DeviceRecord)}


class Device(DeviceRecord, ABC):
    """The one device that a session measures on.

    Each kind of accelerator implements this class in one module; detection.py chooses between them.

    - `is_host`: the host's own processor computes, with threads of this process and in the host's memory.
    - `is_shared_by_processes`: processes started together divide one device. Otherwise each has a device of its own.
    - `counts_process_memory`: the peak is that of the whole process, not of tensors alone.
    - `affords_large_samples`: a hundred documents, or several passes over them, take minutes.
    - `gains_from_large_batches`: a decode step of many documents takes hardly longer than one of few.
    - `collective_backend`: torch.distributed's backend for collectives between devices of this kind.
    - `context_bytes`: device memory that the driver needs for itself. --memory-limit does not include it.
    - `int8_input_dtype`: the dtype of activations that LLM.int8() multiplies fastest.
    - `eager_attention`: the attention of models that are not compiled, as workloads record it; None for transformers' own.
    """

    __slots__ = ()

    is_host: ClassVar[bool]
    is_shared_by_processes: ClassVar[bool]
    counts_process_memory: ClassVar[bool]
    affords_large_samples: ClassVar[bool]
    gains_from_large_batches: ClassVar[bool]
    collective_backend: ClassVar[str]
    context_bytes: ClassVar[int]
    int8_input_dtype: ClassVar[str]
    eager_attention: ClassVar[str | None]

    # Numerics

    @property
    @abstractmethod
    def training_dtype(self) -> str:
        """The dtype to train in: bfloat16 or float32, because float16 would need loss scaling."""

    @property
    @abstractmethod
    def compiles_decoding(self) -> bool:
        """Whether inductor's kernels run on this device."""

    # Clock and telemetry

    @abstractmethod
    def clock(self) -> Clock:
        """A clock that waits for the device.

        Raises UnavailableError if torch cannot use the detected device.
        """

    @abstractmethod
    def monitor(self) -> Monitor:
        """The telemetry of this device. Raises DeviceInvalidError if it cannot be read."""

    @abstractmethod
    def driver_version(self) -> str | None:
        """None for a device without a driver of its own."""

    @abstractmethod
    def compute_capability(self) -> tuple[int, int] | None:
        """NVIDIA's compute capability; None for a device that has none."""

    # Memory

    @abstractmethod
    def reset_peak_memory(self) -> None:
        """Start a new peak."""

    @abstractmethod
    def peak_memory_bytes(self) -> int:
        """The most bytes in use since `reset_peak_memory`."""

    @abstractmethod
    def allocated_memory_bytes(self) -> int | None:
        """Bytes of tensors now; None if the device does not count them."""

    @abstractmethod
    def free_memory_bytes(self) -> int:
        """Bytes that can still be allocated, within the session's limit."""

    @abstractmethod
    def hold_to_memory_limit(self) -> None:
        """Make allocations beyond `memory_bytes` fail.

        Only if the session has a limit and the device can enforce it.
        """

    @abstractmethod
    def release_memory(self) -> None:
        """Release memory that nothing refers to any more."""

    @property
    @abstractmethod
    def probes(self) -> DeviceProbes:
        """The small benchmarks of this device and its host."""

    # Several processes and sessions

    @abstractmethod
    def divide_among(self, processes: int) -> None:
        """Limit this process to its part of a device that processes share."""

    @abstractmethod
    def sharing_warning(self, holder: str) -> str:
        """One line for a user who shares the device with `holder`.

        `holder` describes another session.
        """


def slugify(name: str) -> str:
    """Turn 'NVIDIA A100-SXM4-40GB' into 'nvidia-a100-sxm4-40gb'.

    Trademark signs and clock rates are dropped.
    """
    plain = re.sub(r"\((R|TM|C)\)|\bCPU\b|@.*$", " ", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def is_same_device(name: str, other: str) -> bool:
    """Whether two runs name one device. Where --server-device was given, a run has the slug in place of the name.

    Two names are never compared by their slugs, which leave out clock rates.
    """
    return name == other or slugify(name) == other or name == slugify(other)


def emulate_family(device: Device, family: str | None) -> Device:
    """The device, emulating another family if one is given.

    Raises InputError for an unknown family.
    """
    if family is None or family == device.family:
        return device
    if family not in FAMILIES:
        raise InputError(
            f"--gpu-family {family} is not a family the suite knows; choose one of {', '.join(sorted(FAMILIES))}"
        )
    return device.emulating(family)


def limit_memory(device: Device, limit_gib: float | None) -> Device:
    """The device with less memory than it has.

    Raises InputError for less than 1 GiB or more than it has.
    """
    if limit_gib is None:
        return device
    if not 1 <= limit_gib <= device.memory_bytes / GIB:
        raise InputError(
            f"--memory-limit {numbers.trimmed(limit_gib)}: give between 1 and the {numbers.gib(device.memory_bytes, 1)} GiB of the "
            f"{device.name}"
        )
    return replace(device, memory_bytes=int(limit_gib * GIB), is_limited=True)
