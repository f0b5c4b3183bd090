"""The predicted memory against the measured peak."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.catalogue.models import EXPERIMENTS
from summarybench.core.numbers import GIB
from summarybench.kinds.kind import Case, Kind, Marker, RunContext, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.runs.kind_facts import KindFacts, KindFigure

DOCUMENTS = 3
"""The longest prompt makes the peak. The other documents show that they do not."""


PREDICTED = KindFigure(
    key="predicted_memory_bytes",
    name="Predicted peak of this sample",
    heading="predicted peak GiB",
    short="predicted\npeak GiB",
    unit="GiB",
    format=".2f",
    divisor=GIB,
    meaning="The peak memory that was predicted before loading, from the model's shape, the loader and the batch size.",
)
MEASURED = KindFigure(
    key="peak_memory_bytes",
    name="Measured peak of this sample",
    heading="measured peak GiB",
    short="measured\npeak GiB",
    unit="GiB",
    format=".2f",
    divisor=GIB,
    higher_is_better=False,
    meaning="The most memory in use during the rounds, which include the longest prompt of the sample.",
)


class MemoryKind(Kind):
    """A few documents, among them the one with the longest prompt.

    That prompt makes the peak.
    """

    facts = KindFacts(
        name="memory",
        title="memory",
        is_own_speed=False,
        figures=(
            PREDICTED,
            MEASURED,
        ),
    )
    marker = Marker(
        name="memory",
        description="predicted memory against the measured peak, on a GPU; runs when -m names it",
    )

    def cases(self) -> Sequence[Case]:
        return cases_of(EXPERIMENTS)

    def measure(self, toolbox: Toolbox) -> Measurement:
        loaded = toolbox.loaded_model()
        sample = toolbox.sample_for(loaded).around_the_longest(DOCUMENTS)
        return toolbox.measurement(loaded, sample, toolbox.measure(loaded, sample))

    def skip_reason(self, context: RunContext) -> str:
        if not context.device.counts_process_memory:
            return ""
        return "on a CPU the peak memory includes Python and torch, so the prediction cannot be checked"
