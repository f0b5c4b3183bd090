"""Experiments with continuous batching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Figure, Group, Part, Percentiles
from summarybench.report.figures.values import COUNT, HUNDREDTHS, TENTHS, WORD, percentiles


def _continuous(experiment: ExperimentView) -> Mapping[str, Any] | None:
    return experiment.info.get("continuous")


def _in_flight(experiment: ExperimentView) -> Part | int | None:
    """A number alone if a long document has several requests at once, which are no part of the documents."""
    facts, documents = _continuous(experiment), len(experiment.info["document_ids"])
    if facts is None or facts["requests_in_flight"] > documents:
        return None if facts is None else int(facts["requests_in_flight"])
    return Part(facts["requests_in_flight"], documents)


def _finish_seconds(experiment: ExperimentView) -> Percentiles | None:
    return None if _continuous(experiment) is None else percentiles(experiment.info["finish_seconds"])


def _steps_per_second(experiment: ExperimentView) -> float | None:
    facts = _continuous(experiment)
    return None if facts is None else sum(each["steps"] for each in facts["rounds"]) / sum(experiment.entry.seconds)


def _changed_summaries(experiment: ExperimentView) -> int | None:
    facts = _continuous(experiment)
    return None if facts is None else sum(each["changed_summaries"] for each in facts["rounds"])


IN_FLIGHT = Figure(
    key="in-flight",
    name="Requests in flight",
    heading="in flight",
    short="in\nflight",
    format=COUNT,
    value=_in_flight,
    definition="How many documents are generated at the same time at most, of all documents that are submitted at once.",
)
ROUNDS = Figure(
    key="rounds",
    name="Rounds",
    heading="rounds",
    format=COUNT,
    value=lambda experiment: len(experiment.entry.seconds),
    definition="How often all documents were summarized. Each pass over all documents is one timed round.",
)
FINISH = Figure(
    key="finish",
    name="Finished after",
    heading="finished after p50 / p95 s",
    short="finished after\np50 / p95 s",
    unit="s",
    format=HUNDREDTHS,
    better=Better.LOWER,
    value=_finish_seconds,
    definition="Seconds from the start of the round until a document is finished: the median and the 95th percentile.",
)
LAST_FINISH = Figure(
    key="last-finish",
    name="Last document finished after",
    heading="last s",
    short="last\ns",
    unit="s",
    format=HUNDREDTHS,
    better=Better.LOWER,
    value=lambda experiment: None if _continuous(experiment) is None else max(experiment.info["finish_seconds"]),
    definition="Seconds from the start of the round until the last document is finished.",
)
STEPS = Figure(
    key="steps",
    name="Steps per second",
    heading="steps/s",
    short="steps\n/s",
    unit="steps/s",
    format=TENTHS,
    better=Better.HIGHER,
    value=_steps_per_second,
    definition="Forward passes of the model per second. One step advances every document in flight.",
)
CHANGED_SUMMARIES = Figure(
    key="changed-summaries",
    name="Changed summaries",
    heading="changed",
    format=COUNT,
    better=Better.LOWER,
    value=_changed_summaries,
    definition="Summaries of later rounds whose text differs from that of the first round, over all rounds.",
)
ATTENTION = Figure(
    key="attention",
    name="Paged attention",
    heading="attention",
    format=WORD,
    value=lambda experiment: experiment.info["workload_settings"]["loader_settings"].get("paged_attention"),
    definition="The attention kernel that reads the paged KV cache.",
)

GROUP = Group(
    title="Continuous batching",
    terms=(
        IN_FLIGHT,
        ROUNDS,
        FINISH,
        LAST_FINISH,
        STEPS,
        CHANGED_SUMMARIES,
        ATTENTION,
    ),
)
