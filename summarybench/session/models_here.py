"""Which models this device can run, with the memory that each loader needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from summarybench.catalogue.models import LOADERS, ModelSpec, experiments
from summarybench.core.numbers import gib
from summarybench.core.outcomes import InputError
from summarybench.engines.fitting import Forecast, forecast
from summarybench.engines.shapes import shape_of_model
from summarybench.machine.device import Device
from summarybench.session.config import default_sample_on


def loaders_here(spec: ModelSpec, device: Device) -> dict[str, Forecast]:
    """The forecast of each loader that a registered model has on this device, for the longest default document.

    Raises InputError if the model's configuration states no shape.
    """
    sample = default_sample_on(device)
    tokens = sample.max_prompt_tokens + sample.max_new_tokens
    shape = shape_of_model(spec)
    stored_bytes = spec.own.weights_bytes if spec.own else None
    found: dict[str, Forecast] = {}
    for each in experiments():
        loader = LOADERS[each.loader]
        is_meant = each.model == spec.name and each.is_for(device, named=True)
        if is_meant and not (loader.is_compiled and spec.obstacle_to_compiling):
            found[each.loader] = forecast(each, shape, device, tokens, stored_bytes)
    return found


def in_words(spec: ModelSpec, device: Device) -> str:
    """One line: `default 0.9 GiB, 4-bit 0.6 GiB; too large: fp16 14.3 GiB`."""
    if spec.own and spec.own.obstacle:
        return spec.own.obstacle
    try:
        found = loaders_here(spec, device)
    except InputError as error:
        return str(error)
    if not found:
        return "not for this device"
    fitting = {name: each for name, each in found.items() if each.fits}
    large = {name: each for name, each in found.items() if not each.fits}
    parts = [_listed(fitting) if fitting else "", f"too large: {_listed(large)}" if large else ""]
    return "; ".join(part for part in parts if part)


def lines(models: Iterable[ModelSpec], device: Device) -> Iterator[str]:
    """The device, then a line for each model with its marker and its loaders."""
    sample = default_sample_on(device)
    yield (
        f"{device}, {gib(device.memory_bytes, 1)} GiB; memory for documents of up to {sample.max_prompt_tokens} tokens and "
        f"{sample.max_new_tokens} new ones{', beside Python and its libraries' if device.counts_process_memory else ''}"
    )
    specs = list(models)
    widths = [max((len(text) for text in column), default=0) for column in zip(*map(_labels, specs), strict=True)]
    for spec in specs:
        labels = "  ".join(f"{text:<{width}}" for text, width in zip(_labels(spec), widths, strict=True))
        yield f"{labels}  {in_words(spec, device)}"


def _labels(spec: ModelSpec) -> tuple[str, str]:
    return spec.name, f"-m {spec.marker}"


def _listed(found: dict[str, Forecast]) -> str:
    return ", ".join(f"{name} {gib(each.needed_bytes, 1)} GiB" for name, each in found.items())
