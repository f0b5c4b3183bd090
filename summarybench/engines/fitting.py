"""Whether an experiment fits into a device's memory.

The memory is predicted from the model's shape, before loading.
"""

from __future__ import annotations

from dataclasses import dataclass

from summarybench.catalogue.models import AS_STORED, LOADERS, Experiment, ModelShape
from summarybench.core.numbers import gib
from summarybench.engines.memory_model import predict_memory
from summarybench.engines.static_cache import cache_tokens_for
from summarybench.machine.device import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The peak memory that an experiment needs, and the memory of the device."""

    needed_bytes: int
    memory_bytes: int

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.memory_bytes

    def __str__(self) -> str:
        return f"{gib(self.needed_bytes)} GiB needed of {gib(self.memory_bytes)} GiB"


def forecast(
    experiment: Experiment,
    shape: ModelShape,
    device: Device,
    sequence_tokens: int,
    stored_bytes: int | None = None,
    student: ModelShape | None = None,
) -> Forecast:
    """Predict the memory for one document at a time.

    The longest document has `sequence_tokens`, summary included.

    `stored_bytes` is the size of a quantized checkpoint, for the loader `as-stored`. Without it, 16-bit weights are assumed.

    The largest need of the experiment's loaders counts. A `student` that drafts is loaded beside the model.

    For architectures that shapes.py computes, this needs neither the weights nor torch.
    """
    loaders = (experiment.loader, *experiment.other_loaders)
    needed = max(_needed_bytes(loader, shape, device, sequence_tokens, stored_bytes) for loader in loaders)
    if student is not None:
        needed += _needed_bytes(experiment.loader, student, device, sequence_tokens, None)
    context_bytes = 0 if device.is_limited else device.context_bytes
    return Forecast(needed_bytes=needed + context_bytes, memory_bytes=device.memory_bytes)


def _needed_bytes(
    loader_name: str, shape: ModelShape, device: Device, sequence_tokens: int, stored_bytes: int | None
) -> int:
    loader = LOADERS[loader_name]
    tokens = min(sequence_tokens, shape.max_position_embeddings or sequence_tokens)
    tokens = cache_tokens_for(tokens) if loader.is_compiled else tokens
    weights_bytes = stored_bytes if loader.quantization == AS_STORED else None
    settings = loader.settings(device, threads=1)  # their number does not matter
    return predict_memory(shape, settings, tokens, batch_size=1, weights_bytes=weights_bytes).total_bytes
