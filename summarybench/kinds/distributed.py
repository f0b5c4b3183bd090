"""Several processes at once, each with a GPU of its own or a part of the CPUs."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.catalogue.models import EXPERIMENTS
from summarybench.kinds.kind import Case, Kind, Marker, RunContext, cases_of
from summarybench.runs.kind_facts import KindFacts


class DistributedKind(Kind):
    """One document is one timed round, in each process. Each process has an equal part of the documents."""

    facts = KindFacts(name="distributed", title="distributed", is_own_speed=False, place=0)
    marker = Marker(
        name="distributed",
        description="several processes, each with a GPU or its part of the CPUs; runs when -m names it",
    )
    is_planned = True
    is_for_processes = True

    def cases(self) -> Sequence[Case]:
        return cases_of(EXPERIMENTS)

    def skip_reason(self, context: RunContext) -> str:
        """The command that starts several processes: accelerate's own launcher starts only one on a CPU."""
        if not context.process.is_alone:
            return ""
        gpu = context.device.is_gpu
        launcher = "accelerate launch --num_processes 2" if gpu else "torchrun --standalone --nproc-per-node 2"
        return (
            "one process cannot be spread over several GPUs or CPUs: "
            f'{launcher} -m pytest benchmarks -m "{context.markers}"'
        )
