"""The planned design of each experiment, and where its noise is known from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from summarybench.analysis.noise import are_tuned_alike
from summarybench.catalogue.models import Experiment
from summarybench.runs.baselines import has_same_workload
from summarybench.runs.run_file import Entry
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.power import Design
from summarybench.stats.spread import replicates_of


class NoiseSource(StrEnum):
    """Where the standard deviation of one document in one run comes from."""

    MEASURED = "measured"
    STORED = "taken from its stored runs"
    OTHERS = "taken from this device's other experiments"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The plan of one experiment.

    `design` is None if there are too few documents for a comparison. `is_of_another_host` is true if the stored runs are.

    Documents stand for rounds: an experiment in batches counts its batches.
    """

    experiment: Experiment
    documents: int
    stored_runs: int
    noise: NoiseSource
    design: Design | None
    is_of_another_host: bool = False


def are_kernels_kept(stored: Sequence[Entry]) -> bool:
    """Whether the next run on this host will have the kernels of `stored`.

    `stored` holds the newest runs, as many as count.

    True without any, since the first run's kernels stay in the host's cache.
    """
    return not stored or are_tuned_alike(entry.tuned_kernels for entry in stored)


def document_noise(
    experiment: str, entries: Sequence[Entry], measured: Mapping[str, float]
) -> tuple[float, NoiseSource]:
    """The standard deviation of one document in one run, and its source.

    An unknown deviation is 0.

    `entries` are the experiment's stored entries, oldest first. `measured` has standard deviations by experiment.
    """
    if experiment in measured:
        return measured[experiment], NoiseSource.MEASURED
    alike = [entry for entry in entries if has_same_workload(entry, entries[-1])]
    common = set.intersection(*(set(entry.timings) for entry in alike)) if alike else set()
    if len(alike) > 1 and len(common) >= MINIMUM_COMMON_DOCUMENTS:
        found = replicates_of([[entry.timings[each] for each in sorted(common)] for entry in alike])
        return math.sqrt(found.document_variance), NoiseSource.STORED
    if measured:
        return math.sqrt(fmean(deviation**2 for deviation in measured.values())), NoiseSource.OTHERS
    return 0.0, NoiseSource.UNKNOWN
