"""transformers' Trainer with the distillation loss and ROUGE-1 at each validation.

Imports torch and transformers: import this module only when training begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
from transformers import Trainer

from distillation.examples import Example
from distillation.generation import BatchGenerator, is_compiled_for
from distillation.losses import DistillationLoss, compile_layers, compiled_token_losses
from distillation.settings import DistillSettings
from distillation.training_batches import SimilarLengthSampler
from summarybench.analysis.rouge import rouge_f1
from summarybench.core.numbers import trimmed
from summarybench.core.outcomes import JudgementError
from summarybench.machine.device import Device

ROUGE_DOCUMENTS = 32
"""Validation documents that are summarized and scored at each validation. The validation loss uses all of them."""


class DistillationTrainer(Trainer):  # type: ignore[misc]
    """Trainer that minimizes `DistillationLoss`.

    It validates with the loss of all validation examples, and with ROUGE-1 of some.

    `teacher` is None if the loss needs only its texts. `decode` turns tokens into text.
    """

    def __init__(
        self,
        *,
        teacher: Any,
        layers: Sequence[int],
        settings: DistillSettings,
        validation: Sequence[Example],
        device: Device,
        decode: Callable[[Sequence[int]], str],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._settings = settings
        self._validation = validation
        self._device = device
        self._decode = decode
        self._unchecked: tuple[torch.Tensor, int] | None = None
        is_compiled = is_compiled_for(device)
        self._loss = DistillationLoss(
            settings, teacher, layers, compiled_token_losses(settings) if is_compiled else None
        )
        if is_compiled:
            compile_layers(self.accelerator.unwrap_model(self.model))
            if teacher is not None:
                compile_layers(teacher)

    def _get_train_sampler(self, train_dataset: Any = None) -> SimilarLengthSampler:
        examples = self.train_dataset if train_dataset is None else train_dataset
        lengths = [len(each["prompt_ids"]) + len(each["output_ids"]) for each in examples]
        return SimilarLengthSampler(self._settings.batch_size, lengths, self._settings.seed)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self._check_last_loss()
        loss = self._loss(model, inputs, num_items_in_batch)
        self._unchecked = loss.detach(), self.state.global_step
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # The divisor counts the tokens of all processes, whose gradients are averaged on top of that.
            loss = loss * self.accelerator.num_processes
        return (loss, {"logits": loss.detach()}) if return_outputs else loss

    def _check_last_loss(self) -> None:
        """Raises JudgementError if the previous loss is not finite.

        Checking it one step later avoids waiting for the GPU.
        """
        if self._unchecked is None:
            return
        (loss, step), self._unchecked = self._unchecked, None
        if not math.isfinite(loss.item()):
            raise JudgementError(
                f"the loss is {loss.item()} after step {step}: lower --learning-rate (now {trimmed(self._settings.learning_rate)}) or give "
                "--float32; the last checkpoint was saved before this step"
            )

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        self._check_last_loss()
        super()._save_checkpoint(*arguments, **options)

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> tuple[Any, None, None]:
        """Compute the loss alone, so that no logits are gathered in vain."""
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """The loss over all validation examples, and ROUGE-1 of some."""
        metrics: dict[str, float] = super().evaluate(*arguments, **options)
        rouge1 = {"eval_rouge1": self._rouge1()}
        self.log(rouge1)
        return metrics | rouge1

    def _rouge1(self) -> float:
        """Mean ROUGE-1 F1 of greedy summaries against their references.

        Each process summarizes a part of the documents. The mean is over all of them.
        """
        from accelerate.utils import gather_object

        rank, world = self.args.process_index, self.args.world_size
        own = self._validation[:ROUGE_DOCUMENTS][rank::world]
        model = self.accelerator.unwrap_model(self.model).eval()
        size = self.args.per_device_eval_batch_size
        generator = BatchGenerator(model, self._device, size)
        outputs: list[list[int]] = []
        random_state = torch.get_rng_state()
        # The layers are compiled for whole texts. Decoding token by token, with a growing cache, would compile them again.
        with self.autocast_smart_context_manager(), torch.compiler.set_stance("force_eager"):
            for start in range(0, len(own), size):
                prompts = [each["prompt_ids"] for each in own[start : start + size]]
                outputs += generator.generate(prompts, self._settings.max_new_tokens)
        torch.set_rng_state(random_state)
        model.train()
        pairs = zip(own, outputs, strict=True)
        scores = gather_object(
            [rouge_f1(self._decode(ids), each["reference"])["rouge1"] for each, ids in pairs if each["reference"]]
        )
        return fmean(scores) if scores else 0.0
