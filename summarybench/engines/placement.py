"""Where the weights of a loaded model are, and how many bytes they take."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from summarybench.core.numbers import gib
from summarybench.core.outcomes import OffloadedError
from summarybench.machine.device import DeviceRecord


def check_nothing_offloaded(model: Any, device: DeviceRecord) -> None:
    """Raise OffloadedError if any weights are not on the device.

    The message has their GiB and their places.
    """
    elsewhere: dict[str, int] = {}
    for place, size in tensor_bytes(model):
        if place != device.kind:
            elsewhere[place] = elsewhere.get(place, 0) + size
    if elsewhere:
        places = ", ".join(f"{gib(size)} GiB on {place}" for place, size in elsewhere.items())
        raise OffloadedError(
            f"weights are offloaded: {places}; the speed would not be this device's; free its memory or use a smaller model"
        )


def tensor_bytes(model: Any, *, without: Collection[Any] = ()) -> Iterator[tuple[str, int]]:
    """The device type and bytes of each weight and buffer, except those of the modules `without`.

    Includes quantization scales, which torch does not list.
    """
    left_out = {id(tensor) for module in without for tensor in [*module.parameters(), *module.buffers()]}
    for tensor in [*model.parameters(), *model.buffers()]:
        if id(tensor) in left_out:
            continue
        for part in _stored_in(tensor):
            yield part.device.type, part.numel() * part.element_size()
        state = getattr(tensor, "quant_state", None)  # bitsandbytes' 4-bit weights
        scales = [
            getattr(tensor, "SCB", None),
            getattr(state, "absmax", None),
            getattr(getattr(state, "state2", None), "absmax", None),
        ]
        for scale in scales:
            if scale is not None:
                yield tensor.device.type, scale.numel() * scale.element_size()


def _stored_in(tensor: Any) -> Iterator[Any]:
    """The plain tensors that hold a tensor's values: several for one that torchao has quantized."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from _stored_in(getattr(tensor, name))
    else:
        yield tensor


def untied_embedding_bytes(model: Any) -> int:
    """Bytes of an input embedding that the output head does not share.

    A decoding step reads one row of it.
    """
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return 0 if embedding is head else int(embedding.numel() * embedding.element_size())
