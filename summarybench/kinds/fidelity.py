"""Compiled loaders and their eager twins, both against float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from summarybench.catalogue.models import EXPERIMENTS, LOADERS, MODELS, REFERENCE_LOADER, Experiment
from summarybench.kinds.kind import Case, Kind, Marker, RunContext, cases_of
from summarybench.runs.kind_facts import KindFacts


class FidelityKind(Kind):
    """Float32, the eager twin and the compiled loader are loaded one after the other."""

    facts = KindFacts(name="fidelity", title="fidelity", is_own_speed=False, place=0)
    marker = Marker(
        name="fidelity",
        description="compiled loaders and their eager twins against float32; runs when -m names it",
    )
    loads_its_models = True

    def cases(self) -> Sequence[Case]:
        """Each compiled loader with its eager twin and the float32 model."""
        compiled = (each for each in EXPERIMENTS if LOADERS[each.loader].eager_twin)
        return cases_of(
            [replace(each, other_loaders=(LOADERS[each.loader].eager_twin, REFERENCE_LOADER)) for each in compiled]
        )

    def markers_of(self, experiment: Experiment) -> tuple[str, ...]:
        """The model and all its families: the kind alone has to be named, not the compiled loaders it is about."""
        return (MODELS[experiment.model].marker, *sorted(experiment.families | experiment.on_request))

    def skip_reason(self, context: RunContext) -> str:
        if not context.synthetic_weights:
            return ""
        return "random weights have no summaries to be faithful to: leave out --weights synthetic"
