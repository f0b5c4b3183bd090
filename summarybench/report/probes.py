"""The machine probes around an experiment, beside those of its baseline."""

from __future__ import annotations

from dataclasses import dataclass

from summarybench.analysis.attribution import WORDS
from summarybench.machine.probes import COPY_BANDWIDTH, MATRIX_PRODUCT, has_same_work, overall_rate
from summarybench.report.experiment import ExperimentView

UNITS = {COPY_BANDWIDTH: "B/s", MATRIX_PRODUCT: "FLOP/s"}
"""Kernel launches and turns of a loop have no unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One machine probe: its rate in units such as B/s, and its change since the baseline as a share.

    `change` is None if the baseline has no such probe with the same work.
    """

    name: str
    rate: float
    unit: str
    change: float | None


def probes_of(experiment: ExperimentView) -> tuple[Probe, ...]:
    """The probes around an experiment; empty for runs from before they were measured."""
    stored = experiment.baseline
    before = stored.entry(experiment.entry.name) if stored else None
    there = before.extra_info["controls"] if before else {}
    found = []
    for name, probe in experiment.info["controls"].items():
        rate, is_alike = overall_rate(probe), has_same_work(probe, there.get(name, {}))
        change = rate / overall_rate(there[name]) - 1 if is_alike else None
        found.append(Probe(name=WORDS.get(name, name), rate=rate, unit=UNITS.get(name, "/s"), change=change))
    return tuple(found)
