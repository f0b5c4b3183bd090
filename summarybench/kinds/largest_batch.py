"""The largest batch that fits in memory: predicted, then confirmed by running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from summarybench.kinds.batching import MARKER, batchable_experiments
from summarybench.kinds.kind import Case, Kind
from summarybench.runs.kind_facts import KindFacts, Unit


class LargestBatchKind(Kind):
    """What is compared is the batch size. The sample is also summarized in batches of that size."""

    facts = KindFacts(
        name="largest_safe_batch",
        unit=Unit.BATCH,
        title="largest safe batch",
        compared_count="largest_safe_batch",
        place=2,
    )
    marker = MARKER

    def cases(self) -> Sequence[Case]:
        return [Case(loaded=each, measured=replace(each, suffix="-largest-batch")) for each in batchable_experiments()]
