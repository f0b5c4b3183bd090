"""Why a model could not be loaded: an outcome and one line for the user."""

from __future__ import annotations

from dataclasses import dataclass

from summarybench.catalogue.models import Experiment
from summarybench.core.device_errors import is_device_lost, is_out_of_memory, out_of_memory_figures
from summarybench.core.outcomes import (
    DeviceMemoryError,
    InputError,
    Outcome,
    SuiteError,
    UnavailableError,
    first_line,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotLoaded:
    """Returned in place of a model that could not be loaded.

    Fixtures therefore never raise.

    `is_of_loader` is True if another loader may be able to load the model: its weights, tokenizer, configuration and
    documents were found. `is_wrong_input` is True if an option or a file cannot be used.
    """

    experiment: Experiment
    outcome: Outcome
    detail: str
    is_of_loader: bool = False
    is_wrong_input: bool = False


def explain(error: BaseException, experiment: Experiment, *, is_of_loader: bool = False) -> NotLoaded:
    """The outcome of an experiment whose loading raised `error`, with `is_of_loader` as in `NotLoaded`.

    Its detail says what to do.
    """
    outcome, detail = _outcome_and_detail(error)
    return NotLoaded(
        experiment=experiment,
        outcome=outcome,
        detail=detail,
        is_of_loader=is_of_loader,
        is_wrong_input=isinstance(error, InputError),
    )


def _outcome_and_detail(error: BaseException) -> tuple[Outcome, str]:
    if isinstance(error, DeviceMemoryError):
        return Outcome.OUT_OF_MEMORY, str(error)
    if is_out_of_memory(error):
        return Outcome.OUT_OF_MEMORY, f"out of memory while loading: {out_of_memory_figures(error)}"
    if is_device_lost(error):
        return Outcome.INVALID, f"the GPU was lost: {first_line(error)}"
    if isinstance(error, UnavailableError):
        return Outcome.UNAVAILABLE, str(error)
    if isinstance(error, SuiteError):
        return Outcome.FAILED, str(error)
    return Outcome.FAILED, f"loading failed: {type(error).__name__}: {first_line(error)}"
