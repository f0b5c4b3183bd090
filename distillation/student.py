"""Step 3: the untrained student; and saving students."""

from __future__ import annotations

import copy
import hashlib
import re
from pathlib import Path
from typing import Any

from distillation.loading import Teacher, load_teacher, load_weights
from summarybench.core.outcomes import InputError, UnavailableError, first_line
from summarybench.engines.chat import Chat, open_chat
from summarybench.engines.checkpoint_files import check_chat_template
from summarybench.engines.precision import check_not_quantized
from summarybench.engines.weights import Weights, folder_digest

LAYER = re.compile(r"^(.*\blayers\.)(\d+)(\..*)$")
TOKENIZER_TEST = "Summarize: 3 steps, “quoted” — naïve café, 12.5 °C.\n"


def check_starting_model(folder: Path, teacher: Teacher) -> Chat:
    """Return the tokenizer and configuration of the --student-from model.

    Raises InputError if the folder holds no model, or if its tokenizer differs from the teacher's.
    """
    option = f"--student-from {folder}"
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{option}: holds no config.json with .safetensors files; name a folder that save_pretrained wrote"
        )
    check_chat_template(folder, option)
    try:
        chat = open_chat(Weights(kind="path", revision=folder_digest(folder), location=str(folder)))
    except (OSError, ValueError, UnavailableError) as error:
        raise InputError(f"{option}: its tokenizer cannot be used: {first_line(error)}") from error
    check_not_quantized(option, chat.config)
    ours, theirs = chat.tokenizer, teacher.chat.tokenizer
    is_same = (
        ours.get_vocab() == theirs.get_vocab()
        and ours(TOKENIZER_TEST)["input_ids"] == theirs(TOKENIZER_TEST)["input_ids"]
    )
    if not is_same or chat.config.vocab_size != teacher.chat.config.vocab_size:
        raise InputError(
            f"{option}: its tokenizer ({len(ours)} tokens) differs from that of {teacher.spec.name} ({len(theirs)} tokens), so "
            "their logits cannot be compared; name a model with the same tokenizer"
        )
    return chat


def untrained_student(teacher: Teacher, kept: tuple[int, ...], student_from: Path | None) -> Any:
    """The untrained student, in float32 on the CPU.

    It is made of these layers of the teacher, or is the --student-from model.
    """
    if student_from is not None:
        return load_weights(student_from, "float32", "cpu")
    return _with_layers(load_teacher(teacher, "float32", "cpu"), kept)


def student_config(config: Any, kept: tuple[int, ...]) -> Any:
    """The teacher's configuration, changed to these layers."""
    changed = copy.deepcopy(config)
    changed.num_hidden_layers = len(kept)
    if getattr(changed, "layer_types", None):
        changed.layer_types = [config.layer_types[layer] for layer in kept]
    return changed


def _with_layers(whole: Any, kept: tuple[int, ...]) -> Any:
    """A model with these layers of `whole`, its embeddings, head and final norm."""
    import torch
    from transformers import AutoModelForCausalLM

    student = AutoModelForCausalLM.from_config(
        student_config(whole.config, kept), dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
    )
    new_index = {layer: number for number, layer in enumerate(kept)}
    weights = {}
    for name, tensor in whole.state_dict().items():
        match = LAYER.match(name)
        if match is None:
            weights[name] = tensor
        elif int(match[2]) in new_index:
            weights[f"{match[1]}{new_index[int(match[2])]}{match[3]}"] = tensor
    student.load_state_dict(weights)
    student.generation_config = whole.generation_config
    return student.eval()


def save_student(model: Any, tokenizer: Any, folder: Path, *, dtype: Any, mark: str) -> None:
    """Save weights in the teacher's dtype, configuration and tokenizer.

    `mark` is the digest of the trained weights. The configuration holds it, so that a copy of config.json can be traced
    to them.
    """
    import torch

    plain = model.to(dtype if isinstance(dtype, torch.dtype) else torch.float16)
    plain.config.distillation = mark
    plain.config.dtype = next(plain.parameters()).dtype
    plain.generation_config.do_sample = False
    for name in ("temperature", "top_p", "top_k"):
        setattr(plain.generation_config, name, None)  # transformers rejects sampling parameters with do_sample=False
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def weights_digest(model: Any) -> str:
    """The sha256 of all tensors and their names, in float32."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
