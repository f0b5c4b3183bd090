"""How a teacher and a student are opened for generating, training and scoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import MODELS, ModelSpec
from summarybench.core.outcomes import UnavailableError, first_line
from summarybench.engines.chat import Chat, open_chat
from summarybench.engines.precision import check_not_quantized
from summarybench.engines.pretrained import load_causal_lm, load_config
from summarybench.engines.weights import Weights, find_weights
from summarybench.machine.device import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """Which weights it has, and its tokenizer and configuration; none of its weights are loaded yet."""

    spec: ModelSpec
    weights: Weights
    chat: Chat

    def facts(self) -> dict[str, str]:
        """What names it in files: plain JSON types."""
        return {"name": self.spec.name, "weights": self.weights.kind, "revision": self.weights.revision}


def open_teacher(name: str, model_paths: Mapping[str, Path]) -> Teacher:
    """Raises UnavailableError where it cannot be had, or is quantized."""
    spec = MODELS[name]
    try:
        weights = find_weights(spec, model_paths)
        teacher = Teacher(spec=spec, weights=weights, chat=open_chat(weights))
    except OSError as error:
        raise UnavailableError(
            f"{spec.repository} cannot be had ({first_line(error)}): connect to the hub, run 'hf auth login' and accept the "
            f"licence at {spec.licence_url}, or give --model-path {name}=FOLDER"
        ) from error
    check_not_quantized(weights.location, teacher.chat.config)
    return teacher


def load_weights(location: str | Path, dtype: str, place: Any, **options: Any) -> Any:
    """A causal language model in `dtype` on one device, ready to be asked.

    Raises UnavailableError where it cannot be loaded or is quantized, and CheckpointError where its tensors are not those
    that its configuration describes.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for each length: see Loader.settings
    try:
        check_not_quantized(str(location), load_config(location, **options))
        model = load_causal_lm(location, dtype=dtype, attn_implementation="sdpa", **options)
    except OSError as error:
        raise UnavailableError(f"the weights of {location} cannot be loaded: {first_line(error)}") from error
    return model.to(place).eval()


def load_teacher(teacher: Teacher, dtype: str, place: Any) -> Any:
    return load_weights(teacher.weights.location, dtype, place, **teacher.weights.from_pretrained_options)


def compute_dtype(device: Device, *, float32: bool) -> str:
    """bfloat16 where the device has it, float32 elsewhere: float16 would need a scaled loss."""
    return "bfloat16" if device.is_gpu and device.compute_dtype == "bfloat16" and not float32 else "float32"
