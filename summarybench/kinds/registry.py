"""The kinds of benchmark.

To add one, write a file beside this one and add a line to KINDS. docs/contributing/new-kind.md has the steps.
"""

from __future__ import annotations

from collections.abc import Iterable

from summarybench.core.outcomes import InputError
from summarybench.kinds.batching import BatchingKind
from summarybench.kinds.continuous import ContinuousKind
from summarybench.kinds.distributed import DistributedKind
from summarybench.kinds.fastest import FastestKind
from summarybench.kinds.fidelity import FidelityKind
from summarybench.kinds.kind import Kind
from summarybench.kinds.largest_batch import LargestBatchKind
from summarybench.kinds.memory import MemoryKind
from summarybench.kinds.overhead import OverheadKind
from summarybench.kinds.prompt_lookup import PromptLookupKind
from summarybench.kinds.server import ServerKind
from summarybench.kinds.server_overhead import ServerOverheadKind
from summarybench.kinds.student_draft import StudentDraftKind
from summarybench.kinds.summarize import SummarizeKind

KINDS: dict[str, Kind] = {}
"""By name. Read it when a session needs it and not at import: `register` may add to it."""


def register(kind: Kind) -> None:
    """Add a kind, in the place of one with the same name if there is one."""
    if kind.marker is None and not kind.runs_unasked:
        raise ValueError(f"kind {kind.name!r} has no marker and does not run unasked: nothing could ever run it")
    KINDS[kind.name] = kind


def kind_named(name: str) -> Kind:
    """Raises InputError for a name that no kind has."""
    if name not in KINDS:
        raise InputError(f"there is no kind of benchmark {name!r}; choose from {', '.join(KINDS)}")
    return KINDS[name]


def markers_to_name() -> set[str]:
    """The markers of the kinds that run only when -m names them."""
    return {kind.marker.name for kind in KINDS.values() if kind.marker and not kind.runs_unasked}


def marker_lines() -> Iterable[str]:
    """The markers of all kinds, as pytest.ini would register them."""
    markers = {kind.marker.name: kind.marker for kind in KINDS.values() if kind.marker}
    return [f"{marker.name}: {marker.description}" for marker in markers.values()]


for _kind in (
    SummarizeKind(),
    BatchingKind(),
    LargestBatchKind(),
    ContinuousKind(),
    FastestKind(),
    DistributedKind(),
    FidelityKind(),
    PromptLookupKind(),
    StudentDraftKind(),
    MemoryKind(),
    OverheadKind(),
    ServerKind(),
    ServerOverheadKind(),
):
    register(_kind)
