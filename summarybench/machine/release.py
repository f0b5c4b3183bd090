"""Whether a model that nothing refers to any more has given back the device's memory that it took."""

from __future__ import annotations

from dataclasses import dataclass

from summarybench.core.outcomes import NotFreedError
from summarybench.machine.device import (
    GIB,
    Device,
    allocated_memory_bytes,
    peak_memory_bytes,
    release_memory,
    reset_peak_memory,
)

TOLERATED_SHARE = 0.01
"""Of what the model took at its peak."""
TOLERATED_BYTES = 1024**2
"""What libraries keep whatever the model: look-up tables of a few KiB, and the allocator's rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBefore:
    """What was allocated on a GPU before a model was loaded. On a CPU nothing is: there, nothing is checked."""

    device: Device
    allocated_bytes: int

    def check_given_back(self) -> None:
        """To be called when the model has been let go of. Raises NotFreedError where more is allocated than before."""
        if not self.device.is_gpu:
            return
        peak = peak_memory_bytes(self.device)
        release_memory(self.device)
        taken = max(0, peak - self.allocated_bytes)
        left = allocated_memory_bytes(self.device) - self.allocated_bytes
        if left > max(TOLERATED_SHARE * taken, TOLERATED_BYTES):
            raise NotFreedError(
                f"{left / GIB:.3f} GiB of the {taken / GIB:.2f} GiB that the model took stay allocated after it was let go of: "
                "something still refers to it, and the next experiments have that much less"
            )


def memory_before_loading(device: Device) -> MemoryBefore:
    """Frees what can be freed, starts a new peak, and notes what stays allocated."""
    release_memory(device)
    if not device.is_gpu:
        return MemoryBefore(device=device, allocated_bytes=0)
    reset_peak_memory(device)
    return MemoryBefore(device=device, allocated_bytes=allocated_memory_bytes(device))
