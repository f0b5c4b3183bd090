"""Step 3: what training begins with: evenly spaced layers of the teacher, or a smaller model of the same tokenizer."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

from distillation.opening import Teacher, load_weights
from fixtures.chat import Chat, open_chat
from fixtures.outcomes import InputError, UnavailableError, first_line
from fixtures.weights import Weights, folder_digest

LAYER = re.compile(r"^(.*\blayers\.)(\d+)(\..*)$")
TRIAL_TEXT = "Summarize: 3 steps, “quoted” — naïve café, 12.5 °C.\n"


def spaced_layers(of: int, keep: int) -> tuple[int, ...]:
    """`keep` layers out of `of`, evenly spaced, the first and the last among them (a single one: the first)."""
    return tuple(round(number * (of - 1) / max(1, keep - 1)) for number in range(keep))


def check_layers(teacher: Teacher, layers: int) -> None:
    """Raises InputError where the teacher has no more layers than the student is to keep."""
    has = int(teacher.chat.config.num_hidden_layers)
    if layers >= has:
        raise InputError(f"--layers {layers}: {teacher.spec.name} has {has}, and a student is to have fewer")


def open_smaller(folder: Path, teacher: Teacher) -> Chat:
    """The tokenizer and configuration of --student-from.

    Raises InputError where the folder holds no model, or one that reads text as other tokens than the teacher.
    """
    option = f"--student-from {folder}"
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise InputError(f"{option}: holds no config.json with .safetensors; name a folder that save_pretrained wrote")
    try:
        chat = open_chat(Weights(kind="path", revision=folder_digest(folder), location=str(folder)))
    except (OSError, ValueError, UnavailableError) as error:
        raise InputError(f"{option}: its tokenizer cannot be used: {first_line(error)}") from error
    ours, theirs = chat.tokenizer, teacher.chat.tokenizer
    is_same = (
        ours.get_vocab() == theirs.get_vocab() and ours(TRIAL_TEXT)["input_ids"] == theirs(TRIAL_TEXT)["input_ids"]
    )
    if not is_same or chat.config.vocab_size != teacher.chat.config.vocab_size:
        raise InputError(
            f"{option}: its tokenizer is not that of {teacher.spec.name} ({len(ours)} and {len(theirs)} tokens), so their logits "
            "cannot be compared; name a model of the same tokenizer"
        )
    return chat


def initial_student(teacher: Teacher, layers: int | None, student_from: Path | None) -> tuple[Any, tuple[int, ...]]:
    """The untrained student in float32 on the CPU, and which of the teacher's layers it has (none of a smaller model's)."""
    if student_from is not None:
        return load_weights(student_from, "float32", "cpu", local_files_only=True), ()
    assert layers is not None  # noqa: S101  (the settings have one of the two)
    whole = load_weights(teacher.weights.location, "float32", "cpu", **teacher.weights.from_pretrained_options)
    kept = spaced_layers(int(teacher.chat.config.num_hidden_layers), layers)
    return _with_layers(whole, kept), kept


def student_config(config: Any, kept: tuple[int, ...]) -> Any:
    """The teacher's configuration with these layers alone."""
    changed = copy.deepcopy(config)
    changed.num_hidden_layers = len(kept)
    if getattr(changed, "layer_types", None):
        changed.layer_types = [config.layer_types[layer] for layer in kept]
    return changed


def _with_layers(whole: Any, kept: tuple[int, ...]) -> Any:
    """A model of the same kind with these layers; embeddings, head and norms as they are."""
    import torch
    from transformers import AutoModelForCausalLM

    student = AutoModelForCausalLM.from_config(
        student_config(whole.config, kept), dtype=torch.float32, attn_implementation="sdpa"
    )
    place = {layer: number for number, layer in enumerate(kept)}
    weights = {}
    for name, tensor in whole.state_dict().items():
        match = LAYER.match(name)
        if match is None:
            weights[name] = tensor
        elif int(match[2]) in place:
            weights[f"{match[1]}{place[int(match[2])]}{match[3]}"] = tensor
    student.load_state_dict(weights)
    student.generation_config = whole.generation_config
    return student.eval()


def save_student(model: Any, tokenizer: Any, folder: Path, *, dtype: Any, mark: str) -> None:
    """Safetensors in the teacher's own type, configuration and tokenizer. `mark` tells apart students of one shape.

    The configuration carries it: a session's workload names a model folder by its configuration and the tensors' shapes.
    """
    import torch

    plain = model.to(dtype if isinstance(dtype, torch.dtype) else torch.float16)
    plain.config.distillation = mark
    plain.config.dtype = next(plain.parameters()).dtype
    plain.generation_config.do_sample = False
    for name in ("temperature", "top_p", "top_k"):
        setattr(plain.generation_config, name, None)  # sampling's own, which do_sample=False refuses
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
