"""Which exceptions say that memory ran out or that the GPU failed: torch has no common types for them."""

from __future__ import annotations

import re
import traceback

from summarybench.core.numbers import gib
from summarybench.core.outcomes import first_line

OUT_OF_MEMORY_SIGNS = (
    "DefaultCPUAllocator",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception or one of its causes reports a lack of memory.

    torch has no common type for such exceptions.
    """
    return _memory_error_in(error) is not None


def _memory_error_in(error: BaseException) -> BaseException | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError":
            return seen
        if any(sign in str(seen) for sign in OUT_OF_MEMORY_SIGNS):
            return seen
        seen = seen.__cause__
    return None


MEMORY_FIGURES = (
    ("asked for {}", re.compile(r"[Tt]ried to allocate ([\d.]+ \w+)")),
    ("{} in use", re.compile(r"([\d.]+ \w+) is allocated by PyTorch")),
    ("{} reserved beside it", re.compile(r"([\d.]+ \w+) is reserved by PyTorch")),
    ("{} free", re.compile(r"of which ([\d.]+ \w+) (?:is|are) free")),
    ("{} in all", re.compile(r"total capac\w+ of ([\d.]+ \w+)")),
    ("{} allowed", re.compile(r"([\d.]+ \w+) allowed")),
)
"""The figures in the messages of torch's allocators (CUDACachingAllocator.cpp, alloc_cpu.cpp)."""


def out_of_memory_figures(error: BaseException) -> str:
    """The memory requested, in use and free, as far as the error reports it.

    Otherwise the error's first line.
    """
    cause = _memory_error_in(error) or error
    found = [(words, pattern.search(str(cause))) for words, pattern in MEMORY_FIGURES]
    figures = [words.format(_in_gib(match.group(1))) for words, match in found if match]
    return ", ".join(figures) or first_line(cause)


def explain_out_of_memory(error: Exception) -> str:
    """The figures of an out-of-memory error.

    Clears its frames, which refer to the tensors that filled the memory.

    Raises any other error again, so call it while the error is handled.
    """
    if not is_out_of_memory(error):
        raise error
    traceback.clear_frames(error.__traceback__)
    return out_of_memory_figures(error)


def _in_gib(size: str) -> str:
    """Format a size as torch does, but plain bytes (on a CPU) in GiB."""
    number, unit = size.split()
    return f"{gib(float(number))} GiB" if unit == "bytes" else size


DEVICE_LOST_SIGNS = ("CUDA error", "GPU is lost", "CUDNN_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_EXECUTION_FAILED")


def is_device_lost(error: BaseException) -> bool:
    """Whether an exception reports that the GPU failed.

    After that, every call of the process fails.
    """
    return not is_out_of_memory(error) and any(sign in str(error) for sign in DEVICE_LOST_SIGNS)
