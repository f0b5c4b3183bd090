"""The shape of a tiny model, and copies of its checkpoint with other tensors, another configuration or quantized weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Tensors = dict[str, Any]

TINY_SHAPE: Mapping[str, Any] = {
    "vocab_size": 1_000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
"""The configuration of a model that is small enough to be made and loaded in a moment."""


def changed_copy(
    checkpoint: Path,
    folder: Path,
    *,
    tensors: Callable[[Tensors], Tensors] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """A copy in `folder`, with what `tensors` makes of its weights and with `config` over its configuration."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint, folder)
    if tensors is not None:
        weights = folder / "model.safetensors"
        save_file(tensors(load_file(weights)), weights, metadata={"format": "pt"})
    if config is not None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def quantized_copy(checkpoint: Path, folder: Path, *, dtype: str = "float32", **settings: Any) -> Path:
    """A copy in `folder` with weights that bitsandbytes has quantized; `settings` are BitsAndBytesConfig's."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    shutil.copytree(checkpoint, folder)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint,
        dtype=getattr(torch, dtype),
        quantization_config=BitsAndBytesConfig(**settings),
        device_map={"": "cpu"},
        trust_remote_code=False,
    )
    model.save_pretrained(folder)
    return folder


SHAPE = {
    "vocab_size": 1_000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def tiny_model(tokenizer_of: Path, folder: Path, architecture: str, **config: Any) -> Path:
    """A random model of this architecture in `folder`, with the tokenizer of the checkpoint `tokenizer_of`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True)
    for path in tokenizer_of.iterdir():
        if path.name not in ("config.json", "model.safetensors", "generation_config.json"):
            shutil.copy(path, folder)
    torch.manual_seed(0)
    values = {**SHAPE, **config}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **values), trust_remote_code=False)
    model.save_pretrained(folder)
    return folder
