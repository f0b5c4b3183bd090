"""Reading checkpoints with transformers.

Every `from_pretrained` call of the project is in this module.

They read local folders only: `hub` downloads. A checkpoint's own Python code is never run, no question is asked on
standard input, and no weight keeps random values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from summarybench.core.outcomes import CheckpointError, SuiteError, UnavailableError, first_line

HUB_ADVICE = re.compile(r"\.? (?:If you were trying to load|Make sure that|and it looks like|We couldn't connect)")
"""Where transformers' messages about a missing file begin to speak of the hub."""

NEEDS_GPU = re.compile(r"GPU is required|No GPU|GPU .*is needed|only supported on GPU|requires a (CUDA )?GPU")
"""transformers' words for a quantization that the CPU has no kernels for."""

NAMED_TENSORS = 3
"""The number of tensors that an error names; the others are only counted."""

WRAPPERS = {
    "_orig_mod.": "saved from a model that torch.compile had wrapped",
    "_fsdp_wrapped_module.": "saved from a model that FSDP had wrapped",
    "module.": "saved from a model that DistributedDataParallel had wrapped",
}
"""Prefixes that wrappers add to the names of tensors."""

QUANTIZATION_TENSORS = (
    ".SCB",
    ".absmax",
    ".quant_map",
    ".weight_format",
    ".qweight",
    ".qzeros",
    ".scales",
    ".weight_scale",
    ".weight_scale_inv",
)
"""Suffixes of tensors that only quantized checkpoints have."""


def load_config(location: str | Path, **options: Any) -> Any:
    """Load a checkpoint's configuration.

    Raises UnavailableError if it needs the checkpoint's own Python code.
    """
    from transformers import AutoConfig

    with explaining(location):
        return AutoConfig.from_pretrained(location, trust_remote_code=False, local_files_only=True, **options)


def has_fused_attention(config: Any) -> bool:
    """Whether transformers has torch's fused attention for the model of this configuration."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return bool(getattr(kind, "_supports_sdpa", True))


def load_tokenizer(location: str | Path, **options: Any) -> Any:
    """Load a checkpoint's tokenizer.

    Raises UnavailableError if it needs the checkpoint's own Python code, or if its files are damaged.
    """
    from transformers import AutoTokenizer

    try:
        with explaining(location):
            return AutoTokenizer.from_pretrained(location, trust_remote_code=False, local_files_only=True, **options)
    except SuiteError:
        raise
    except Exception as error:  # the tokenizers package raises plain Exceptions
        why = f"{type(error).__name__}: {first_line(error)}"
        raise UnavailableError(f"{location}: its tokenizer cannot be read ({why}); download it again") from error


def load_causal_lm(location: str | Path, *, dtype: str, **options: Any) -> Any:
    """Load a language model and check its weights.

    They and the weights of the checkpoint must be the same set.

    Raises CheckpointError with the names of missing, unexpected or reshaped tensors, and UnavailableError as `load_config`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with explaining(location), _naming_damage(location):
        model, report = AutoModelForCausalLM.from_pretrained(
            location,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # transformers' own error would not name the tensors
            **options,
        )
    _check_tensors(location, model, report)
    return model


def load_classifier(location: str | Path) -> Any:
    """Load a model for sequence classification in float32. Raises as `load_causal_lm`."""
    from transformers import AutoModelForSequenceClassification

    return _load_whole(AutoModelForSequenceClassification, location, optional="")


def load_encoder(location: str | Path) -> Any:
    """Load an encoder in float32, without the heads that its checkpoint may have. Raises as `load_causal_lm`.

    Weights of a pooler may be missing: it does not affect the hidden states.
    """
    from transformers import AutoModel

    return _load_whole(AutoModel, location, optional="pooler.")


def _load_whole(kind: Any, location: str | Path, *, optional: str) -> Any:
    """Load a model whose weights are all in the checkpoint, apart from those with the `optional` prefix."""
    import torch

    with explaining(location):
        model, report = kind.from_pretrained(
            location,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    missing = {name for name in report["missing_keys"] if not optional or not name.startswith(optional)}
    _check_tensors(location, model, {**report, "missing_keys": missing, "unexpected_keys": ()})
    return model


@contextmanager
def explaining(location: str | Path) -> Iterator[None]:
    """Raise what users can cause, by this checkpoint or by packages that it needs, as UnavailableError.

    A folder is never a matter of the hub, whatever the library's message suggests.
    """
    try:
        yield
    except OSError as error:
        found = HUB_ADVICE.split(first_line(error))[0]
        raise UnavailableError(f"{location}: cannot be loaded: {found}") from error
    except (ImportError, RuntimeError) as error:
        if NEEDS_GPU.search(str(error)):
            raise UnavailableError(f"{location}: its quantization runs on GPUs only ({first_line(error)})") from error
        if isinstance(error, RuntimeError):
            raise
        raise UnavailableError(
            f"{location}: needs a package that is not installed, or another version of it: {first_line(error)}"
        ) from error
    except NameError as error:  # optimum without gptqmodel, say: a library uses what it could not import
        raise UnavailableError(
            f"{location}: a library that it needs lacks a package of its own, or has the wrong version ({first_line(error)})"
        ) from error
    except ValueError as error:
        if why := _why_not_supported(location, error):
            raise UnavailableError(f"{location}: {why}") from error
        raise


def _why_not_supported(location: str | Path, error: ValueError) -> str:
    """Why transformers cannot load the checkpoint; empty where the error says something else."""
    import transformers

    message = str(error)
    if "trust_remote_code" in message:
        return (
            f"its {_files_naming_code(Path(location))} requires the checkpoint's own Python code (auto_map), which is "
            "never run; give a checkpoint that transformers loads without it"
        )
    if "does not recognize this architecture" in message or "Unrecognized model" in message:
        return f"transformers {transformers.__version__} does not know its architecture; a newer version may"
    if "instantiate the backend tokenizer" in message:
        return "its tokenizer cannot be read without tokenizer.json; add that file to the folder, or download it again"
    if "Unrecognized configuration class" in message:
        return "is not a causal language model, as far as transformers knows; give one that generates text"
    return ""


def _files_naming_code(folder: Path) -> str:
    names = ("config.json", "tokenizer_config.json")
    return " and ".join(name for name in names if _names_code(folder / name)) or " or ".join(names)


def _names_code(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("auto_map"))
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def _naming_damage(location: str | Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "automatic conversion of the weights" not in str(error):
            raise
        raise CheckpointError(
            f"{location}: quantized weights lack their scales or are damaged; download the checkpoint again"
        ) from error


def _check_tensors(location: str | Path, model: Any, report: Mapping[str, Collection[Any]]) -> None:
    """Check the `output_loading_info` of transformers.

    It leaves out tied and ignorable tensors.
    """
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    reshaped = sorted({*report["mismatched_keys"], *_reshaped_layers(model)})
    changes = [f"{name} {list(stored)} instead of {list(wanted)}" for name, stored, wanted in reshaped]
    kinds = ((missing, "missing"), (unexpected, "unexpected"), (changes, "of another shape"))
    if found := [_counted(names, what) for names, what in kinds if names]:
        raise CheckpointError(
            f"{location}: the weights do not match its config.json: {' and '.join(found)}; "
            f"{_remedy(missing, unexpected)}"
        )


def _reshaped_layers(model: Any) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Linear layers with weights of another shape.

    transformers does not compare layers of bitsandbytes.
    """
    import torch

    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and getattr(layer, "weight", None) is not None:
            state = getattr(layer.weight, "quant_state", None)  # bitsandbytes packs 4-bit weights into a column
            stored = tuple(layer.weight.shape if state is None else state.shape)
            wanted = (layer.out_features, layer.in_features)
            is_packed = state is None and layer.weight.dtype is torch.uint8
            if stored != wanted and not is_packed:
                yield f"{name}.weight", stored, wanted


def _counted(names: list[str], what: str) -> str:
    more = ", …" if len(names) > NAMED_TENSORS else ""
    verb = "tensor is" if len(names) == 1 else "tensors are"
    return f"{len(names)} {verb} {what} ({', '.join(names[:NAMED_TENSORS])}{more})"


def _remedy(missing: list[str], unexpected: list[str]) -> str:
    for part, cause in WRAPPERS.items():
        if {name.replace(part, "") for name in unexpected} & set(missing):
            return f"it was {cause}: strip {part!r} from the tensors' names and save it again"
    if prefix := _added_prefix(missing, unexpected):
        return f"strip {prefix!r} from the tensors' names and save it again"
    if any(".lora_" in name for name in unexpected):
        return "merge the adapter into the model (merge_and_unload) and save it again"
    if any(name.endswith(QUANTIZATION_TENSORS) for name in unexpected):
        return "it is quantized, and its config.json has no quantization_config: download or save it again"
    if missing and not unexpected:
        return "it is incomplete, or its config.json describes a larger model: download or save it again"
    if unexpected and not missing:
        return "its config.json describes a smaller model: download or save it again"
    return "its config.json is of another model: download or save it again"


def _added_prefix(missing: Iterable[str], unexpected: Iterable[str]) -> str:
    """The prefix that the names of unexpected tensors have; empty without one.

    Without it they would be the names of missing tensors.
    """
    found = (name.removesuffix(wanted) for name in unexpected for wanted in missing if name.endswith(wanted))
    return next((prefix for prefix in found if prefix.endswith(".")), "")
