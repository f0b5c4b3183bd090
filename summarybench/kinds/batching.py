"""Summaries of several documents at a time, at fixed batch sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from summarybench.catalogue.models import CPU, LOADERS, WEIGHT_ONLY, Experiment, experiments
from summarybench.engines.loaded_model import LoadedModel
from summarybench.kinds.kind import Case, Kind, Marker
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.measure.batching import BATCH_SIZES, LARGEST_BATCH_SIZE_ON_A_CPU, hold_in_memory
from summarybench.runs import built_in_kinds

MARKER = Marker(
    name="batching",
    description="several documents at a time, and the largest batch that is safe; runs when -m names it",
)


def batchable_experiments() -> list[Experiment]:
    """The experiments that are measured in batches.

    Where only weights are quantized by this project (w8a16, w4a16, fp8), they are unpacked to 16 bits at each step of a
    batch, so batches gain nothing.
    """
    weight_only = {"int8 weights", *WEIGHT_ONLY}
    return [each for each in experiments() if LOADERS[each.loader].quantization not in weight_only]


class BatchingKind(Kind):
    """One batch is one timed round. All batch sizes of a loader share one load."""

    facts = built_in_kinds.BATCHING
    marker = MARKER
    is_planned = True
    reads_long_documents = True

    def cases(self) -> Sequence[Case]:
        return [
            Case(loaded=each, measured=in_batches_of(batch_size, each))
            for each in batchable_experiments()
            for batch_size in BATCH_SIZES
        ]

    def measure(self, toolbox: Toolbox) -> Measurement:
        return measure_in_batches(toolbox, toolbox.loaded_model(), toolbox.experiment)


def measure_in_batches(
    toolbox: Toolbox, loaded: LoadedModel, experiment: Experiment, extra_info: Mapping[str, Any] | None = None
) -> Measurement:
    """Summarize the sample in batches of the experiment's size.

    The longest documents come first. `extra_info` has further keys of the calling kind. Raises as `Kind.measure`, and
    BatchTooLargeError where memory does not suffice, as predicted.
    """
    sample = toolbox.sample_for(loaded)
    batch_size = min(experiment.batch_size, len(sample.prompts))
    loaded.resize(batch_size)
    prediction = loaded.memory_for(sample.longest_sequence, batch_size)
    with hold_in_memory(experiment, prediction, toolbox.device, predict=toolbox.predicts_memory):
        batched = loaded.as_experiment(experiment, prediction)
        measured = toolbox.measure(batched, sample, batch_size=experiment.batch_size)
        return toolbox.measurement(batched, sample, measured, extra_info=extra_info)


def in_batches_of(batch_size: int, experiment: Experiment) -> Experiment:
    """The experiment at this batch size.

    On a CPU, only batches that take seconds are measured.
    """
    families = experiment.families if batch_size <= LARGEST_BATCH_SIZE_ON_A_CPU else experiment.families - CPU
    return replace(experiment, batch_size=batch_size, suffix=f"-batch{batch_size}", families=families)
