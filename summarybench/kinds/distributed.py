"""Several processes at once, each with a GPU of its own or a part of the CPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from summarybench.catalogue.models import experiments
from summarybench.core.invocation import this_invocation
from summarybench.core.outcomes import JudgementError
from summarybench.kinds.kind import Case, Kind, Marker, RunContext, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.machine.peers import LOADING_TIMEOUT_SECONDS
from summarybench.measure.scaling import measure_scaling
from summarybench.runs import built_in_kinds
from summarybench.runs.workload import differences


class DistributedKind(Kind):
    """One document is one timed round, in each process.

    Each process has an equal part of the documents.
    """

    facts = built_in_kinds.DISTRIBUTED
    marker = Marker(
        name="distributed",
        description="several processes, each with a GPU or its part of the CPUs; runs when -m names it",
    )
    is_planned = True
    is_for_processes = True
    baseline_figures = ("scaling_efficiency",)

    def cases(self) -> Sequence[Case]:
        return cases_of(experiments())

    def skip_reason(self, context: RunContext) -> str:
        """For one process: the command that starts two processes with the same arguments."""
        if not context.process.is_alone:
            return ""
        launcher = ("--standalone", "--nproc-per-node", "2", "-m", "pytest")
        command = this_invocation().program("torch.distributed.run", *launcher, *context.arguments)
        return f"one process cannot be spread over several GPUs or CPUs; start two: {command}"

    def measure(self, toolbox: Toolbox) -> Measurement:
        """Summarize the sample in all processes at once.

        Every process returns the same measurement. The finding is a `Scaling`. Where one process fails, all of them
        raise its error. Raises as `Kind.measure`, and ProcessLostError where a process is gone, and JudgementError
        where the processes do not do the same work.
        """
        peers, nodeid = toolbox.peers, toolbox.nodeid
        if peers is None:
            raise RuntimeError(
                f"{nodeid} needs at least two processes, and this run has one: it should have been skipped"
            )
        with peers.attentive():
            peers.run_in_all(
                f"{nodeid}, loaded",
                lambda: bool(toolbox.loaded_model()),
                timeout_seconds=lambda: LOADING_TIMEOUT_SECONDS,
            )
            loaded = toolbox.loaded_model()
            sample = toolbox.sample_for(loaded)
            workload = toolbox.workload(loaded, sample, processes=peers.process.count)
            _check_same_work(peers.all_gather(f"{nodeid}, workload", (toolbox.device.name, workload.as_dict())))
            measured, scaling = measure_scaling(
                toolbox.benchmark,
                loaded,
                sample.prompts,
                nodeid=nodeid,
                peers=peers,
                max_new_tokens=sample.max_new_tokens,
                instruments=toolbox.instruments(loaded),
                on_record=toolbox.recorder(loaded, len(sample.prompts)),
            )
        return toolbox.measurement(
            loaded,
            sample.with_documents(frozenset(record.document_id for record in measured.records)),
            measured,
            workload=workload,
            extra_info=scaling.as_extra_info(),
            finding=scaling,
        )


def _check_same_work(found: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Check that all processes have the same device and workload.

    `found` has both by rank. Raises JudgementError where a process differs from process 0.
    """
    first_device, first = found[0]
    for rank, (device, workload) in enumerate(found):
        named = [f"on a {device}"] if device != first_device else []
        if named := [*named, *differences(workload, first)]:
            raise JudgementError(
                f"process {rank} differs from process 0 on its {first_device}: {'; '.join(named)}; "
                "their combined throughput would be meaningless"
            )
