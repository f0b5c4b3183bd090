"""Which experiments are predicted to fit in the memory of a session's device."""

from __future__ import annotations

import json
from pathlib import Path

from summarybench.catalogue.models import MODELS, Experiment, ModelShape, shape_of
from summarybench.core.outcomes import InputError
from summarybench.engines.fitting import Forecast, forecast
from summarybench.session.config import Config


class MemoryForecasts:
    """Predicts which experiments fit.

    Forecasts select experiments, and show whether one that ran out of memory was expected to. Where --model-path or
    --student names a model's folder, the forecast is for the weights in it.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._shapes: dict[str, ModelShape] = {}

    def of(self, experiment: Experiment, longest_sequence: int | None = None) -> Forecast:
        """The forecast for the longest sequence of the sample in tokens.

        Where that is not known yet, it is for the longest sequence that the options allow.
        """
        limit = self._config.max_prompt_tokens + self._config.max_new_tokens
        return forecast(experiment, self._shape(experiment.model), self._config.device, longest_sequence or limit)

    def fits(self, experiment: Experiment) -> bool:
        return self.of(experiment).fits

    def _shape(self, model: str) -> ModelShape:
        if model not in self._shapes:
            settings = self._config.settings
            folder = None if settings.synthetic_weights else settings.model_paths.get(model)
            spec = MODELS[MODELS[model].teacher or model]
            self._shapes[model] = (folder and _shape_in(folder)) or spec.shape
        return self._shapes[model]


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
