"""Random weights in a model's true shape, without a hub.

They allow measuring speed and memory. They are saved once.

Decoding reads every weight once per token, whatever its value, so that speed and memory are those of the real model. The
output is noise, so quality is not measured. The tokenizer is trained on the embedded articles; its ids lie inside the
model's vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import ModelSpec
from summarybench.core.cache import cache_folder, fill_folder_once
from summarybench.core.numbers import gib
from summarybench.core.outcomes import UnavailableError
from summarybench.documents.sources import EMBEDDED_ARTICLES
from summarybench.engines.shapes import empty_model, text_config_of, transformers_config
from summarybench.machine.device import GIB

GENERATION = "1"  # increase it when the weights change: it is part of the folder's name and of the workload
STANDARD_DEVIATION = 0.02  # transformers' own initializer_range
SHARD_BYTES = 2 * GIB
LARGEST_VOCABULARY = 8_192
END = "<end>"
CHAT_TEMPLATE = "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}{% endfor %} [answer]"


def synthetic_revision(spec: ModelSpec) -> str:
    """Identifies the shape and the generator's version; part of the workload.

    A user's model is identified by its configuration, which may change under the same name.
    """
    if spec.own is None:
        return f"{spec.name}-shape-{GENERATION}"
    digest = hashlib.sha256(json.dumps(spec.config, sort_keys=True).encode()).hexdigest()[:16]
    return f"{spec.name}-{digest}-shape-{GENERATION}"


def synthetic_folder(spec: ModelSpec) -> Path:
    """The folder of a model's random weights, which may not exist yet."""
    return cache_folder() / f"synthetic-{synthetic_revision(spec)}"


def synthetic_model_folder(spec: ModelSpec) -> Path:
    """The folder with random float16 safetensors.

    The first call makes it; a 7B model takes 13.5 GB of disk.

    Raises UnavailableError if the disk has too little space.
    """
    folder = synthetic_folder(spec)
    if not folder.is_dir():
        config = model_config(spec)
        _check_room(folder, config)
        fill_folder_once(folder, lambda empty: _make(config, empty))
    return folder


def synthetic_shape_folder(spec: ModelSpec) -> Path:
    """The folder with configuration and tokenizer alone, for a server that makes random weights itself."""
    folder = cache_folder() / f"synthetic-{synthetic_revision(spec)}-without-weights"
    if not folder.is_dir():
        fill_folder_once(folder, lambda empty: _write_all_but_weights(model_config(spec), empty))
    return folder


def model_config(spec: ModelSpec) -> Any:
    """The configuration of the model's true shape, made without the hub."""
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return transformers_config(spec.architecture, spec.whole_config, **special)


def _check_room(folder: Path, config: Any) -> None:
    needed = sum(parameter.numel() for parameter in empty_model(config).parameters()) * 2
    free = shutil.disk_usage(next(parent for parent in folder.parents if parent.exists())).free
    if needed > free:
        raise UnavailableError(
            f"synthetic weights need {gib(needed, 1)} GiB in {folder.parent}, but {gib(free, 1)} GiB are free; "
            "free some space or set XDG_CACHE_HOME to a larger disk"
        )


def _make(config: Any, folder: Path) -> None:
    """Write the configuration, the tokenizer and shards of random weights.

    A GPU draws the numbers if there is one.
    """
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator("cuda" if torch.cuda.is_available() else "cpu").manual_seed(0)
    model = empty_model(config)
    shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
    shards = list(_shards(shapes))
    places: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {name: _draw(name, shapes[name], generator).cpu() for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    _write_all_but_weights(config, folder)


def _write_all_but_weights(config: Any, folder: Path) -> None:
    import torch

    config.dtype = torch.float16
    config.architectures = [type(empty_model(config)).__name__]
    config.save_pretrained(folder)
    _train_tokenizer(int(text_config_of(config).vocab_size)).save_pretrained(folder)


def _shards(shapes: dict[str, tuple[int, ...]]) -> Iterator[list[str]]:
    """Group the names of parameters into shards of about SHARD_BYTES."""
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        names.append(name)
        size += 2 * prod(shape)
        if size >= SHARD_BYTES:
            yield names
            names, size = [], 0
    if names:
        yield names


def _draw(name: str, shape: tuple[int, ...], generator: Any) -> Any:
    """Draw normally distributed weights.

    Zeros for biases, and ones for norms, whose weights are the only other vectors.
    """
    import torch

    if name.endswith("bias"):
        return torch.zeros(shape, dtype=torch.float16)
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.float16)
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float16) * STANDARD_DEVIATION


def _train_tokenizer(vocabulary: int) -> Any:
    """Train a byte-level BPE of at most `vocabulary` tokens on the embedded articles."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [json.loads(line) for line in EMBEDDED_ARTICLES.read_text(encoding="utf-8").splitlines()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocabulary, LARGEST_VOCABULARY),
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for each in texts for text in each["article"]["document"]), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, chat_template=CHAT_TEMPLATE
    )
