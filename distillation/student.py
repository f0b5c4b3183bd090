"""Step 3: what training begins with: evenly spaced or chosen layers of the teacher, or a smaller model of the same tokenizer."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distillation.opening import Teacher, load_weights
from summarybench.core.outcomes import InputError, UnavailableError, first_line
from summarybench.engines.chat import Chat, open_chat
from summarybench.engines.precision import check_not_quantized
from summarybench.engines.weights import Weights, folder_digest

LAYER = re.compile(r"^(.*\blayers\.)(\d+)(\..*)$")
CHOSEN_BY_TEXTS = 16
"""As many decide which layers are kept; the teacher's logits of all of them are in memory at once."""
TRIAL_TEXT = "Summarize: 3 steps, “quoted” — naïve café, 12.5 °C.\n"


def spaced_layers(of: int, keep: int) -> tuple[int, ...]:
    """`keep` layers out of `of`, evenly spaced, the first and the last among them (a single one: the first)."""
    return tuple(round(number * (of - 1) / max(1, keep - 1)) for number in range(keep))


def chosen_layers(model: Any, texts: Sequence[Mapping[str, Any]], keep: int) -> tuple[tuple[int, ...], float]:
    """The layers that are left when again and again the one is dropped without which the model's logits diverge least, and by how
    many nats a token they do at the end (Song et al. 2024, "SLEB: Streamlining LLMs through Redundancy Verification and
    Elimination of Transformer Blocks").

    Texts are examples with prompt and output, some of which are taken, prompts included.
    """
    import torch
    from tqdm import tqdm

    from distillation.trainer import IGNORED, Collator, divergence, of_the_next

    collate = Collator(0, 1.0)
    some = [texts[number * len(texts) // CHOSEN_BY_TEXTS] for number in range(min(CHOSEN_BY_TEXTS, len(texts)))]
    batches = [collate(some[start : start + 4]) for start in range(0, len(some), 4)]
    is_asked = [of_the_next(batch["labels"], IGNORED).flatten() != IGNORED for batch in batches]

    def logits() -> Iterator[Any]:
        for batch, asked in zip(batches, is_asked, strict=True):
            ids = batch["input_ids"].to(model.device)
            found = model(ids, logits_to_keep=batch["labels"].shape[1], use_cache=False).logits
            yield found.flatten(0, 1)[asked.to(model.device)]

    def loss(kept: Sequence[int]) -> float:
        with only_layers(model, kept):
            pairs = zip(whole, logits(), strict=True)
            return sum(divergence(true.float(), found.float(), 1.0).sum().item() for true, found in pairs)

    with torch.inference_mode():
        whole = list(logits())
        kept = tuple(range(len(model.model.layers)))
        tokens, found = sum(len(each) for each in whole), 0.0
        with tqdm(total=len(kept) - keep, desc="choosing layers", disable=None) as bar:
            while len(kept) > keep:
                candidates = (tuple(each for each in kept if each != dropped) for dropped in kept)
                found, kept = min((loss(each), each) for each in candidates)
                bar.update()
                bar.set_postfix_str(f"{found / tokens:.2f} nats a token")
        return kept, found / tokens


def passes_to_choose(of: int, keep: int) -> int:
    """Over the texts, with each layer that is left dropped in turn, until `keep` of `of` are left."""
    return sum(range(keep + 1, of + 1))


@contextmanager
def only_layers(model: Any, kept: Sequence[int]) -> Iterator[None]:
    """The model with these layers alone, and whole again afterwards."""
    import torch

    whole = model.model.layers
    model.model.layers = torch.nn.ModuleList([whole[layer] for layer in kept])
    try:
        yield
    finally:
        model.model.layers = whole


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
    check_not_quantized(option, chat.config)
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


def initial_student(teacher: Teacher, kept: tuple[int, ...], student_from: Path | None) -> Any:
    """The untrained student in float32 on the CPU: these layers of the teacher, or the smaller model."""
    if student_from is not None:
        return load_weights(student_from, "float32", "cpu", local_files_only=True)
    whole = load_weights(teacher.weights.location, "float32", "cpu", **teacher.weights.from_pretrained_options)
    return _with_layers(whole, kept)


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
        student_config(whole.config, kept), dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
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
    """Safetensors in the teacher's own type, configuration and tokenizer.

    `mark` goes into the configuration and names the trained weights, so that a copied config.json can be traced to them.
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
