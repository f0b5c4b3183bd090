"""The predicted memory against the measured peak."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.catalogue.models import experiments
from summarybench.kinds.kind import Case, Kind, Marker, RunContext, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.runs import built_in_kinds

DOCUMENTS = 3
"""The longest prompt makes the peak. The other documents show that they do not."""


class MemoryKind(Kind):
    """A few documents, among them the one with the longest prompt.

    That prompt makes the peak.
    """

    facts = built_in_kinds.MEMORY
    marker = Marker(
        name="memory",
        description="predicted memory against the measured peak, on a GPU; runs when -m names it",
    )

    def cases(self) -> Sequence[Case]:
        return cases_of(experiments())

    def measure(self, toolbox: Toolbox) -> Measurement:
        loaded = toolbox.loaded_model()
        sample = toolbox.sample_for(loaded).around_the_longest(DOCUMENTS)
        return toolbox.measurement(loaded, sample, toolbox.measure(loaded, sample))

    def skip_reason(self, context: RunContext) -> str:
        if not context.device.counts_process_memory:
            return ""
        return "on a CPU the peak memory includes Python and torch, so the prediction cannot be checked"
