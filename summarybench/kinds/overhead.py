"""The harness against a bare loop around `generate`."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.catalogue.models import experiments
from summarybench.kinds.kind import Case, Kind, Marker, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.measure.overhead import compare_with_bare_loop
from summarybench.runs import built_in_kinds


class OverheadKind(Kind):
    """Each document is summarized twice by the harness and twice by a bare loop.

    The rounds are interleaved in one process.
    """

    facts = built_in_kinds.OVERHEAD
    marker = Marker(
        name="overhead",
        description="the harness against a bare loop; runs when -m names it",
    )

    def cases(self) -> Sequence[Case]:
        return cases_of([each for each in experiments() if each.loader in ("default", "fp16", "4-bit")])

    def measure(self, toolbox: Toolbox) -> Measurement:
        """The finding is an `Overhead`."""
        loaded = toolbox.loaded_model()
        sample = toolbox.sample_for(loaded)
        overhead, measured = compare_with_bare_loop(
            toolbox.benchmark,
            loaded,
            sample.prompts,
            max_new_tokens=sample.max_new_tokens,
            instruments=toolbox.instruments(loaded),
            on_record=toolbox.recorder(loaded, len(sample.prompts)),
        )
        return toolbox.measurement(
            loaded, sample, measured, extra_info={"overhead": overhead.as_extra_info()}, finding=overhead
        )
