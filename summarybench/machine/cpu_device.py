"""The machine's CPUs and its memory, as Linux counts them."""

from __future__ import annotations

import gc
import re
from pathlib import Path

from summarybench.machine.clock import Clock
from summarybench.machine.device import Device
from summarybench.machine.telemetry import Monitor, NullMonitor


class CpuDevice(Device):
    """All CPUs that this process may use. Memory is the whole process's, Python and libraries included."""

    __slots__ = ()

    def clock(self) -> Clock:
        return Clock(lambda: None)

    def monitor(self) -> Monitor:
        return NullMonitor()

    def driver_version(self) -> str | None:
        return None

    def reset_peak_memory(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:  # a container may forbid it: the peak is then since the process's start, an upper bound
            return

    def peak_memory_bytes(self) -> int:
        """VmHWM, the largest resident set."""
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found.group(1)) * 1024 if found else 0

    def allocated_memory_bytes(self) -> int | None:
        """None: there is no allocator that counts."""
        return None

    def free_memory_bytes(self) -> int:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"))
        return min(int(found.group(1)) * 1024 if found else self.memory_bytes, self.memory_bytes)

    def hold_to_memory_limit(self) -> None:
        """Only predictions heed a limit on a CPU."""

    def release_memory(self) -> None:
        gc.collect()
