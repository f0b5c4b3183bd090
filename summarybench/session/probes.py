"""The machine probes of a session.

They show what the device and its host can do, independent of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from summarybench.core.device_errors import is_out_of_memory
from summarybench.machine.clock import Clock
from summarybench.machine.device import Device
from summarybench.machine.probes import ProbeReadings, copy_bandwidth, host_probe, measure_probes


class Probes(Protocol):
    """Where a session takes its machine probes from.

    Tests with a clock of their own measure none.
    """

    @property
    def copy_bandwidth(self) -> float | None:
        """Bytes per second that the device copies within its memory.

        It is None where it was not measured.
        """

    def measure(self, dtype: str) -> ProbeReadings:
        """Take all probes of the machine, in about half a second.

        The matrix product is in this dtype.
        """

    def host_sample(self) -> float | None:
        """One repetition of the host's probe, per second; None where it was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineProbes:
    """The probes of a device, timed with the session's clock."""

    device: Device
    clock: Clock
    copy_bandwidth: float | None
    host_sample: Callable[[], float | None]

    def measure(self, dtype: str) -> ProbeReadings:
        return measure_probes(self.device, self.clock, dtype)


def probes_of(device: Device, clock: Clock) -> MachineProbes:
    """Measure the copy bandwidth, and prepare the other probes.

    Call it before a model takes memory.
    """
    return MachineProbes(
        device=device,
        clock=clock,
        copy_bandwidth=_copy_bandwidth_if_it_fits(device, clock),
        host_sample=host_probe(device, clock),
    )


def _copy_bandwidth_if_it_fits(device: Device, clock: Clock) -> float | None:
    """The copy bandwidth, or None where the copy does not fit in memory.

    Other processes may have taken the memory. Models that still fit are measured all the same.
    """
    try:
        return copy_bandwidth(device, clock)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    return None
