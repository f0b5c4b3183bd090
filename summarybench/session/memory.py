"""Which experiments fit the memory of a session's device: predicted for selection, and for judging what ran out of memory."""

from __future__ import annotations

import json
from pathlib import Path

from summarybench.catalogue.models import MODELS, Experiment, ModelShape, shape_of
from summarybench.core.outcomes import InputError
from summarybench.engines.fitting import Forecast, forecast
from summarybench.machine.device import Device
from summarybench.session.settings import Settings


class MemoryForecasts:
    """Forecasts for one device and one set of options. A folder named with --model-path or --student counts as it is."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self._settings = settings
        self._device = device
        self._shapes: dict[str, ModelShape] = {}

    def of(self, experiment: Experiment, longest_sequence: int | None = None) -> Forecast:
        """For the longest sequence of the sample, or where that is not known yet for the longest that the options allow."""
        settings = self._settings
        limit = settings.prompt_tokens_on(self._device) + settings.new_tokens_on(self._device)
        return forecast(experiment, self._shape(experiment.model), self._device, longest_sequence or limit)

    def fits(self, experiment: Experiment) -> bool:
        return self.of(experiment).fits

    def _shape(self, model: str) -> ModelShape:
        if model not in self._shapes:
            folder = None if self._settings.synthetic_weights else self._settings.model_paths.get(model)
            spec = MODELS[MODELS[model].teacher or model]
            self._shapes[model] = (folder and _shape_in(folder)) or spec.shape
        return self._shapes[model]


def _shape_in(folder: Path) -> ModelShape | None:
    """The shape that a folder's config.json states; None where it leaves numbers to transformers' defaults."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return shape_of(str(config["model_type"]), config, str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
        return None
