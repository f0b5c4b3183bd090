"""The GPU checks of `summarybench doctor`.

They cover the driver, CUDA, and whether each GPU is idle, cool and at its default speed.

`nvml` is pynvml, or its replacement in a test.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import EXPERIMENTS, MODELS, Experiment
from summarybench.commands.doctor_finding import Finding, State, attempt, fail, ok, skip
from summarybench.core.numbers import gib
from summarybench.core.outcomes import first_line
from summarybench.engines.fitting import forecast
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.device import slugify
from summarybench.machine.environment import torch_cuda_version
from summarybench.machine.families import family_of
from summarybench.machine.nvml import HIDES_EVERY_GPU, MIG_REMEDY
from summarybench.session.config import ON_A_GPU

IDLE_PERCENT = 5
HOT_CELSIUS = 80
LONGEST_SEQUENCE = ON_A_GPU.max_prompt_tokens + ON_A_GPU.max_new_tokens
"""The longest prompt with its summary, in tokens, under the default options on a GPU."""
NO_GPU = "no NVIDIA GPU; the embedded experiments run on the CPU"
DRIVER_REMEDIES: Mapping[str, str] = {
    "NVMLError_LibRmVersionMismatch": (
        "library and kernel module belong to different driver versions: reboot, or reload nvidia's kernel modules"
    ),
    "NVMLError_LibraryNotFound": (
        "there is a GPU but no libnvidia-ml.so.1: install the driver's libraries (including libcuda) and run ldconfig; "
        "in a container, use nvidia's container toolkit"
    ),
    "NVMLError": ("make nvidia-smi work first: load the kernel module (modprobe nvidia) or reinstall the driver"),
}
"""Remedies by NVML's exception. The first match counts, so the base class is last."""


def examine_gpus(visible: str | None) -> Iterator[Finding]:
    """Check everything from the driver to the GPU's memory.

    A check is skipped if it needs something that is missing.

    `visible` is the value of CUDA_VISIBLE_DEVICES.
    """
    try:
        import pynvml
    except ImportError as error:
        yield fail("driver", first_line(error), "run 'make setup': nvidia-ml-py is missing")
        return
    driver = attempt("driver", lambda: check_driver(pynvml, sorted(map(str, Path("/dev").glob("nvidia*")))))
    yield driver
    if driver.state is State.SKIP:
        yield from (skip(name, "no GPU") for name in ("GPUs", "CUDA", "libcuda", "GPU memory"))
    elif driver.state is State.FAIL:
        yield attempt("libcuda", lambda: check_libcuda(ctypes.CDLL))
        yield from (skip(name, "fix the driver first") for name in ("GPUs", "CUDA", "GPU memory"))
    else:
        yield from _examine_visible(pynvml, visible)
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _examine_visible(nvml: Any, visible: str | None) -> Iterator[Finding]:
    gpus: list[Gpu] = []

    def look() -> Finding:
        gpus.extend(visible_gpus(nvml, visible))
        return check_visible(gpus, visible)

    def weigh() -> Finding:
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(gpus[0].handle)  # the suite measures the first one
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
            return skip("GPU memory", f"NVML does not state the memory of the {gpus[0].name}; the suite asks torch")
        capability = nvml.nvmlDeviceGetCudaComputeCapability(gpus[0].handle)
        return check_memory(gpus[0].name, capability, memory.free, memory.total)

    yield attempt("GPUs", look)
    if not gpus:
        yield from (skip(name, "no visible GPU") for name in ("CUDA", "libcuda", "GPU memory"))
        return
    yield attempt("CUDA", lambda: check_cuda(nvml.nvmlSystemGetCudaDriverVersion_v2(), torch_cuda_version()))
    yield attempt("libcuda", lambda: check_libcuda(ctypes.CDLL))
    for gpu in gpus:
        yield attempt(f"GPU {gpu.index}", partial(check_gpu, nvml, gpu))
    yield attempt("GPU memory", weigh)


def sees_gpu(findings: Iterable[Finding]) -> bool:
    """Whether CUDA sees a GPU, according to these findings."""
    return any(finding.name == "GPUs" and finding.state is State.OK for finding in findings)


def check_driver(nvml: Any, device_files: Sequence[str]) -> Finding:
    """Initialize NVML and report the driver.

    If the finding is ok, the caller must shut NVML down.
    """
    try:
        nvml.nvmlInit()
        return ok("driver", str(nvml.nvmlSystemGetDriverVersion()))
    except nvml.NVMLError as error:
        if not device_files and not isinstance(error, nvml.NVMLError_LibRmVersionMismatch):
            return skip("driver", NO_GPU)
        remedy = next(remedy for kind, remedy in DRIVER_REMEDIES.items() if isinstance(error, getattr(nvml, kind)))
        return fail("driver", f"NVML cannot be used: {error}", remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU that CUDA may see. `index` is NVML's."""

    index: int
    name: str
    handle: Any


def visible_gpus(nvml: Any, visible: str | None) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES selects.

    As in CUDA, the first invalid entry ends the list.
    """
    gpus: dict[int, Gpu] = {}
    uuids: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuids.append(str(nvml.nvmlDeviceGetUUID(handle)))
            gpus[index] = Gpu(index=index, name=str(nvml.nvmlDeviceGetName(handle)), handle=handle)
        except nvml.NVMLError:  # a GPU that is lost: CUDA leaves it out too
            uuids.append("")
    if visible is None:
        return list(gpus.values())
    indices = (_index_of(entry.strip(), uuids) for entry in visible.split(","))
    return [gpus[index] for index in takewhile(lambda index: index in gpus, indices)]


def _index_of(entry: str, uuids: Sequence[str]) -> int:
    """The index of the GPU that an entry names; -1 if there is none.

    An entry is an index or the beginning of a UUID.
    """
    if entry.isdigit():
        return int(entry)
    return next((index for index, uuid in enumerate(uuids) if entry and uuid.startswith(entry)), -1)


def check_visible(gpus: Sequence[Gpu], visible: str | None) -> Finding:
    """Accept no GPU if it was chosen, but refuse a GPU that does not exist.

    '' and -1 choose no GPU.
    """
    if gpus:
        return ok("GPUs", f"{len(gpus)} visible: {', '.join(gpu.name for gpu in gpus)}")
    if visible is None:
        return skip("GPUs", NO_GPU)
    seen = f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU"
    if visible.strip() in HIDES_EVERY_GPU:
        return skip("GPUs", f"{seen}; the embedded experiments run on the CPU")
    if visible.strip().startswith("MIG-"):
        return fail("GPUs", f"CUDA_VISIBLE_DEVICES={visible!r} names a MIG slice", MIG_REMEDY)
    return fail("GPUs", seen, "unset CUDA_VISIBLE_DEVICES, or name a GPU that nvidia-smi -L lists")


def check_cuda(driver_cuda: int, torch_cuda: str | None) -> Finding:
    """Compare the driver's CUDA version, 13000 for 13.0, with torch's.

    Minor versions may differ (CUDA minor compatibility).
    """
    major, minor = driver_cuda // 1000, driver_cuda % 1000 // 10
    if torch_cuda is None:
        seen = f"the driver has CUDA {major}.{minor}, but torch is built without CUDA"
        remedy = f"install a torch built for CUDA {major} or older: https://pytorch.org/get-started/locally"
        return fail("CUDA", seen, remedy)
    seen = f"driver {major}.{minor}, torch's build {torch_cuda}"
    if int(torch_cuda.split(".")[0]) <= major:
        return ok("CUDA", seen)
    remedy = f"update the driver, or install a torch built for CUDA {major}"
    return fail("CUDA", f"{seen}: the driver is too old", remedy)


def check_libcuda(load: Callable[[str], object]) -> Finding:
    """Load libcuda. `load` is ctypes.CDLL, which raises OSError if it cannot."""
    try:
        load("libcuda.so.1")
    except OSError as error:
        remedy = "run ldconfig after installing the driver; in a container, use nvidia's container toolkit (docker run --gpus all)"
        return fail("libcuda", first_line(error), remedy)
    return ok("libcuda", "libcuda.so.1 loads")


Aspect = tuple[str, str]
"""One aspect of a GPU as NVML reports it, and a remedy, which is empty if all is well."""


def _utilisation(nvml: Any, gpu: Gpu) -> Aspect:
    percent = nvml.nvmlDeviceGetUtilizationRates(gpu.handle).gpu
    return f"utilisation {percent}%", "" if percent <= IDLE_PERCENT else "wait until it is idle"


def _processes(nvml: Any, gpu: Gpu) -> Aspect:
    pids = [str(process.pid) for process in nvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle)]
    if not pids:
        return "no processes", ""
    seen = f"{len(pids)} compute {'process' if len(pids) == 1 else 'processes'} (pid {', '.join(pids)})"
    return seen, "end what uses it, or choose another GPU with CUDA_VISIBLE_DEVICES"


def _temperature(nvml: Any, gpu: Gpu) -> Aspect:
    celsius = nvml.nvmlDeviceGetTemperature(gpu.handle, nvml.NVML_TEMPERATURE_GPU)
    return f"{celsius} °C", "" if celsius < HOT_CELSIUS else "let it cool down, and check its cooling"


def _throttling(nvml: Any, gpu: Gpu) -> Aspect:
    try:
        reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu.handle)
    except nvml.NVMLError_FunctionNotFound:  # the former name, in drivers older than 535
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu.handle)
    slowdowns = {
        "hardware slowdown": nvml.nvmlClocksThrottleReasonHwSlowdown,
        "hardware thermal slowdown": nvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        "software thermal slowdown": nvml.nvmlClocksThrottleReasonSwThermalSlowdown,
        "power brake": nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
    }
    found = ", ".join(name for name, bit in slowdowns.items() if reasons & bit)
    return (f"throttled: {found}", "check its cooling and power supply") if found else ("not throttled", "")


def _power_limit(nvml: Any, gpu: Gpu) -> Aspect:
    watts = nvml.nvmlDeviceGetPowerManagementLimit(gpu.handle) // 1000
    default = nvml.nvmlDeviceGetPowerManagementDefaultLimit(gpu.handle) // 1000
    if watts >= default:
        return f"power limit {watts} W", ""
    return f"power limit {watts} W of {default} W", f"sudo nvidia-smi -i {gpu.index} -pl {default} restores it"


def _slices(nvml: Any, gpu: Gpu) -> Aspect:
    current, _pending = nvml.nvmlDeviceGetMigMode(gpu.handle)
    return ("MIG on", MIG_REMEDY) if current else ("MIG off", "")


ASPECTS: Mapping[str, Callable[[Any, Gpu], Aspect]] = {
    "utilisation": _utilisation,
    "processes": _processes,
    "temperature": _temperature,
    "throttling": _throttling,
    "power limit": _power_limit,
    "MIG": _slices,
}


def check_gpu(nvml: Any, gpu: Gpu) -> Finding:
    """Check that the GPU is idle, cool and at its default speed.

    Aspects that it does not report do not fail.
    """
    aspects: list[Aspect] = []
    for what, read in ASPECTS.items():
        try:
            aspects.append(read(nvml, gpu))
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
            aspects.append((f"{what} not offered by this product", ""))
        except nvml.NVMLError as error:
            aspects.append((f"{what} cannot be read ({error})", f"check the output of nvidia-smi -q -i {gpu.index}"))
    name, seen = f"GPU {gpu.index}", f"{gpu.name}: {', '.join(seen for seen, _ in aspects)}"
    remedy = "; ".join(remedy for _, remedy in aspects if remedy)
    return fail(name, seen, remedy) if remedy else ok(name, seen)


def check_memory(product: str, capability: tuple[int, int], free_bytes: int, total_bytes: int) -> Finding:
    """List the experiments that this GPU can run, and which of them fit into the free memory.

    `capability` is the compute capability, as (major, minor). The check fails only if no experiment fits.
    """
    gpu = CudaDevice(
        kind="cuda",
        name=product,
        slug=slugify(product),
        family=family_of(product),
        memory_bytes=free_bytes,
        compute_dtype="float16",  # bfloat16 takes as much
        capability=capability,
    )
    meant = [each for each in EXPERIMENTS if each.is_for(gpu, named=True)]
    fitting = [each for each in meant if forecast(each, MODELS[each.model].shape, gpu, LONGEST_SEQUENCE).fits]
    seen = f"{gib(free_bytes, 1)} of {gib(total_bytes, 1)} GiB free"
    if not fitting:
        remedy = (
            "end the processes that use it (nvidia-smi lists them), or choose another GPU with CUDA_VISIBLE_DEVICES"
        )
        return fail("GPU memory", f"{seen}: none of {len(meant)} experiments fits", remedy)
    if fitting == meant:
        return ok("GPU memory", f"{seen}: all {len(meant)} experiments fit")
    too_large = [each for each in meant if each not in fitting]
    return ok("GPU memory", f"{seen}: {_by_model(fitting)} fit; {_by_model(too_large)} do not")


def _by_model(experiments: Sequence[Experiment]) -> str:
    """Group experiments by model.

    For example 'llama2-7b-chat (8-bit, 4-bit), mistral-7b-instruct (4-bit)'.
    """
    loaders: dict[str, list[str]] = {}
    for each in experiments:
        loaders.setdefault(each.model, []).append(each.loader)
    return ", ".join(f"{model} ({', '.join(names)})" for model, names in loaders.items())
