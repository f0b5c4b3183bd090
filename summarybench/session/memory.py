"""Which experiments are predicted to fit in the memory of a session's device."""

from __future__ import annotations

import json
from pathlib import Path

from summarybench.catalogue.models import LOADERS, MODELS, Experiment, ModelShape, ModelSpec, shape_of
from summarybench.core.outcomes import InputError
from summarybench.engines.fitting import Forecast, forecast
from summarybench.engines.shapes import shape_of_model
from summarybench.session.config import Config


class MemoryForecasts:
    """Predicts which experiments fit.

    Forecasts select experiments, and show whether one that ran out of memory was expected to. Where --model-path or
    --student names a model's folder, the forecast is for the weights in it.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._shapes: dict[str, ModelShape | None] = {}

    def of(self, experiment: Experiment, longest_sequence: int | None = None) -> Forecast:
        """The forecast for the longest sequence of the sample in tokens.

        Where that is not known yet, it is for the longest sequence that the options allow. Nothing is predicted for a model
        whose config.json could not be read: loading it will say why.
        """
        device = self._config.device
        if LOADERS[experiment.loader].is_served:  # on whatever device the server has
            return Forecast(needed_bytes=0, memory_bytes=device.memory_bytes)
        shape = self._shape(experiment.model)
        if shape is None:
            return Forecast(needed_bytes=0, memory_bytes=device.memory_bytes)
        limit = self._config.max_prompt_tokens + self._config.max_new_tokens
        own = MODELS[experiment.model].own
        student = self._shape(experiment.draft_model) if experiment.draft_model else None
        return forecast(
            experiment, shape, device, longest_sequence or limit, own.weights_bytes if own else None, student
        )

    def fits(self, experiment: Experiment) -> bool:
        return self.of(experiment).fits

    def _shape(self, model: str) -> ModelShape | None:
        if model not in self._shapes:
            spec = MODELS[MODELS[model].teacher or model]
            self._shapes[model] = _shape_of_own(spec) if spec.own else self._shape_of_built_in(model, spec)
        return self._shapes[model]

    def _shape_of_built_in(self, model: str, spec: ModelSpec) -> ModelShape:
        settings = self._config.settings
        folder = None if settings.synthetic_weights else settings.model_paths.get(model)
        return (folder and _shape_in(folder)) or spec.shape


def _shape_of_own(spec: ModelSpec) -> ModelShape | None:
    try:
        return shape_of_model(spec)
    except InputError:
        return None


def _shape_in(folder: Path) -> ModelShape | None:
    """The shape that a folder's config.json states.

    It is None where the file leaves numbers to transformers' defaults.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return shape_of(str(config["model_type"]), config, str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
        return None
