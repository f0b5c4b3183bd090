"""Compiled loaders and their eager counterparts, both against float32, and eager loaders against float32 alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from summarybench.catalogue.models import AS_STORED, LOADERS, MODELS, REFERENCE_LOADER, Experiment, Loader, experiments
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
    reference_side,
)
from summarybench.measure.generation import translate_device_errors
from summarybench.runs import built_in_kinds


class FidelityKind(Kind):
    """Float32, the eager counterpart and the compiled loader are loaded one after the other.

    An eager loader has float32 in place of a counterpart.
    """

    facts = built_in_kinds.FIDELITY
    marker = Marker(
        name="fidelity",
        description="compiled and quantized loaders against float32, and against their eager counterparts; runs when -m names it",
    )

    def cases(self) -> Sequence[Case]:
        """Each loader with the float32 model, and each compiled one with its eager counterpart too."""
        return cases_of([each for each in map(_with_other_loaders, experiments()) if each.other_loaders])

    def measure(self, toolbox: Toolbox) -> Measurement:
        """The finding is a `Fidelity`.

        The float32 model is loaded once for all loaders of a model. Raises as `Kind.measure`, and JudgementError where
        the disk has no room for the logits or a logit is not finite.
        """
        experiment = toolbox.experiment
        beside = experiment.other_loaders[0]

        def reference_of(loaded: LoadedModel) -> Reference:
            sample = toolbox.sample_for(loaded)
            with _generating(toolbox, loaded):
                return make_reference(
                    loaded, sample.prompts, sample.max_new_tokens, toolbox.scratch() / experiment.model
                )

        def eager_side_of(loaded: LoadedModel) -> EagerSide:
            sample = toolbox.sample_for(loaded)
            with _generating(toolbox, loaded):
                if beside == REFERENCE_LOADER:
                    return reference_side(loaded, sample.prompts, sample.max_new_tokens, reference)
                return eager_side(loaded, beside, sample.prompts, sample.max_new_tokens, reference)

        reference = toolbox.once(
            f"reference logits of {experiment.model}",
            lambda: toolbox.lend(experiment.loaded_as(REFERENCE_LOADER), reference_of),
        )
        eager = toolbox.once(
            f"{beside} of {experiment.model} against float32",
            lambda: toolbox.lend(experiment.loaded_as(beside), eager_side_of),
        )
        return toolbox.lend(experiment, lambda loaded: _measure_beside(toolbox, loaded, reference, eager))

    def markers_of(self, experiment: Experiment) -> tuple[str, ...]:
        """The markers of the model and of all its device families.

        The marker `compiled` is left out, so naming the kind is enough to select its compiled loaders.
        """
        return (MODELS[experiment.model].marker, *sorted(experiment.families | experiment.on_request))

    def skip_reason(self, context: RunContext) -> str:
        if not context.synthetic_weights:
            return ""
        return "random weights produce no meaningful summaries to compare; leave out --weights synthetic"


def _with_other_loaders(experiment: Experiment) -> Experiment:
    """The experiment with the loaders that it is compared with: none where there is nothing to compare."""
    return replace(experiment, other_loaders=_compared_with(LOADERS[experiment.loader]))


def _compared_with(loader: Loader) -> tuple[str, ...]:
    if loader.eager_counterpart:
        return loader.eager_counterpart, REFERENCE_LOADER
    # The plain weights of a checkpoint that was published quantized are not at hand.
    is_compared = not (loader.is_compiled or loader.name == REFERENCE_LOADER or loader.quantization == AS_STORED)
    return (REFERENCE_LOADER,) if is_compared else ()


@contextmanager
def _generating(toolbox: Toolbox, loaded: LoadedModel) -> Iterator[None]:
    stage = f"summaries and logits of {loaded.experiment.name}"
    with translate_device_errors(toolbox.device), toolbox.generating(loaded, stage):
        yield


def _measure_beside(toolbox: Toolbox, loaded: LoadedModel, reference: Reference, eager: EagerSide) -> Measurement:
    """Time the loader, and compare its summaries with its eager counterpart's or float32's.

    The compared summaries are the ones that were timed.
    """
    sample, recording = toolbox.sample_for(loaded), RecordingModel(loaded)
    measured = toolbox.measure(loaded, sample, model=recording)
    with _generating(toolbox, loaded):
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
