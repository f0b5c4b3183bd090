"""Which layers of the teacher the student keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from distillation.loading import Teacher
from summarybench.core.numbers import decimal
from summarybench.core.outcomes import InputError

CHOICE_TEXTS = 16
"""Texts that the choice of layers is based on. The teacher's logits for all of them are in memory at once."""


def evenly_spaced_layers(total: int, keep: int) -> tuple[int, ...]:
    """Indices of `keep` out of `total` layers, evenly spaced from first to last.

    A single layer is the first one.
    """
    return tuple(round(number * (total - 1) / max(1, keep - 1)) for number in range(keep))


def check_layers(teacher: Teacher, layers: int) -> None:
    """Raises InputError unless the student keeps fewer layers than the teacher has."""
    total = int(teacher.chat.config.num_hidden_layers)
    if layers >= total:
        raise InputError(
            f"--layers {layers}: {teacher.spec.name} has {total} layers, and a student must have fewer; give at most {total - 1}"
        )


def choose_layers(model: Any, texts: Sequence[Mapping[str, Any]], keep: int) -> tuple[tuple[int, ...], float]:
    """Drop layers one at a time until `keep` are left.

    Each time, the layer is dropped whose absence changes the model's logits least.

    Returns the indices of the remaining layers and the KL divergence that their logits have from the whole model's, in
    nats per token. `texts` are examples with prompt and output tokens; some of them are used. The method is that of
    Song et al. 2024, "SLEB: Streamlining LLMs through Redundancy Verification and Elimination of Transformer Blocks".
    """
    import torch
    from tqdm import tqdm

    from distillation.losses import divergence, shift_left
    from distillation.training_batches import IGNORED, Collator

    collate = Collator(prompt_weight=1.0)
    sample = [texts[number * len(texts) // CHOICE_TEXTS] for number in range(min(CHOICE_TEXTS, len(texts)))]
    batches = [collate(sample[start : start + 4]) for start in range(0, len(sample), 4)]
    is_label = [shift_left(batch["labels"], IGNORED).flatten() != IGNORED for batch in batches]

    def logits() -> Iterator[Any]:
        """Of each batch, at the labelled tokens: [tokens, vocabulary]."""
        for batch, labelled in zip(batches, is_label, strict=True):
            ids = batch["input_ids"].to(model.device)
            output = model(ids, logits_to_keep=batch["labels"].shape[1], use_cache=False).logits
            yield output.flatten(0, 1)[labelled.to(model.device)]

    def loss(kept: Sequence[int]) -> float:
        with only_layers(model, kept):
            pairs = zip(whole, logits(), strict=True)
            return sum(divergence(true.float(), found.float(), 1.0).sum().item() for true, found in pairs)

    with torch.inference_mode():
        whole = list(logits())
        kept = tuple(range(len(model.model.layers)))
        tokens, lowest = sum(len(each) for each in whole), 0.0
        with tqdm(total=len(kept) - keep, desc="choosing layers", disable=None) as bar:
            while len(kept) > keep:
                candidates = (tuple(each for each in kept if each != dropped) for dropped in kept)
                lowest, kept = min((loss(each), each) for each in candidates)
                bar.update()
                bar.set_postfix_str(f"{decimal(lowest / tokens, 2)} nats per token")
        return kept, lowest / tokens


def passes_to_choose(total: int, keep: int) -> int:
    """How often `choose_layers` passes over its texts.

    Before each layer is dropped, it tries the model without each of the remaining layers.
    """
    return sum(range(keep + 1, total + 1))


@contextmanager
def only_layers(model: Any, kept: Sequence[int]) -> Iterator[None]:
    """The model with these layers alone; restores the others afterwards."""
    import torch

    whole = model.model.layers
    model.model.layers = torch.nn.ModuleList([whole[layer] for layer in kept])
    try:
        yield
    finally:
        model.model.layers = whole
