"""The harness against a bare loop around `generate`."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.catalogue.models import EXPERIMENTS
from summarybench.kinds.kind import Case, Kind, Marker, cases_of
from summarybench.runs.kind_facts import KindFacts


class OverheadKind(Kind):
    """Each document is summarized twice through the harness and twice in a bare loop, interleaved in one process."""

    facts = KindFacts(name="overhead", title="overhead", is_own_speed=False)
    marker = Marker(
        name="overhead",
        description="the harness against a bare loop; runs when -m names it",
    )

    def cases(self) -> Sequence[Case]:
        return cases_of([each for each in EXPERIMENTS if each.loader in ("default", "fp16", "4-bit")])
