"""The fastest way to run each precision on a device.

Batches are large, and decoding is compiled where the device can compile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from summarybench.catalogue.models import EXPERIMENTS, GPUS_THAT_COMPILE, LOADERS, Experiment
from summarybench.core.option import Option
from summarybench.kinds.batching import measure_in_batches
from summarybench.kinds.kind import Case, Kind, Marker, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.measure.batching import even_batch_size
from summarybench.runs import built_in_kinds


class FastestKind(Kind):
    """One batch is one timed round. The batch size is chosen when the model is loaded."""

    facts = built_in_kinds.FASTEST
    marker = Marker(
        name="fastest",
        description=(
            "each precision in batches, compiled where the device compiles; run when -m names it, or with --fastest"
        ),
    )
    flag = "fastest"
    options = (
        Option(
            "--fastest",
            "measure each precision in large batches instead of single documents, compiled where the device supports it",
            example="--fastest",
            is_everyday=True,
            action="store_true",
        ),
    )

    def cases(self) -> Sequence[Case]:
        precisions = (each for each in EXPERIMENTS if not LOADERS[each.loader].is_compiled)
        return cases_of([way for each in precisions for way in _fastest_ways(each)])

    def markers_of(self, experiment: Experiment) -> tuple[str, ...]:
        """The experiment's markers without `compiled`.

        Compiled loaders need not be named here: where a device compiles, they are the fastest.
        """
        return tuple(name for name in experiment.markers if name != "compiled")

    def measure(self, toolbox: Toolbox) -> Measurement:
        """Summarize the sample in as few batches of even size as are predicted to fit."""
        loaded = toolbox.loaded_model()
        sample = toolbox.sample_for(loaded)
        batch_size = even_batch_size(loaded, sample.longest_sequence, len(sample.prompts), toolbox.device)
        return measure_in_batches(toolbox, loaded, replace(loaded.experiment, batch_size=batch_size))


def _fastest_ways(experiment: Experiment) -> Iterator[Experiment]:
    """The compiled loader on GPUs that compile, the usual loader elsewhere.

    A precision without a compiled loader has its usual one on all devices.
    """
    compiled = f"{experiment.loader}-compiled"
    compiling = GPUS_THAT_COMPILE if compiled in LOADERS else frozenset[str]()
    for loader, families, on_request in (
        (compiled, experiment.families & compiling, experiment.on_request & compiling),
        (experiment.loader, experiment.families - compiling, experiment.on_request - compiling),
    ):
        if families | on_request:
            yield replace(experiment, loader=loader, families=families, on_request=on_request, suffix="-fastest")
