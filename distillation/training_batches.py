"""Training batches: right-padded, of examples of similar length.

Imports torch and transformers: import this module only when training begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler

from distillation.examples import Example, repeated_tokens

IGNORED = -100
"""The label of tokens without a loss: `ignore_index` of torch's cross-entropy."""
PAD = 0
"""Any token will do: no real token attends to the padding on its right."""


class Collator:
    """Collator of right-padded batches.

    They need no attention mask, because a token attends only to tokens on its left.

    `input_ids` is [batch, tokens]. `labels`, `loss_weights` and `repeats` are [batch, kept] and belong to the last
    `kept` tokens, which start just before the first label. The first token of a prompt is never a label, because
    nothing predicts it.
    """

    def __init__(self, prompt_weight: float) -> None:
        self._prompt_weight = prompt_weight

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        rows = [[*each["prompt_ids"], *each["output_ids"]] for each in examples]
        starts = [1 if self._prompt_weight else len(each["prompt_ids"]) for each in examples]
        width, left_out = max(map(len, rows)), min(starts) - 1
        ids = torch.full((len(rows), width), PAD)
        labels = torch.full_like(ids, IGNORED)
        weights = torch.zeros(ids.shape)
        repeats = torch.zeros(ids.shape, dtype=torch.bool)
        for number, (row, start, each) in enumerate(zip(rows, starts, examples, strict=True)):
            output = slice(len(each["prompt_ids"]), len(row))
            ids[number, : len(row)] = torch.tensor(row)
            labels[number, start : len(row)] = ids[number, start : len(row)]
            weights[number, start : len(row)] = self._prompt_weight
            weights[number, output] = 1.0
            repeats[number, output] = torch.tensor(repeated_tokens(each["output_ids"]))
        kept = {"labels": labels, "loss_weights": weights, "repeats": repeats}
        return {"input_ids": ids} | {name: columns[:, left_out:] for name, columns in kept.items()}


class SimilarLengthSampler(LengthGroupedSampler):  # type: ignore[misc]
    """Sampler that puts examples of similar length into one batch.

    In random batches, two thirds of the tokens would be padding.

    The order depends on seed and epoch alone, not on the random state, so that a resumed run has the same order.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self._seed + self._epoch)
        return iter(super().__iter__())
