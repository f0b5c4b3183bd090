"""Step 4: training the student.

Training resumes from the last checkpoint, and continues with smaller micro-batches after running out of memory.

Imports torch and transformers: import this module only when training begins.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments

from distillation.callbacks import ProgressBar, StopOnSignal, TrainingInterrupted
from distillation.examples import Example, training_and_validation
from distillation.schedule import micro_batch_size, total_steps
from distillation.settings import DistillSettings
from distillation.trainer import DistillationTrainer
from distillation.training_batches import Collator
from summarybench.core.device_errors import explain_out_of_memory
from summarybench.core.outcomes import DeviceMemoryError
from summarybench.machine.device import Device

WARM_UP_SHARE = 0.05
"""Share of the steps in which the learning rate rises to its peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """What to train, with which examples, and where.

    `checkpoints` is the folder to save in and to resume from. `rows` are those of summaries.parquet. `load_student`
    loads the untrained student anew for each attempt. `teacher` is None if the loss does not need it; `layers` are its
    layers that the student has kept.
    """

    checkpoints: Path
    rows: Sequence[Example]
    settings: DistillSettings
    device: Device
    dtype: str
    load_student: Callable[[], Any]
    teacher: Any
    layers: Sequence[int]
    decode: Callable[[Sequence[int]], str]
    processes: int
    say: Callable[[str], None]


def train(run: TrainingRun) -> tuple[Any, dict[str, Any]]:
    """Train the student, and return it with facts about the training.

    Training starts from the last checkpoint, if there is one. The returned weights are those with the lowest validation
    loss.

    When memory runs out, the micro-batch is halved and gradients are accumulated over more of them, so that a step
    keeps its size. Raises TrainingInterrupted after Ctrl-C, InputError without usable examples, JudgementError if the
    loss is not finite and DeviceMemoryError if a single example does not fit.
    """
    training, validation = training_and_validation(run.rows, run.settings)
    micro_batch = micro_batch_size(run.settings, run.device, run.processes)
    while True:
        try:
            return _train(run, training, validation, micro_batch)
        except Exception as error:
            detail = explain_out_of_memory(error)
        run.device.release_memory()
        if micro_batch == 1 or run.processes > 1:
            remedy = "lower --max-prompt-tokens" if micro_batch == 1 else f"give --micro-batch {micro_batch // 2}"
            raise DeviceMemoryError(
                f"out of memory while training with a micro-batch of {micro_batch}: {detail}; {remedy}"
            )
        smaller = max(size for size in range(1, micro_batch // 2 + 1) if micro_batch % size == 0)
        run.say(
            f"out of memory with a micro-batch of {micro_batch} ({detail}); continuing with {smaller}, still "
            f"{run.settings.batch_size} examples per step"
        )
        micro_batch = smaller


def _train(
    run: TrainingRun, training: Sequence[Example], validation: Sequence[Example], micro_batch: int
) -> tuple[Any, dict[str, Any]]:
    steps = total_steps(len(training), run.settings)
    stop = StopOnSignal()
    checkpoint = last_complete_checkpoint(run.checkpoints)
    trainer = DistillationTrainer(
        model=run.load_student(),
        teacher=run.teacher,
        layers=run.layers,
        settings=run.settings,
        validation=validation,
        device=run.device,
        decode=run.decode,
        args=_arguments(run, steps, micro_batch, is_resumed=checkpoint is not None),
        train_dataset=list(training),
        eval_dataset=list(validation),
        data_collator=Collator(run.settings.prompt_weight),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=run.settings.patience), stop, ProgressBar()],
    )
    trainer.remove_callback(PrinterCallback)
    with stop.listening():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if stop.step is not None:
        raise TrainingInterrupted(stop.step)
    return trainer.accelerator.unwrap_model(trainer.model), _facts(trainer, training, micro_batch)


def _arguments(run: TrainingRun, steps: int, micro_batch: int, *, is_resumed: bool) -> TrainingArguments:
    settings, is_host = run.settings, run.device.is_host
    every = math.ceil(steps / settings.evaluations)
    return TrainingArguments(
        output_dir=str(run.checkpoints),
        max_steps=steps,
        per_device_train_batch_size=micro_batch,
        per_device_eval_batch_size=micro_batch,
        gradient_accumulation_steps=settings.batch_size // (micro_batch * run.processes),
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(WARM_UP_SHARE * steps),
        weight_decay=0.01,
        bf16=run.dtype == "bfloat16",
        use_cpu=is_host,
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=not is_resumed,  # repeated at each resumption, it would use up the patience
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(1, every // 5),
        logging_nan_inf_filter=False,
        seed=settings.seed,
        data_seed=settings.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=not is_host,
        disable_tqdm=True,
        report_to="none",
        ddp_find_unused_parameters=False,
        ddp_backend=run.device.collective_backend if is_host and "WORLD_SIZE" in os.environ else None,
    )


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint, which has a valid trainer_state.json.

    The Trainer writes that file last.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if _is_complete(path)), None)


def _is_complete(folder: Path) -> bool:
    try:
        return "global_step" in json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _facts(trainer: Any, training: Sequence[Example], micro_batch: int) -> dict[str, Any]:
    """Steps, losses and sizes for provenance and model card: plain JSON types."""
    history = trainer.state.log_history
    keep = ("step", "epoch", "loss", "eval_loss", "eval_rouge1")
    return {
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step,
        "best_validation_loss": trainer.state.best_metric,
        "examples": len(training),
        "labelled_tokens": sum(len(each["output_ids"]) for each in training),
        "micro_batch": micro_batch,
        "history": [{key: each[key] for key in keep if key in each} for each in history if set(each) & set(keep[2:])],
    }
