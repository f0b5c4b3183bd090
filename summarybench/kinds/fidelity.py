"""Compiled loaders and their eager twins, both against float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from summarybench.catalogue.models import LOADERS, MODELS, REFERENCE_LOADER, Experiment, experiments
from summarybench.engines.loaded_model import LoadedModel
from summarybench.kinds.kind import Case, Kind, Marker, RunContext, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.measure.fidelity import (
    EagerSide,
    Fidelity,
    RecordingModel,
    Reference,
    agreement_of,
    eager_side,
    logit_error,
    make_reference,
    quality_beside,
)
from summarybench.measure.generation import translate_device_errors
from summarybench.runs import built_in_kinds


class FidelityKind(Kind):
    """Float32, the eager twin and the compiled loader are loaded one after the other."""

    facts = built_in_kinds.FIDELITY
    marker = Marker(
        name="fidelity",
        description="compiled loaders and their eager twins against float32; runs when -m names it",
    )

    def cases(self) -> Sequence[Case]:
        """Each compiled loader with its eager twin and the float32 model."""
        compiled = (each for each in experiments() if LOADERS[each.loader].eager_twin)
        return cases_of(
            [replace(each, other_loaders=(LOADERS[each.loader].eager_twin, REFERENCE_LOADER)) for each in compiled]
        )

    def measure(self, toolbox: Toolbox) -> Measurement:
        """The finding is a `Fidelity`.

        The float32 model is loaded once for all loaders of a model. Raises as `Kind.measure`, and JudgementError where
        the disk has no room for the logits or a logit is not finite.
        """
        experiment, twin = toolbox.experiment, LOADERS[toolbox.experiment.loader].eager_twin

        def reference_of(loaded: LoadedModel) -> Reference:
            sample = toolbox.sample_for(loaded)
            with translate_device_errors(toolbox.device):
                return make_reference(
                    loaded, sample.prompts, sample.max_new_tokens, toolbox.scratch() / experiment.model
                )

        def eager_side_of(loaded: LoadedModel) -> EagerSide:
            sample = toolbox.sample_for(loaded)
            with translate_device_errors(toolbox.device):
                return eager_side(loaded, twin, sample.prompts, sample.max_new_tokens, reference)

        reference = toolbox.once(
            f"reference logits of {experiment.model}",
            lambda: toolbox.lend(experiment.loaded_as(REFERENCE_LOADER), reference_of),
        )
        eager = toolbox.lend(experiment.loaded_as(twin), eager_side_of)
        return toolbox.lend(experiment, lambda loaded: _measure_compiled(toolbox, loaded, reference, eager))

    def markers_of(self, experiment: Experiment) -> tuple[str, ...]:
        """The markers of the model and of all its device families.

        The marker `compiled` is left out, so naming the kind is enough to select its compiled loaders.
        """
        return (MODELS[experiment.model].marker, *sorted(experiment.families | experiment.on_request))

    def skip_reason(self, context: RunContext) -> str:
        if not context.synthetic_weights:
            return ""
        return "random weights produce no meaningful summaries to compare; leave out --weights synthetic"


def _measure_compiled(toolbox: Toolbox, loaded: LoadedModel, reference: Reference, eager: EagerSide) -> Measurement:
    """Time the compiled loader, and compare its summaries with its eager twin's.

    The compared summaries are the ones that were timed.
    """
    sample, recording = toolbox.sample_for(loaded), RecordingModel(loaded)
    measured = toolbox.measure(loaded, sample, model=recording)
    with translate_device_errors(toolbox.device):
        error = logit_error(loaded, sample.prompts, reference)
    found = Fidelity(
        eager=eager,
        logit_error=error,
        forced_tokens=reference.tokens,
        agreement=agreement_of(recording.summaries, eager.summaries),
        quality=quality_beside(
            [record.summary for record in measured.records], eager, sample.documents, sample.language
        ),
    )
    return toolbox.measurement(loaded, sample, measured, extra_info={"fidelity": found.as_extra_info()}, finding=found)
