"""Loading teachers and students, for generating, training and scoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import MODELS, ModelSpec
from summarybench.engines.chat import Chat, open_chat
from summarybench.engines.precision import check_not_quantized
from summarybench.engines.pretrained import load_causal_lm, load_config
from summarybench.engines.weights import Weights, find_weights
from summarybench.machine.device import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A teacher's tokenizer, configuration and source of weights.

    The weights themselves are not loaded yet.
    """

    spec: ModelSpec
    weights: Weights
    chat: Chat

    def facts(self) -> dict[str, str]:
        """Name, source of the weights and revision, as files record them."""
        return {"name": self.spec.name, "weights": self.weights.kind, "revision": self.weights.revision}


def find_teacher(name: str, model_paths: Mapping[str, Path]) -> Teacher:
    """Find a teacher's weights, and read its tokenizer and configuration.

    Raises UnavailableError if they cannot be downloaded or read, ContradictedLoaderError if the weights are quantized.
    """
    spec = MODELS[name]
    weights = find_weights(spec, model_paths)
    teacher = Teacher(spec=spec, weights=weights, chat=open_chat(weights))
    check_not_quantized(weights.location, teacher.chat.config)
    return teacher


def load_weights(location: str | Path, dtype: str, place: Any) -> Any:
    """Load a causal language model in `dtype` on `place`, in evaluation mode.

    Raises UnavailableError if it cannot be loaded, ContradictedLoaderError if it is quantized, and CheckpointError if
    its tensors do not match its configuration.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)  # it builds a new plan for each length: see CudaDevice.eager_attention
    check_not_quantized(str(location), load_config(location))
    model = load_causal_lm(location, dtype=dtype, attn_implementation="sdpa")
    return model.to(place).eval()


def load_teacher(teacher: Teacher, dtype: str, place: Any) -> Any:
    """As `load_weights`, from wherever the teacher's weights are."""
    return load_weights(teacher.weights.location, dtype, place)


def compute_dtype(device: Device, *, float32: bool) -> str:
    """The dtype that the device trains in, or float32 if that is asked for."""
    return "float32" if float32 else device.training_dtype
