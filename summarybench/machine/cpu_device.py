"""The machine's CPUs and its memory, as Linux counts them."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from summarybench.machine.clock import Clock
from summarybench.machine.control_groups import limits
from summarybench.machine.device import Device
from summarybench.machine.environment import usable_cpus
from summarybench.machine.probes import (
    COPY_BANDWIDTH,
    MATRIX_PRODUCT,
    PYTHON_LOOP,
    Probe,
    copy_work,
    matrix_product_work,
    python_loop_work,
    repeated,
    seconds_of,
)
from summarybench.machine.telemetry import Monitor, NullMonitor

BANDWIDTH_COPY_BYTES = 256 * 1024**2
PROBE_COPY_BYTES = 64 * 1024**2
MATRIX_ROWS = 256
MATRIX_PRODUCTS = 200
"""Many small products, as in decoding: the threads meet after each, and wait for the slowest."""
LOOP_ITERATIONS = 100_000


class CpuProbes:
    """Copies, matrix products and a Python loop on the CPUs."""

    copy_bytes = BANDWIDTH_COPY_BYTES

    def make(self, dtype: str) -> Mapping[str, Probe]:
        copy, product = copy_work(PROBE_COPY_BYTES, "cpu"), matrix_product_work(MATRIX_ROWS, dtype, "cpu")
        return {
            COPY_BANDWIDTH: Probe(work=2 * PROBE_COPY_BYTES, run=copy),
            MATRIX_PRODUCT: Probe(work=MATRIX_PRODUCTS * 2 * MATRIX_ROWS**3, run=repeated(product, MATRIX_PRODUCTS)),
            PYTHON_LOOP: self.of_host(),
        }

    def of_host(self) -> Probe:
        return Probe(work=LOOP_ITERATIONS, run=python_loop_work(LOOP_ITERATIONS))

    def own_seconds(self, run: Callable[[], object]) -> float:
        return seconds_of(run, Clock(lambda: None))


class CpuDevice(Device):
    """All CPUs that this process may use.

    Memory is that of the whole process, Python and libraries included.
    """

    __slots__ = ()

    is_host = True
    is_shared_by_processes = True
    counts_process_memory = True
    affords_large_samples = False
    gains_from_large_batches = False
    collective_backend = "gloo"
    context_bytes = 0
    int8_input_dtype = "float32"
    eager_attention = None

    @property
    def training_dtype(self) -> str:
        return "float32"

    @property
    def compiles_decoding(self) -> bool:
        return False

    def clock(self) -> Clock:
        return Clock(lambda: None)

    def monitor(self) -> Monitor:
        return NullMonitor()

    def driver_version(self) -> str | None:
        return None

    def compute_capability(self) -> tuple[int, int] | None:
        return None

    def reset_peak_memory(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:  # some containers forbid it; the peak since the process's start is an upper bound
            return

    def peak_memory_bytes(self) -> int:
        """VmHWM, the largest resident set."""
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found.group(1)) * 1024 if found else 0

    def allocated_memory_bytes(self) -> int | None:
        """None, because no allocator counts."""
        return None

    def free_memory_bytes(self) -> int:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"))
        available = int(found.group(1)) * 1024 if found else self.memory_bytes
        of_container = limits().free_memory_bytes
        return min(available, self.memory_bytes, *([] if of_container is None else [of_container]))

    def hold_to_memory_limit(self) -> None:
        """Do nothing: on a CPU only predictions respect the limit."""

    def release_memory(self) -> None:
        gc.collect()

    @property
    def probes(self) -> CpuProbes:
        return CpuProbes()

    def divide_among(self, processes: int) -> None:
        """Use no more threads than this process's part of the CPUs.

        OMP_NUM_THREADS, which launchers set, may be lower.
        """
        import torch

        torch.set_num_threads(max(1, min(torch.get_num_threads(), usable_cpus() // processes)))

    def sharing_warning(self, holder: str) -> str:
        return f"warning: {holder} is measuring on this CPU: each disturbs the figures of the other; wait for its end"
