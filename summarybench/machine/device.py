"""Which accelerator this is, what software drives it, the one clock, and memory. Imports torch only when asked to measure."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from summarybench.core.outcomes import InputError, UnavailableError

GIB = 1024**3

GPU_FAMILIES: dict[str, re.Pattern[str]] = {
    "t4": re.compile(r"\bT4\b"),
    "v100": re.compile(r"\bV100\b"),
    "a10g": re.compile(r"\bA10G\b"),
    "l4": re.compile(r"\bL4\b"),
    "a100": re.compile(r"\bA100\b"),
    "h100": re.compile(r"\bH100\b"),
    "h200": re.compile(r"\bH200\b"),
    "rtx4090": re.compile(r"\bRTX 4090\b"),
}
"""Family marker → how NVML's product names say it. A new family is an entry here, a marker in pytest.ini and a row in models.py."""

HIDES_EVERY_GPU = ("", "-1")
"""Values of CUDA_VISIBLE_DEVICES that ask for the CPU."""
MIG_REMEDY = (
    "a MIG slice shares its GPU's clocks, power and throttling, so that no figure would be its own: "
    "measure a whole GPU, with MIG switched off (sudo nvidia-smi -mig 0)"
)

LEAST_SHARE_OF_A_WHOLE_GPU = 0.9
"""The driver keeps some of what NVML counts for itself; a slice of half a GPU or less is surely below this."""

CPU_FAMILY = "cpu"
UNKNOWN_GPU_FAMILY = "gpu"
FAMILIES = frozenset({CPU_FAMILY, *GPU_FAMILIES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The one device that a session measures on.

    `name` is the product as NVML (or the CPU) gives it; `slug` names its baseline folder; `compute_dtype` is the 16-bit
    type it multiplies natively, or float32 where it has none. `stands_in` marks a device that --gpu-family lets stand in
    for another family, `is_limited` one that --memory-limit holds to `memory_bytes`: neither makes a baseline. `index` is
    a GPU's among those of the machine, as nvidia-smi counts them.
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

    @property
    def torch_name(self) -> str:
        return "cuda:0" if self.kind == "cuda" else "cpu"

    @property
    def is_gpu(self) -> bool:
        return self.kind == "cuda"

    def standing_in_for(self, family: str) -> Device:
        return replace(self, family=family, stands_in=True)

    def __str__(self) -> str:
        as_family = f", standing in for {self.family}" if self.stands_in else ""
        return f"{self.family if not self.stands_in else self.kind} ({self.name}{as_family})"


def slugify(name: str) -> str:
    """'NVIDIA A100-SXM4-40GB' → 'nvidia-a100-sxm4-40gb'; trademark signs and clock rates are dropped."""
    plain = re.sub(r"\((R|TM|C)\)|\bCPU\b|@.*$", " ", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def family_of(product: str) -> str:
    """The family marker of an NVML product name; 'gpu' for one that the suite does not know."""
    for family, pattern in GPU_FAMILIES.items():
        if pattern.search(product):
            return family
    return UNKNOWN_GPU_FAMILY


def detect_device(environment: Mapping[str, str] = os.environ) -> Device:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves visible, or else the CPU. Asks NVML, not torch, so it is quick.

    Raises InputError where there is a GPU that its driver does not answer for, and where CUDA_VISIBLE_DEVICES names none
    of those that there are: only '' and -1 ask for the CPU.
    """
    return _detect_gpu(environment.get("CUDA_VISIBLE_DEVICES")) or _detect_cpu()


def leave_one_gpu_visible(place: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Hide all visible GPUs but the one at this place from this process: the first that it sees is then its own.

    To be called before torch is imported. Without visible GPUs nothing is done. Raises InputError where fewer are visible.
    """
    import pynvml

    visible = environment.get("CUDA_VISIBLE_DEVICES")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # `detect_device` says what is to be said of it
        return
    try:
        if _visible_index(pynvml, visible) is None:
            return
        names = [str(index) for index in range(pynvml.nvmlDeviceGetCount())] if visible is None else visible.split(",")
        if place >= len(names):
            raise InputError(
                f"process {place} of this machine has no GPU: {len(names)} are visible, so start as many processes here"
            )
        handle = pynvml.nvmlDeviceGetHandleByIndex(_visible_index(pynvml, names[place]))
        environment["CUDA_VISIBLE_DEVICES"] = str(pynvml.nvmlDeviceGetUUID(handle))
    finally:
        pynvml.nvmlShutdown()


def _detect_gpu(visible: str | None) -> Device | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if _has_nvidia_device_file() and (visible is None or visible.strip() not in HIDES_EVERY_GPU):
            raise InputError(
                f"there is an NVIDIA GPU and its driver cannot be reached ({error}): 'summarybench doctor' (make doctor) says more; "
                "CUDA_VISIBLE_DEVICES= (empty) measures on the CPU"
            ) from error
        return None
    try:
        index = _visible_index(pynvml, visible)
        if index is None:
            return None
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = str(pynvml.nvmlDeviceGetName(handle))
        major, _minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return Device(
            kind="cuda",
            name=name,
            slug=slugify(name),
            family=family_of(name),
            memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            compute_dtype="bfloat16" if major >= 8 else "float16",
            uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
            index=index,
            gpus_in_machine=int(pynvml.nvmlDeviceGetCount()),
            power_limit_watts=_power_limit_watts(pynvml, handle),
            pcie=_pcie(pynvml, handle),
            compute_mode=_compute_mode(pynvml, handle),
        )
    except pynvml.NVMLError as error:
        raise InputError(
            f"NVML does not describe the GPU ({error}): 'summarybench doctor' (make doctor) says more; "
            "CUDA_VISIBLE_DEVICES= (empty) measures on the CPU"
        ) from error
    finally:
        pynvml.nvmlShutdown()


def _ask(pynvml: Any, query: str, handle: Any) -> Any:
    """NVML's answer; None where this product or driver does not offer it."""
    try:
        return getattr(pynvml, query)(handle)
    except pynvml.NVMLError:
        return None


def _power_limit_watts(pynvml: Any, handle: Any) -> float | None:
    milliwatts = _ask(pynvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    return None if milliwatts is None else milliwatts / 1000


def _pcie(pynvml: Any, handle: Any) -> str | None:
    """The link it can have in this slot: an idle GPU takes its own down."""
    generation = _ask(pynvml, "nvmlDeviceGetMaxPcieLinkGeneration", handle)
    lanes = _ask(pynvml, "nvmlDeviceGetMaxPcieLinkWidth", handle)
    return None if generation is None or lanes is None else f"generation {generation}, {lanes} lanes"


def _compute_mode(pynvml: Any, handle: Any) -> str | None:
    """Raises InputError for a GPU on which nothing may compute."""
    mode = _ask(pynvml, "nvmlDeviceGetComputeMode", handle)
    if mode == 2:  # NVML_COMPUTEMODE_PROHIBITED
        raise InputError("the GPU's compute mode is 'prohibited': allow it with 'nvidia-smi -c DEFAULT'")
    return {0: "default", 1: "exclusive thread", 3: "exclusive process"}.get(mode)


def _has_nvidia_device_file() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _visible_index(pynvml: Any, visible: str | None) -> int | None:
    """NVML's index of the first visible GPU; None where the machine has none, or all are hidden on purpose."""
    uuids = [
        str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index)))
        for index in range(pynvml.nvmlDeviceGetCount())
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


def _detect_cpu() -> Device:
    cpu = cpu_facts()
    name = cpu.get("model name") or platform.processor() or platform.machine()
    has_bfloat16 = {"avx512_bf16", "amx_bf16", "bf16"} & set((cpu.get("flags") or cpu.get("Features") or "").split())
    return Device(
        kind="cpu",
        name=name,
        slug=slugify(name),
        family=CPU_FAMILY,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        compute_dtype="bfloat16" if has_bfloat16 else "float32",
    )


def cpu_facts() -> dict[str, str]:
    """The first processor's fields in /proc/cpuinfo; empty where there is none."""
    try:
        first_processor = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first_processor.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


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


class Clock:
    """Seconds since an arbitrary moment, read after the device has finished what it was given.

    Tests and experiments replace `synchronize` and `read_seconds`.
    """

    def __init__(self, synchronize: Callable[[], None], read_seconds: Callable[[], float] = time.perf_counter) -> None:
        self._synchronize = synchronize
        self._read_seconds = read_seconds

    def __call__(self) -> float:
        self._synchronize()
        return self._read_seconds()


def clock_of(device: Device) -> Clock:
    """The clock of a device. Raises UnavailableError where NVML sees a GPU and torch sees none, another or a part of it."""
    if not device.is_gpu:
        return Clock(lambda: None)
    # CUDA counts the fastest GPU first unless told otherwise, and NVML, like nvidia-smi, by the bus.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    import torch

    if not torch.cuda.is_available():
        raise UnavailableError(_why_torch_has_no_gpu(device, str(torch.__version__), torch.version.cuda))
    check_same_gpu(device, torch.cuda.get_device_properties(0))
    return Clock(lambda: torch.cuda.synchronize(0))


def _why_torch_has_no_gpu(device: Device, torch_version: str, torch_cuda: str | None) -> str:
    import pynvml

    try:
        pynvml.nvmlInit()
        driver, cuda = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetCudaDriverVersion_v2()
        pynvml.nvmlShutdown()
        offers = f"driver {driver} offers CUDA {cuda // 1000}.{cuda % 1000 // 10}"
    except pynvml.NVMLError as error:
        offers = f"the driver does not say what it offers ({error})"
    built = f"built for CUDA {torch_cuda}" if torch_cuda else "built without CUDA"
    return (
        f"torch {torch_version} cannot use the {device.name}: it is {built}, and {offers}; update the driver, or install "
        "a torch built for its CUDA (https://pytorch.org/get-started/locally)"
    )


def check_same_gpu(device: Device, properties: Any) -> None:
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


def reset_peak_memory(device: Device) -> None:
    """Start a new peak: of torch's allocator on a GPU, of the process's resident memory on a CPU (Linux)."""
    if device.is_gpu:
        import torch

        torch.cuda.reset_peak_memory_stats(0)
    else:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:  # a container may forbid it: the peak is then since the process's start, an upper bound
            return


def peak_memory_bytes(device: Device) -> int:
    """Bytes at most in use since `reset_peak_memory`: allocator peak on a GPU, VmHWM on a CPU."""
    if device.is_gpu:
        import torch

        return int(torch.cuda.max_memory_allocated(0))
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) * 1024 if found else 0


def allocated_memory_bytes(device: Device) -> int:
    """Bytes of tensors on a GPU now. Raises ValueError for a CPU, which has no such count."""
    if not device.is_gpu:
        raise ValueError(f"{device} has no allocator that counts")
    import torch

    return int(torch.cuda.memory_allocated(0))


def free_memory_bytes(device: Device) -> int:
    """Bytes that can still be had: of the GPU, held to the session's limit, or of the machine."""
    if device.is_gpu:
        import torch

        allocated = torch.cuda.memory_allocated(0)
        free = torch.cuda.mem_get_info(0)[0] + torch.cuda.memory_reserved(0) - allocated
        return int(min(free, device.memory_bytes - allocated))
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"))
    return min(int(found.group(1)) * 1024 if found else device.memory_bytes, device.memory_bytes)


def hold_to_memory_limit(device: Device) -> None:
    """Hold torch's allocator to `device.memory_bytes` where the session has a limit. On a CPU only predictions heed it."""
    if device.is_gpu and device.is_limited:
        import torch

        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, device.memory_bytes / total), 0)


def release_memory(device: Device) -> None:
    """Give back what nothing refers to any more, and the workspace that cuBLAS keeps from its first product on."""
    import gc

    gc.collect()
    if device.is_gpu:
        import torch

        torch._C._cuda_clearCublasWorkspaces()  # torch has no public name for it
        torch.cuda.empty_cache()
