"""Checks that a loader's name is true, before and after loading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from summarybench.catalogue.models import EXPERIMENTS, LOADERS
from summarybench.core.outcomes import ContradictedLoaderError, PrecisionError
from summarybench.engines.placement import tensor_bytes
from summarybench.engines.shapes import parameter_shapes
from summarybench.machine.device import Device

Settings = Mapping[str, str | int | float | bool | None]

LAYERS: Mapping[Any, str] = {
    None: "Linear",
    "llm.int8": "Linear8bitLt",
    "nf4": "Linear4bit",
    "fp4": "Linear4bit",
    "int8 weights": "Int8WeightOnlyLinear",
    "int4 group 64": "Int4GroupLinear",
    "fp8 e4m3 weights": "Fp8WeightOnlyLinear",
}
"""The type of linear layers by the loader's quantization. The output head is never quantized."""

STORED_AS = {
    "Linear8bitLt": "int8",
    "Int8WeightOnlyLinear": "int8",
    "Int4GroupLinear": "int32",
    "Fp8WeightOnlyLinear": "float8_e4m3fn",
}
"""The dtype in which these layers store their weights. int4 is packed, eight weights per int32."""

BITSANDBYTES = frozenset({"llm.int8", "nf4", "fp4"})
"""The quantizations of bitsandbytes, whose layers can be compared with the settings one by one."""

UNPACKED = "unpacked"
"""The setting that says whether transformers has unpacked a checkpoint's own quantization to 16 bits."""

MOST_OF_16_BITS = 0.95
"""Quantized layers take less than this share of their size in 16 bits."""

BITSANDBYTES_DEFAULTS = {
    "bnb_4bit_quant_type": "fp4",
    "bnb_4bit_compute_dtype": "float32",
    "bnb_4bit_use_double_quant": False,
    "llm_int8_threshold": 6.0,
}
"""The values of keys that a quantization_config leaves out."""


def stored_settings(config: Any) -> dict[str, Any] | None:
    """A checkpoint's quantization in terms of a loader's settings.

    None if it is not quantized.
    """
    stored = quantization_config_of(config)
    if stored is None:
        return None
    facts: dict[str, Any] = BITSANDBYTES_DEFAULTS | stored
    found: dict[str, Any] = {"quantization": str(stored.get("quant_method", "bitsandbytes"))}
    if stored.get("load_in_8bit"):
        found = {"quantization": "llm.int8", "threshold": float(facts["llm_int8_threshold"])}
    if stored.get("load_in_4bit"):
        found = {
            "quantization": str(facts["bnb_4bit_quant_type"]),
            "compute_dtype": _name_of(facts["bnb_4bit_compute_dtype"]),
            "double_quantization": bool(facts["bnb_4bit_use_double_quant"]),
        }
    if skipped := [name for name in stored.get("llm_int8_skip_modules") or () if name != "lm_head"]:
        found["unquantized_layers"] = ", ".join(map(str, skipped))
    dtype = getattr(
        config, "dtype", None
    )  # transformers does not convert the unquantized layers of a quantized checkpoint
    return found if dtype is None else {**found, "dtype": _name_of(dtype)}


def settings_as_stored(location: str, config: Any, settings: Settings) -> dict[str, Any]:
    """The settings of the loader `as-stored` for this checkpoint, with its own quantization in full.

    Raises ContradictedLoaderError if the checkpoint is not quantized.
    """
    stored = stored_settings(config)
    if stored is None:
        raise ContradictedLoaderError(
            f"{location}: is not quantized, so there is nothing for as-stored; measure the other loaders"
        )
    facts = quantization_config_of(config) or {}
    plain = {key: value for key, value in facts.items() if isinstance(value, str | int | float) and key in NAMED_FACTS}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return {**settings, **plain, **stored, "quantization_config": digest}


NAMED_FACTS = (
    "bits",
    "group_size",
    "format",
    "quant_type",
    "activation_scheme",
    "desc_act",
    "zero_point",
    "sym",
    "version",
)
"""Keys of a quantization_config that workloads state in clear. They have the digest of all of them beside it."""


def quantization_config_of(config: Any) -> dict[str, Any] | None:
    """A checkpoint's quantization_config, of the whole model or of its language model; None if it is not quantized."""
    found = getattr(config, "quantization_config", None) or getattr(
        config.get_text_config(decoder=True), "quantization_config", None
    )
    if not found:
        return None
    return dict(found) if isinstance(found, Mapping) else dict(found.to_dict())


def _name_of(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def check_stored_precision(location: str, config: Any, loader: str, settings: Settings, device: Device) -> None:
    """Check a checkpoint that is already quantized.

    Raises ContradictedLoaderError if it is quantized differently from the loader's settings.

    Call it before weights are loaded: transformers keeps the stored quantization, whatever it is asked for.
    """
    stored = stored_settings(config)
    if stored is None or "quantization_config" in settings or not _differences(stored, settings):
        return
    usable = {each.loader for each in EXPERIMENTS if device.family in each.families | each.on_request}
    agreeing = [
        name
        for name, each in LOADERS.items()
        if name in usable and not _differences(stored, each.settings(device, int(settings.get("threads") or 1)))
    ]
    remedy = (
        f"measure it with {' or '.join(agreeing)}, or give the unquantized checkpoint"
        if agreeing
        else f"measure it as it is with --model {location}, or give the unquantized checkpoint"
    )
    raise ContradictedLoaderError(
        f"{location}: is already quantized ({_described(stored)}), but the loader {loader} would be "
        f"{'; '.join(_differences(stored, settings))}; {remedy}"
    )


def check_not_quantized(location: str, config: Any) -> None:
    """Raise ContradictedLoaderError for a quantized checkpoint.

    Distillation needs the trained weights.
    """
    stored = stored_settings(config)
    if stored is not None:
        raise ContradictedLoaderError(
            f"{location}: is already quantized ({_described(stored)}), but distillation needs plain weights; give the "
            "unquantized checkpoint"
        )


def _described(stored: Mapping[str, Any]) -> str:
    return ", ".join(value if key == "quantization" else f"{key} {value}" for key, value in stored.items())


def _differences(stored: Mapping[str, Any], settings: Settings) -> list[str]:
    """The settings in which a loader and a checkpoint differ, one phrase each."""
    wanted = dict(settings)
    if wanted.get("quantization") == "int8 weights" and stored["quantization"] == "llm.int8":
        # The int8 weights are the same: the threshold concerns activations only.
        wanted |= {"quantization": "llm.int8", "threshold": stored["threshold"]}
    if wanted.get("quantization") != stored["quantization"]:
        return [str(wanted.get("quantization", "unquantized"))]
    return [f"{key} {wanted.get(key, 'none')}" for key, value in stored.items() if wanted.get(key) != value]


def is_unpacked(model: Any) -> bool:
    """Whether the quantized layers take as much memory as in 16 bits.

    transformers unpacks some kinds of quantization, when it loads them or in the first forward pass, where the device or an
    installed package has no kernels for them. Call it after a forward pass.
    """
    kept_plain = [each for each in (model.get_input_embeddings(), model.get_output_embeddings()) if each is not None]
    found = sum(size for _, size in tensor_bytes(model, without=kept_plain))
    in_16_bits = sum(2 * prod(each.shape) for each in parameter_shapes(model.config) if each.is_quantized)
    return found > MOST_OF_16_BITS * in_16_bits


def check_loaded_precision(model: Any, loader: str, settings: Settings) -> None:
    """Raise PrecisionError if layers do not match the loader's settings.

    Their type, dtype and quantization are checked.
    """
    if "quantization_config" in settings and settings["quantization"] not in BITSANDBYTES:
        return  # its layers are not known here; `is_unpacked` compares sizes
    head = model.get_output_embeddings()
    skipped = tuple(filter(None, str(settings.get("unquantized_layers", "")).split(", ")))
    layers: dict[str, list[str]] = {}  # by fault
    for name, module in model.named_modules():
        is_left_out = module is head or any(part in name for part in skipped)
        for fault in _faults(module, settings, may_be_quantized=not is_left_out):
            layers.setdefault(fault, []).append(name)
    if layers:
        found = (f"{names[0]} {fault} (1 of {len(names)} such layers)" for fault, names in layers.items())
        raise PrecisionError(
            f"the loader {loader} has not loaded what its name says: {'; '.join(found)}; give a checkpoint as it was "
            "published, or report this with the versions of transformers and bitsandbytes"
        )


def _faults(module: Any, settings: Settings, *, may_be_quantized: bool) -> Iterator[str]:
    if getattr(module, "weight", None) is None:
        return
    kind = type(module).__name__
    if kind in LAYERS.values():
        quantization = settings.get("quantization") if may_be_quantized else None
        if kind != LAYERS[quantization]:
            yield f"is {kind}, not {LAYERS[quantization]}"
            return
    found = _facts(module, kind)
    wanted = {name: STORED_AS[kind] if name == "weights" else settings[name] for name in found}
    yield from (f"has {name} {found[name]}, not {wanted[name]}" for name in found if found[name] != wanted[name])


def _facts(module: Any, kind: str) -> dict[str, Any]:
    """The precision of a layer in terms of a loader's settings."""
    if kind == "Linear4bit":
        state = getattr(module.weight, "quant_state", None)
        return {
            "quantization": getattr(state, "quant_type", None),
            "compute_dtype": _name_of(module.compute_dtype),
            "double_quantization": getattr(state, "nested", None),
        }
    if kind == "Linear8bitLt":
        return {"weights": _name_of(module.weight.dtype), "threshold": module.state.threshold}
    return {"weights" if kind in STORED_AS else "dtype": _name_of(module.weight.dtype)}
