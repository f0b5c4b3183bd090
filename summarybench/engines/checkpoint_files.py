"""The files of a model folder: which ones count, and whether they are whole.

Nothing here imports torch or transformers, so that a folder is checked before anything heavy is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from summarybench.core.outcomes import InputError, first_line

TEMPLATES, ADDITIONAL_TEMPLATES = ("chat_template.jinja", "chat_template.json"), "additional_chat_templates/*.jinja"
"""Where a chat template may be, besides tokenizer_config.json."""

FILES_BESIDE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "*.jinja",
    "chat_template.json",
    ADDITIONAL_TEMPLATES,
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

VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
"""A tokenizer has at least one of these files."""

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header, a little-endian integer of this many bytes."""


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object. Raises InputError if it cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); download it again") from error


def files_beside_weights(folder: Path) -> list[Path]:
    return [path for pattern in FILES_BESIDE_WEIGHTS for path in folder.glob(pattern) if path.is_file()]


def files_of_weights(folder: Path) -> list[Path]:
    """The weight files that transformers loads; empty if there are none.

    The folder may also hold the same weights in another format. Raises InputError if a file is missing that the index of
    the weights names.
    """
    named = read_json(folder / "config.json").get("transformers_weights")  # if present, it replaces the usual names
    whole, index = (folder / str(named or usual) for usual in (WEIGHTS, INDEX))
    if whole.is_file() and whole.suffix == ".safetensors":
        return [whole]
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    shards = [folder / name for name in shards_in(index)]
    if missing := [shard for shard in shards if not shard.is_file()]:
        raise InputError(f"{missing[0]}: is missing, although {index.name} names it; download it again")
    return [index, *shards]


def shards_in(index: Path) -> list[str]:
    """The names of the files that hold the weights. Raises InputError if the index cannot be read."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise InputError(f"{index}: has no weight_map; download it again")
    return sorted(set(map(str, weight_map.values())))


def weights_bytes(folder: Path) -> int:
    """The size of the weight files. Raises InputError as `files_of_weights`."""
    return sum(path.stat().st_size for path in files_of_weights(folder) if path.suffix == ".safetensors")


def check_checkpoint(folder: Path, option: str) -> None:
    """Check that the folder's weights and tokenizer are there and whole.

    Raises InputError, beginning with `option` or a file, for the first one that is missing or incomplete.
    """
    files = files_of_weights(folder)
    if not files:
        raise InputError(f"{option}: holds no .safetensors; convert the weights, other formats are not loaded")
    for path in files:
        if path.suffix == ".safetensors":
            _check_whole(path)
    if not (folder / "tokenizer_config.json").is_file():
        raise InputError(f"{option}: holds no tokenizer (tokenizer_config.json is missing)")
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise InputError(
            f"{option}: its tokenizer has no vocabulary ({VOCABULARIES[0]} is missing); download the tokenizer's files too"
        )


def check_chat_template(folder: Path, option: str) -> None:
    """Check that the folder has a chat template, in any of the places from which transformers reads one.

    Raises InputError, beginning with `option`, if it has none, or if tokenizer_config.json cannot be read.
    """
    has_file = any((folder / name).is_file() for name in TEMPLATES) or any(folder.glob(ADDITIONAL_TEMPLATES))
    settings = folder / "tokenizer_config.json"
    if not has_file and not (settings.is_file() and read_json(settings).get("chat_template")):
        raise InputError(
            f"{option} has no chat template ({TEMPLATES[0]}, or chat_template in {settings.name}); copy it from the original "
            "model, or use an instruction-tuned one"
        )


def _check_whole(path: Path) -> None:
    """Compare a safetensors file's size with the size that its header states.

    Raises InputError for a file that was cut short, such as an unfinished download.
    """
    found = path.stat().st_size
    needed = LENGTH_BYTES
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
            needed += header_bytes
            if needed <= found:
                header = json.loads(file.read(header_bytes))
                needed += max(
                    (each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"), default=0
                )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not a safetensors file ({first_line(error)}); download it again") from error
    if found < needed:
        raise InputError(
            f"{path}: is incomplete, it has {found} of at least {needed} bytes: finish the download, or download it again"
        )
