"""Experiments of several processes at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Extremes, Figure, Group
from summarybench.report.figures.values import COUNT, TENTHS, THOUSANDTHS


def _scaling(experiment: ExperimentView) -> Mapping[str, Any]:
    return experiment.info.get("scaling") or {}


def _each_process(experiment: ExperimentView) -> Extremes | None:
    speeds = [process["tokens_per_second"] for process in _scaling(experiment).get("per_process", ())]
    return Extremes(min(speeds), max(speeds)) if speeds else None


PROCESSES = Figure(
    key="processes",
    name="Processes",
    heading="processes",
    short="pro-\ncesses",
    format=COUNT,
    value=lambda experiment: experiment.info.get("processes"),
    definition="The number of processes that generate at the same time, each with a GPU or a part of the CPUs.",
)
ALONE = Figure(
    key="alone",
    name="One process alone",
    heading="one alone tok/s",
    short="one alone\ntok/s",
    unit="tokens/s",
    format=TENTHS,
    better=Better.HIGHER,
    value=lambda experiment: _scaling(experiment).get("tokens_per_second_alone"),
    definition="Generated tokens per second of one process while the others wait.",
)
ALL_AT_ONCE = Figure(
    key="all-at-once",
    name="All processes at once",
    heading="all at once tok/s",
    short="all at once\ntok/s",
    unit="tokens/s",
    format=TENTHS,
    better=Better.HIGHER,
    value=lambda experiment: _scaling(experiment).get("tokens_per_second"),
    definition="Generated tokens per second of all processes together.",
)
EACH_PROCESS = Figure(
    key="each-process",
    name="Each process",
    heading="each tok/s",
    short="each\ntok/s",
    unit="tokens/s",
    format=TENTHS,
    value=_each_process,
    definition="Generated tokens per second of the slowest and of the fastest process while all generate.",
)
EFFICIENCY = Figure(
    key="efficiency",
    name="Scaling efficiency",
    heading="efficiency",
    format=THOUSANDTHS,
    better=Better.HIGHER,
    value=lambda experiment: experiment.info.get("scaling_efficiency"),
    definition="Tokens per second of all n processes ÷ (n × those of one process alone). 1 is perfect scaling.",
)
STORED_EFFICIENCY = Figure(
    key="stored-efficiency",
    name="Scaling efficiency of the baseline",
    heading="stored efficiency",
    short="stored\nefficiency",
    format=THOUSANDTHS,
    value=lambda experiment: experiment.info.get("baseline_scaling_efficiency"),
    definition="The scaling efficiency of the baseline.",
)

GROUP = Group(
    title="Several processes",
    terms=(
        PROCESSES,
        ALONE,
        ALL_AT_ONCE,
        EACH_PROCESS,
        EFFICIENCY,
        STORED_EFFICIENCY,
    ),
)
