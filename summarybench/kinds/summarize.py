"""Summaries of single documents: the kind that runs unasked."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.catalogue.models import experiments
from summarybench.kinds.kind import Case, Kind, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.runs import built_in_kinds


class SummarizeKind(Kind):
    """One document is one timed round."""

    facts = built_in_kinds.SUMMARIZE
    runs_unasked = True
    has_students = True
    is_planned = True
    reads_long_documents = True

    def cases(self) -> Sequence[Case]:
        return cases_of(experiments())

    def measure(self, toolbox: Toolbox) -> Measurement:
        """Summarize every document of the sample by itself.

        The summaries that are timed are the ones that are scored.
        """
        loaded = toolbox.loaded_model()
        sample = toolbox.sample_for(loaded)
        return toolbox.measurement(loaded, sample, toolbox.measure(loaded, sample))
