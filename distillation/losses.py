"""The distillation loss and its terms.

Imports torch: import this module only when training begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from distillation.settings import DistillSettings
from distillation.training_batches import IGNORED

TOKENS_AT_ONCE = 4096
"""Tokens whose loss is computed at a time. With prompt tokens, float32 logits [tokens, vocabulary] are the largest tensor."""
SMALLEST_NLL = 1e-5
"""Nats. A token with a smaller negative log-likelihood has no finite unlikelihood in float32."""

TokenLosses = Callable[..., torch.Tensor]


class DistillationLoss:
    """The loss of a batch: the weighted mean over its labelled tokens of

        ce_weight × CE + kl_weight × T² × KL(teacher ‖ student) + reverse_kl_weight × T² × KL(student ‖ teacher)

    with the temperature T, which divides the logits in both KL terms. If unlikelihood_weight is positive, tokens of
    repeated sequences have unlikelihood_weight × -log(1 - p) instead. In training mode, hidden_weight × `hidden_error`
    is added; `layers` are the teacher's layers that the student has kept.

    Sources: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; for the reverse KL on the student's own
    texts, Agarwal et al. 2024, "On-Policy Distillation of Language Models"; for unlikelihood, Welleck et al. 2020,
    "Neural Text Generation with Unlikelihood Training", which penalizes repeated sequences of four tokens.
    """

    def __init__(
        self, settings: DistillSettings, teacher: Any, layers: Sequence[int], token_losses: TokenLosses | None = None
    ) -> None:
        self._settings = settings
        self._teacher = teacher
        self._layers = layers
        self._token_losses = token_losses or partial(split_token_losses, settings)

    def __call__(self, model: Any, inputs: Mapping[str, torch.Tensor], count: Any = None) -> torch.Tensor:
        """Return the loss of a batch from `Collator`.

        `count` is the divisor, if it is not the batch's own number of labelled tokens.
        """
        fills = {"labels": IGNORED, "loss_weights": 0, "repeats": False}
        labels, weights, repeats = (shift_left(inputs[name], fill) for name, fill in fills.items())
        needs_hidden = bool(self._settings.hidden_weight) and model.training
        options = {
            "input_ids": inputs["input_ids"],
            "logits_to_keep": labels.shape[1],
            "use_cache": False,
            "output_hidden_states": needs_hidden,
        }
        student, teacher_logits = model(**options), None
        if self._teacher is not None:
            with torch.no_grad():
                teacher = self._teacher(**options)
            teacher_logits = teacher.logits if self._settings.needs_logits else None
        losses = self._token_losses(student.logits, teacher_logits, labels, repeats)  # [batch, kept]
        if needs_hidden:
            error = hidden_error(student.hidden_states, teacher.hidden_states, self._layers)
            losses = losses + self._settings.hidden_weight * error[:, -labels.shape[1] :]
        is_label = labels != IGNORED
        return torch.where(is_label, losses * weights, 0.0).sum() / (is_label.sum() if count is None else count)


def shift_left(columns: torch.Tensor, fill: float) -> torch.Tensor:
    """At each token, the value of the next token, which it predicts: [batch, kept].

    Shifting the logits the other way would copy gigabytes.
    """
    return functional.pad(columns[:, 1:], (0, 1), value=fill)


def compile_layers(model: Any) -> None:
    """Compile each layer in place, for any batch size.

    A step takes a third less time. All layers share the compiled code.
    """
    for layer in model.model.layers:
        layer.compile(dynamic=True)


def compiled_token_losses(settings: DistillSettings) -> TokenLosses:
    """As `split_token_losses`, compiled.

    It passes over the logits few times, and keeps no float32 copy of them in memory.
    """
    return torch.compile(partial(_token_losses, settings))


def split_token_losses(
    settings: DistillSettings,
    logits: torch.Tensor,
    teacher_logits: torch.Tensor | None,
    labels: torch.Tensor,
    repeats: torch.Tensor,
) -> torch.Tensor:
    """The loss of each label, without its weight: [batch, kept].

    Computed for some examples at a time and again in the backward pass, so that float32 copies of few logits are in
    memory at once.
    """
    size = max(1, TOKENS_AT_ONCE // logits.shape[1])
    parts = torch.split(logits, size)
    teacher_parts = [None] * len(parts) if teacher_logits is None else torch.split(teacher_logits, size)
    return torch.cat(
        [
            checkpoint(_token_losses, settings, *part, use_reentrant=False, preserve_rng_state=False)
            for part in zip(parts, teacher_parts, torch.split(labels, size), torch.split(repeats, size), strict=True)
        ]
    )


def _token_losses(
    settings: DistillSettings,
    logits: torch.Tensor,
    teacher_logits: torch.Tensor | None,
    labels: torch.Tensor,
    repeats: torch.Tensor,
) -> torch.Tensor:
    student = logits.float().flatten(0, 1)  # [tokens, vocabulary]
    nll = functional.cross_entropy(student, labels.flatten(), ignore_index=IGNORED, reduction="none")  # [tokens]
    losses = settings.ce_weight * nll
    if teacher_logits is not None:
        teacher = teacher_logits.float().flatten(0, 1)
        if settings.kl_weight:
            losses = losses + settings.kl_weight * divergence(teacher, student, settings.temperature)
        if settings.reverse_kl_weight:
            losses = losses + settings.reverse_kl_weight * divergence(student, teacher, settings.temperature)
    if settings.unlikelihood_weight:
        unlikelihood = -torch.log(-torch.expm1(-nll.clamp(min=SMALLEST_NLL)))
        losses = torch.where(repeats.flatten(), settings.unlikelihood_weight * unlikelihood, losses)
    return losses.view_as(labels)


def hidden_error(
    student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor], layers: Sequence[int]
) -> torch.Tensor:
    """The relative squared error of the student's hidden states: [batch, tokens].

    It is the mean over the student's layers.

    A layer's output is compared with the teacher's input of the next layer that was kept, as ‖difference‖² ÷
    ‖teacher's‖² of each token, because the norms differ by orders of magnitude (Muralidharan et al. 2024, "Compact
    Language Models via Pruning and Knowledge Distillation"). `student` and `teacher` are the embedded tokens followed
    by each layer's output, the last one after the final norm: [batch, tokens, hidden] each.
    """
    pairs = zip(student[1:], (*(teacher[layer] for layer in layers[1:]), teacher[-1]), strict=True)
    errors = [
        (ours.float() - theirs.float()).square().sum(dim=-1) / theirs.float().square().sum(dim=-1)
        for ours, theirs in pairs
    ]
    return torch.stack(errors).mean(dim=0)


def divergence(true: torch.Tensor, other: torch.Tensor, temperature: float) -> torch.Tensor:
    """T² × KL(true ‖ other) at temperature T, in nats: [tokens].

    `true` and `other` are logits: [tokens, vocabulary].
    """
    true_log = functional.log_softmax(true / temperature, dim=-1)
    other_log = functional.log_softmax(other / temperature, dim=-1)
    return functional.kl_div(other_log, true_log, log_target=True, reduction="none").sum(dim=-1) * temperature**2
