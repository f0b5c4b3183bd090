"""The models of a session: loaded for a test, or lent for the time of one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from summarybench.catalogue.models import Experiment
from summarybench.core.outcomes import (
    DeviceLostError,
    DeviceMemoryError,
    InputError,
    JudgementError,
    Outcome,
    UnavailableError,
)
from summarybench.core.session_seconds import SessionSeconds
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.not_loaded import NotLoaded
from summarybench.machine.device import Device
from summarybench.machine.release import memory_before_loading
from summarybench.session.progress import Progress

LoadModel = Callable[[Experiment], LoadedModel | NotLoaded]
"""Loads an experiment's model, or says why it could not be loaded."""
Result = TypeVar("Result")


def ask_once(load: LoadModel) -> LoadModel:
    """Wrap `load` so that it asks only once for a model that is unavailable.

    A hub may take minutes to fail, and each model has several loaders. What keeps one loader from loading the model is not
    held against the others.
    """
    unavailable: dict[str, NotLoaded] = {}  # by model

    def load_once(experiment: Experiment) -> LoadedModel | NotLoaded:
        if experiment.model in unavailable:
            return replace(unavailable[experiment.model], experiment=experiment)
        found = load(experiment)
        if isinstance(found, NotLoaded) and found.outcome is Outcome.UNAVAILABLE and not found.is_of_loader:
            unavailable[experiment.model] = found
        return found

    return load_once


def loaded_or_raise(found: LoadedModel | NotLoaded) -> LoadedModel:
    """The loaded model. Raises the error that kept it from being loaded."""
    if not isinstance(found, NotLoaded):
        return found
    match found.outcome:
        case Outcome.OUT_OF_MEMORY:
            raise DeviceMemoryError(found.detail)
        case Outcome.INVALID:
            raise DeviceLostError(found.detail)
        case Outcome.UNAVAILABLE:
            raise UnavailableError(found.detail)
        case _ if found.is_wrong_input:
            raise InputError(found.detail)
        case _:
            raise JudgementError(found.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lender:
    """Loads models one after the other.

    It checks that each one has released the device's memory before it returns.
    """

    load_model: LoadModel
    device: Device
    progress: Progress
    seconds: SessionSeconds

    def __call__(self, experiment: Experiment, use: Callable[[LoadedModel], Result]) -> Result:
        before = memory_before_loading(self.device)
        with self.seconds.loading(), self.progress.stage(f"loading {experiment.name}"):
            found = self.load_model(experiment)
        result = use(loaded_or_raise(found))
        del found
        before.check_given_back()
        return result
