"""The noise of devices in their stored runs, as input for the simulation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from summarybench.analysis.noise import COMPILED, is_compiled, read_spread
from summarybench.core.outcomes import InputError
from summarybench.runs.baselines import SPREAD_FILE, read_baselines
from summarybench.runs.run_file import entries_of
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.spread import Spread
from summarybench.stats.timings import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredExperiment:
    """One stored experiment: its documents' timings and their noise.

    `document_deviation` is the standard deviation of one document in one run.
    """

    experiment: str
    timings: tuple[Timing, ...]
    document_deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDevice:
    """A device's spread between runs, and its experiments with known noise."""

    slug: str
    spread: Spread
    experiments: tuple[MeasuredExperiment, ...]


def read_devices(folder: Path) -> list[MeasuredDevice]:
    """Read every device that has a measured spread and stored runs of it.

    Raises InputError if there is none, or if a file cannot be used.
    """
    found = (_read_device(path.parent) for path in sorted(folder.glob(f"*/{SPREAD_FILE}")))
    devices = [device for both in found for device in both if device.experiments]
    if not devices:
        raise InputError(
            f"no device in {folder} has both a measured spread and stored runs of the same experiments; 'summarybench noise' (make spread) "
            "measures a spread, --benchmark-save=NAME stores a run"
        )
    return devices


def _read_device(folder: Path) -> tuple[MeasuredDevice, ...]:
    """The experiments of one device, grouped by their spread.

    The groups are eager experiments, compiled ones with equal kernels, and compiled ones with different kernels.

    Each of the three has a spread of its own.
    """
    stored = read_baselines(folder)
    spread = read_spread(folder, is_gpu=True)  # `is_gpu` decides only what is assumed if no spread was measured
    newest = {
        entry.experiment: entry
        for run in stored.runs
        for entry in entries_of(run.run)
        if entry.is_own_speed and len(entry.timings) >= MINIMUM_COMMON_DOCUMENTS
    }
    measured = [
        MeasuredExperiment(
            experiment=name, timings=tuple(newest[name].timings.values()), document_deviation=document_deviation
        )
        for name, document_deviation in sorted(spread.document_deviations.items())
        if name in newest
    ]
    eager, compiled = (
        tuple(each for each in measured if is_compiled(each.experiment) is kind) for kind in (False, True)
    )
    return (
        MeasuredDevice(slug=folder.name, spread=spread.runs, experiments=eager),
        MeasuredDevice(slug=f"{folder.name}, {COMPILED}", spread=spread.compiled, experiments=compiled),
        MeasuredDevice(
            slug=f"{folder.name}, {COMPILED} and tuned apart", spread=spread.tuned_apart, experiments=compiled
        ),
    )
