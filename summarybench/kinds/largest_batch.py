"""The largest batch that fits in memory: predicted, then confirmed by running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from summarybench.kinds.batching import MARKER, batchable_experiments
from summarybench.kinds.kind import Case, Kind, RunContext
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.measure.batching import find_largest_batch
from summarybench.runs import built_in_kinds


class LargestBatchKind(Kind):
    """What is compared is the batch size.

    The sample is also summarized in batches of that size.
    """

    facts = built_in_kinds.LARGEST_BATCH
    marker = MARKER

    def cases(self) -> Sequence[Case]:
        return [Case(loaded=each, measured=replace(each, suffix="-largest-batch")) for each in batchable_experiments()]

    def skip_reason(self, context: RunContext) -> str:
        if not context.reads_in_calls:
            return ""
        return "the largest batch is searched with truncated documents; leave out --long-documents to search it"

    def measure(self, toolbox: Toolbox) -> Measurement:
        loaded = toolbox.loaded_model()
        sample = toolbox.sample_for(loaded)
        with toolbox.generating(loaded, f"finding the largest batch of {loaded.experiment.name}"):
            found = find_largest_batch(loaded, sample.prompts, sample.max_new_tokens, toolbox.device)
        prediction = loaded.memory_for(sample.longest_sequence, min(found.batch_size, len(sample.prompts)))
        batched = loaded.as_experiment(toolbox.experiment, prediction)
        measured = toolbox.measure(batched, sample, batch_size=found.batch_size)
        return toolbox.measurement(batched, sample, measured, extra_info=found.as_extra_info())
