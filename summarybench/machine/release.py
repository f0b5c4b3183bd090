"""Checking that a released model returned all its device memory."""

from __future__ import annotations

from dataclasses import dataclass

from summarybench.core.numbers import gib
from summarybench.core.outcomes import NotFreedError
from summarybench.machine.device import Device

TOLERATED_SHARE = 0.01
"""The tolerated share of the model's peak memory."""
TOLERATED_BYTES = 1024**2
"""Libraries keep this much for any model: look-up tables of a few KiB, and the allocator's rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBefore:
    """The bytes allocated before a model was loaded.

    None, and no check, if the device does not count them.
    """

    device: Device
    allocated_bytes: int | None

    def check_given_back(self) -> None:
        """Raise NotFreedError if more memory is allocated than before loading.

        Call it after releasing the model.
        """
        if self.allocated_bytes is None:
            return
        peak = self.device.peak_memory_bytes()
        self.device.release_memory()
        taken = max(0, peak - self.allocated_bytes)
        left = (self.device.allocated_memory_bytes() or 0) - self.allocated_bytes
        if left > max(TOLERATED_SHARE * taken, TOLERATED_BYTES):
            raise NotFreedError(
                f"{gib(left, 3)} GiB of the {gib(taken)} GiB that the model took stay allocated after its release: "
                "something still refers to it, and the next experiments have that much less memory"
            )


def memory_before_loading(device: Device) -> MemoryBefore:
    """Release memory, start a new peak, and record what stays allocated."""
    device.release_memory()
    allocated = device.allocated_memory_bytes()
    if allocated is not None:
        device.reset_peak_memory()
    return MemoryBefore(device=device, allocated_bytes=allocated)
