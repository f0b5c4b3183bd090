"""Whether a model that nothing refers to any more has given back the device's memory that it took."""

from __future__ import annotations

from dataclasses import dataclass

from summarybench.core.outcomes import NotFreedError
from summarybench.machine.device import GIB, Device

TOLERATED_SHARE = 0.01
"""Of what the model took at its peak."""
TOLERATED_BYTES = 1024**2
"""What libraries keep whatever the model: look-up tables of a few KiB, and the allocator's rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBefore:
    """What was allocated before a model was loaded; None, and nothing is checked, where the device does not count that."""

    device: Device
    allocated_bytes: int | None

    def check_given_back(self) -> None:
        """To be called when the model has been let go of. Raises NotFreedError where more is allocated than before."""
        if self.allocated_bytes is None:
            return
        peak = self.device.peak_memory_bytes()
        self.device.release_memory()
        taken = max(0, peak - self.allocated_bytes)
        left = (self.device.allocated_memory_bytes() or 0) - self.allocated_bytes
        if left > max(TOLERATED_SHARE * taken, TOLERATED_BYTES):
            raise NotFreedError(
                f"{left / GIB:.3f} GiB of the {taken / GIB:.2f} GiB that the model took stay allocated after it was let go of: "
                "something still refers to it, and the next experiments have that much less"
            )


def memory_before_loading(device: Device) -> MemoryBefore:
    """Frees what can be freed, starts a new peak, and notes what stays allocated."""
    device.release_memory()
    allocated = device.allocated_memory_bytes()
    if allocated is not None:
        device.reset_peak_memory()
    return MemoryBefore(device=device, allocated_bytes=allocated)
