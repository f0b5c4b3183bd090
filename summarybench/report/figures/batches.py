"""Experiments in batches."""

from __future__ import annotations

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Figure, Format, Group
from summarybench.report.figures.values import COUNT, HUNDREDTHS, percentiles
from summarybench.runs.run_file import rounds_of

BATCH_SIZE = Figure(
    key="batch-size",
    name="Batch size",
    heading="batch size",
    short="batch\nsize",
    format=COUNT,
    value=lambda experiment: max(map(len, _batches(experiment)), default=None),
    definition="The number of documents in the largest batch of the experiment.",
)
BATCHES = Figure(
    key="batches",
    name="Batches",
    heading="batches",
    format=COUNT,
    value=lambda experiment: len(_batches(experiment)) or None,
    definition="The number of batches that the documents were divided into. Each batch is one timed round.",
)
BATCH_SECONDS = Figure(
    key="batch-seconds",
    name="Seconds per batch",
    heading="s/batch p50 / p95",
    short="s/batch\np50 / p95",
    unit="s",
    format=HUNDREDTHS,
    better=Better.LOWER,
    value=lambda experiment: percentiles(list(experiment.entry.seconds)) if _batches(experiment) else None,
    definition="Seconds from the prompts on the device to the last token of the batch: the median and the 95th percentile.",
)


def _batches(experiment: ExperimentView) -> list[list[str]]:
    """The document ids of each batch; empty for experiments that are not batched."""
    return rounds_of(experiment.info) if experiment.info["batch_document_ids"] else []


def _padding(experiment: ExperimentView) -> float | None:
    prompt_tokens = dict(zip(experiment.info["document_ids"], experiment.info["prompt_tokens"], strict=True))
    lengths = [[prompt_tokens[each] for each in ids] for ids in _batches(experiment)]
    if not lengths:
        return None
    padded = sum(max(batch) * len(batch) for batch in lengths)
    return float(1 - sum(prompt_tokens.values()) / padded)


PADDING = Figure(
    key="padding",
    name="Padding",
    heading="padding",
    short="pad-\nding",
    format=Format(spec=".1%"),
    better=Better.LOWER,
    value=_padding,
    definition=(
        "Share of the prompt tokens in the batches that only pad shorter prompts to the length of the longest prompt."
    ),
)

GROUP = Group(
    title="Batches",
    terms=(
        BATCH_SIZE,
        BATCHES,
        BATCH_SECONDS,
        PADDING,
    ),
)
