"""Step 4: transformers' Trainer with the distillation loss, ROUGE on held-out documents, and a Ctrl-C that saves.

Imports torch and transformers at once: import it when training begins.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from distillation.generate import Writer, is_compiled_for
from distillation.settings import REPEATED_TOKENS, DistillSettings
from distillation.summaries import TRAINING, VALIDATION, overlap
from summarybench.analysis.quality import rouge_f1
from summarybench.core.outcomes import DeviceMemoryError, InputError, JudgementError, explain_out_of_memory
from summarybench.machine.device import Device

IGNORED = -100
WARM_UP_SHARE = 0.05
MOST_VALIDATION_DOCUMENTS = 32
"""That ROUGE is generated for at each validation; the loss is over all of them."""
TOKENS_AT_ONCE = 4096
"""That the loss is computed for at a time: with prompts to learn from, [tokens, vocabulary] in float32 is the largest tensor by far."""
LEAST_SURPRISE = 1e-5
"""Nats, in float32: what is more certain has no finite unlikelihood."""

Example = Mapping[str, Any]


class Interrupted(Exception):  # noqa: N818  (no error: asked for)
    """Ctrl-C or SIGTERM: the step under way was finished, and a checkpoint was saved."""

    def __init__(self, step: int) -> None:
        super().__init__(f"interrupted after step {step}, which is saved; the same command goes on from there")


def examples_of(rows: Sequence[Mapping[str, Any]], role: str, settings: DistillSettings) -> list[Example]:
    """What can be learnt from: all that was not dropped, and where asked for, of the summaries those that say what their texts
    do, and of all texts those that came to their end. A student's own repeating texts too, where repeating is unlearned.
    """
    least = settings.least_overlap
    kept = ("", "repeating") if settings.learns_from_repeating else ("",)
    return [
        row
        for row in rows
        if row["role"] == role
        and row["dropped"] in kept
        and not (settings.finished_only and row["hit_cap"])
        and (not least or row["task"] != "summarize" or overlap(row["output"], row["text"]) >= least)
    ]


def training_and_validation(
    rows: Sequence[Mapping[str, Any]], settings: DistillSettings
) -> tuple[list[Example], list[Example]]:
    """The examples of both. Raises InputError where none are left of either."""
    training, validation = (examples_of(rows, role, settings) for role in (TRAINING, VALIDATION))
    if not training or not validation:
        rest = "empty" if settings.learns_from_repeating else "empty or repeating"
        if settings.least_overlap:
            rest += f", or below --least-overlap {settings.least_overlap:.0%}"
        if settings.finished_only:
            rest += ", or cut at their longest (--finished-only)"
        raise InputError(
            f"{len(training)} texts to train on and {len(validation)} to validate are left of what the teacher wrote (the rest is "
            f"{rest}); give more --documents or another --teacher"
        )
    return training, validation


class Collator:
    """Right-padded batches: what precedes a token is all that it attends to, so that padding needs no mask.

    `labels`, `loss_weights` and `repeats` are [batch, kept], aligned with the last `kept` tokens, which begin before the first label.
    No prompt's first token is one: nothing predicts it.
    """

    def __init__(self, pad: int, prompt_weight: float) -> None:
        self._pad = pad
        self._prompt_weight = prompt_weight

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        rows = [[*each["prompt_ids"], *each["output_ids"]] for each in examples]
        starts = [1 if self._prompt_weight else len(each["prompt_ids"]) for each in examples]
        width, left_out = max(map(len, rows)), min(starts) - 1
        ids = torch.full((len(rows), width), self._pad)
        labels = torch.full_like(ids, IGNORED)
        weights = torch.zeros(ids.shape)
        repeats = torch.zeros(ids.shape, dtype=torch.bool)
        for number, (row, start, each) in enumerate(zip(rows, starts, examples, strict=True)):
            ids[number, : len(row)] = torch.tensor(row)
            labels[number, start : len(row)] = ids[number, start : len(row)]
            weights[number, start : len(row)] = self._prompt_weight
            weights[number, len(each["prompt_ids"]) : len(row)] = 1.0
            repeats[number, len(each["prompt_ids"]) : len(row)] = torch.tensor(repeated(each["output_ids"]))
        kept = {"labels": labels, "loss_weights": weights, "repeats": repeats}
        return {"input_ids": ids} | {name: columns[:, left_out:] for name, columns in kept.items()}


def repeated(ids: Sequence[int]) -> list[bool]:
    """Of each token, whether it is of REPEATED_TOKENS in a row that were there before."""
    said: set[tuple[int, ...]] = set()
    found = [False] * len(ids)
    for start in range(len(ids) - REPEATED_TOKENS + 1):
        run = tuple(ids[start : start + REPEATED_TOKENS])
        if run in said:
            found[start : start + REPEATED_TOKENS] = [True] * REPEATED_TOKENS
        said.add(run)
    return found


class GroupedByLength(LengthGroupedSampler):  # type: ignore[misc]
    """Examples of like length in one batch: of whole articles and passages mixed, two thirds of a batch would be padding.

    The order follows from seed and epoch alone, not from a random state, so that a resumed run has the same one.
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


class DistillationTrainer(Trainer):  # type: ignore[misc]
    """Minimizes ce_weight × CE(teacher's tokens) + kl_weight × T² × KL(teacher ‖ student) + reverse_kl_weight × T² ×
    KL(student ‖ teacher), averaged over labelled tokens (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network";
    the reverse: Agarwal et al. 2024, "On-Policy Distillation of Language Models", where its texts are the student's own). With
    unlikelihood_weight, of tokens that repeat what was said before it is unlikelihood_weight × -log(1 - p) instead (Welleck et al.
    2020, "Neural Text Generation with Unlikelihood Training", there of runs of four tokens).

    In training alone, hidden_weight × what `hidden_error` finds is added, where `layers` of the teacher are the student's.
    """

    def __init__(
        self,
        *,
        teacher: Any,
        layers: Sequence[int],
        settings: DistillSettings,
        validation: Sequence[Example],
        device: Device,
        decode: Any,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._teacher = teacher
        self._layers = layers
        self._settings = settings
        self._validation = validation
        self._device = device
        self._decode = decode
        self._unchecked: tuple[torch.Tensor, int] | None = None
        self._token_losses: Callable[..., torch.Tensor] = partial(token_losses, settings)
        if is_compiled_for(device):
            self._token_losses = compiled_token_losses(settings)
            compile_layers(self.accelerator.unwrap_model(self.model))
            if teacher is not None:
                compile_layers(teacher)

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupedByLength:
        examples = self.train_dataset if train_dataset is None else train_dataset
        lengths = [len(each["prompt_ids"]) + len(each["output_ids"]) for each in examples]
        return GroupedByLength(self._settings.batch_size, lengths, self._settings.seed)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self._check_last_loss()
        fills = {"labels": IGNORED, "loss_weights": 0, "repeats": False}
        labels, weights, repeats = (of_the_next(inputs[name], fill) for name, fill in fills.items())
        asked = {"input_ids": inputs["input_ids"], "logits_to_keep": labels.shape[1], "use_cache": False}
        is_hidden_wanted = bool(self._settings.hidden_weight) and model.training
        found, wanted = model(**asked, output_hidden_states=is_hidden_wanted), None
        if self._teacher is not None:
            with torch.no_grad():
                taught = self._teacher(**asked, output_hidden_states=is_hidden_wanted)
            wanted = taught.logits if self._settings.needs_logits else None
        losses = self._token_losses(found.logits, wanted, labels, repeats)
        if is_hidden_wanted:
            error = hidden_error(found.hidden_states, taught.hidden_states, self._layers)
            losses = losses + self._settings.hidden_weight * error[:, -labels.shape[1] :]
        is_label = labels != IGNORED
        count = is_label.sum() if num_items_in_batch is None else num_items_in_batch
        total = torch.where(is_label, losses * weights, 0.0).sum() / count
        self._unchecked = total.detach(), self.state.global_step
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            total = total * self.accelerator.num_processes  # whose gradients are averaged, and the count is everybody's
        return (total, {"logits": total.detach()}) if return_outputs else total

    def _check_last_loss(self) -> None:
        """Raises JudgementError where it is no number. Asked a step later, so that a GPU is never waited for."""
        if self._unchecked is None:
            return
        (loss, step), self._unchecked = self._unchecked, None
        if not math.isfinite(loss.item()):
            raise JudgementError(
                f"the loss is {loss.item()} after step {step}: lower --learning-rate (now {self._settings.learning_rate:g}), or "
                "compute in --float32; the last checkpoint is from before it"
            )

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        self._check_last_loss()
        super()._save_checkpoint(*arguments, **options)

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> tuple[Any, None, None]:
        """The loss alone: logits would be gathered for nothing."""
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """The loss over all validation examples, and ROUGE-1 against the references of some."""
        metrics: dict[str, float] = super().evaluate(*arguments, **options)
        found = {"eval_rouge1": self._rouge1()}
        self.log(found)
        return metrics | found

    def _rouge1(self) -> float:
        from accelerate.utils import gather_object

        rank, world = self.args.process_index, self.args.world_size
        mine = self._validation[:MOST_VALIDATION_DOCUMENTS][rank::world]
        model = self.accelerator.unwrap_model(self.model).eval()
        size = self.args.per_device_eval_batch_size
        writer = Writer(model, self._device, size)
        outputs: list[list[int]] = []
        random_state = torch.get_rng_state()
        # What is compiled is for whole texts: of a token at a time with a growing cache, other kernels would be made.
        with self.autocast_smart_context_manager(), torch.compiler.set_stance("force_eager"):
            for start in range(0, len(mine), size):
                prompts = [each["prompt_ids"] for each in mine[start : start + size]]
                outputs += writer.answer(prompts, self._settings.max_new_tokens)
        torch.set_rng_state(random_state)
        model.train()
        pairs = zip(mine, outputs, strict=True)
        scores = gather_object([rouge_f1(self._decode(ids), each["reference"])["rouge1"] for each, ids in pairs])
        return fmean(scores) if scores else 0.0


def of_the_next(columns: torch.Tensor, fill: float) -> torch.Tensor:
    """What belongs to the next token, at each token: [batch, kept]. Shifting the logits instead would copy gigabytes."""
    return functional.pad(columns[:, 1:], (0, 1), value=fill)


def compile_layers(model: Any) -> None:
    """In place: each layer as one function for batches of any size, a third fewer seconds a step. All have one code."""
    for layer in model.model.layers:
        layer.compile(dynamic=True)


def compiled_token_losses(settings: DistillSettings) -> Callable[..., torch.Tensor]:
    """As `token_losses`, in a few passes over the logits, no float32 copy of which is ever in memory."""
    return torch.compile(partial(_token_losses, settings))


def token_losses(
    settings: DistillSettings,
    logits: torch.Tensor,
    wanted: torch.Tensor | None,
    labels: torch.Tensor,
    repeats: torch.Tensor,
) -> torch.Tensor:
    """The loss of each label, without its weight: [examples, kept].

    Some examples at a time, and computed again in the backward pass, so that only their float32 copies are in memory at once.
    """
    size = max(1, TOKENS_AT_ONCE // logits.shape[1])
    parts = torch.split(logits, size)
    teachers = [None] * len(parts) if wanted is None else torch.split(wanted, size)
    return torch.cat(
        [
            checkpoint(_token_losses, settings, *part, use_reentrant=False, preserve_rng_state=False)
            for part in zip(parts, teachers, torch.split(labels, size), torch.split(repeats, size), strict=True)
        ]
    )


def _token_losses(
    settings: DistillSettings,
    logits: torch.Tensor,
    wanted: torch.Tensor | None,
    labels: torch.Tensor,
    repeats: torch.Tensor,
) -> torch.Tensor:
    found = logits.float().flatten(0, 1)  # [tokens, vocabulary]
    surprises = functional.cross_entropy(found, labels.flatten(), ignore_index=IGNORED, reduction="none")
    losses = settings.ce_weight * surprises
    if wanted is not None:
        taught = wanted.float().flatten(0, 1)
        if settings.kl_weight:
            losses = losses + settings.kl_weight * divergence(taught, found, settings.temperature)
        if settings.reverse_kl_weight:
            losses = losses + settings.reverse_kl_weight * divergence(found, taught, settings.temperature)
    if settings.unlikelihood_weight:
        unlikelihoods = -torch.log(-torch.expm1(-surprises.clamp(min=LEAST_SURPRISE)))
        losses = torch.where(repeats.flatten(), settings.unlikelihood_weight * unlikelihoods, losses)
    return losses.view_as(labels)


def hidden_error(
    student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor], layers: Sequence[int]
) -> torch.Tensor:
    """How far what each layer hands on is from what the teacher gives to the next one that was kept: [examples, width].

    ‖difference‖² ÷ ‖teacher's‖² of each token, since their sizes differ by orders of magnitude, averaged over the layers
    (Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation"). `student` and `teacher` are
    the embedded tokens and then each layer's output, the last one normed: [examples, width, hidden].
    """
    pairs = zip(student[1:], (*(teacher[layer] for layer in layers[1:]), teacher[-1]), strict=True)
    errors = [
        (ours.float() - theirs.float()).square().sum(dim=-1) / theirs.float().square().sum(dim=-1)
        for ours, theirs in pairs
    ]
    return torch.stack(errors).mean(dim=0)


def divergence(true: torch.Tensor, other: torch.Tensor, temperature: float) -> torch.Tensor:
    """T² × KL(true ‖ other) of each row of logits at temperature T: [rows]."""
    wanted = functional.log_softmax(true / temperature, dim=-1)
    found = functional.log_softmax(other / temperature, dim=-1)
    return functional.kl_div(found, wanted, log_target=True, reduction="none").sum(dim=-1) * temperature**2


class ProgressBar(TrainerCallback):  # type: ignore[misc]
    """A bar with loss and time left on a terminal; a line a log elsewhere."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            disable=None if args.process_index == 0 else True,
        )
        self._shows_lines = self._bar.disable and args.process_index == 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.update(state.global_step - self._bar.n if not self._bar.disable else 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        names = {"loss": "loss", "eval_loss": "validation loss", "eval_rouge1": "validation ROUGE-1"}
        shown = {names[key]: f"{value:.4g}" for key, value in (logs or {}).items() if key in names}
        if shown and self._shows_lines:
            told = ", ".join(f"{name} {value}" for name, value in shown.items())
            print(f"step {state.global_step} of {state.max_steps}: {told}", flush=True)
        elif shown:
            self._bar.set_postfix(shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()


class StopWhenAsked(TrainerCallback):  # type: ignore[misc]
    """Ctrl-C or SIGTERM ends training after the step under way, with a checkpoint; a second one ends it at once."""

    def __init__(self) -> None:
        self.is_asked = False
        self.step: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def ask(*_: object) -> None:
            if self.is_asked:
                raise KeyboardInterrupt
            self.is_asked = True
            print("stopping after this step, with a checkpoint; once more stops at once", file=sys.stderr, flush=True)

        for number in kept:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if _any_process(self.is_asked, args):
            self.step = state.global_step
            control.should_save = control.should_training_stop = True


def _any_process(is_asked: bool, args: Any) -> bool:
    """Whether any of the processes was asked: they stop at one step, or the others would wait for ever."""
    if args.world_size == 1:
        return is_asked
    asked = torch.tensor([float(is_asked)], device=args.device)
    torch.distributed.all_reduce(asked)
    return bool(asked.item())


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end: the state's file is the last of it."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if _is_whole(path)), None)


def _is_whole(folder: Path) -> bool:
    try:
        return "global_step" in json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def micro_batch_of(settings: DistillSettings, device: Device, processes: int) -> int:
    """Examples at a time on one device: a divisor of what each step takes there. Raises InputError where there is none."""
    share, rest = divmod(settings.batch_size, processes)
    if rest:
        raise InputError(
            f"--batch-size {settings.batch_size} cannot be shared by {processes} processes; give a multiple of it"
        )
    wanted = settings.micro_batch or (32 if device.is_gpu else 2)
    return max(size for size in range(1, min(wanted, share) + 1) if share % size == 0)


def train(
    folder: Path,
    rows: Sequence[Example],
    settings: DistillSettings,
    device: Device,
    *,
    dtype: str,
    open_student: Callable[[], Any],
    teacher: Any,
    layers: Sequence[int],
    decode: Callable[[Sequence[int]], str],
    pad: int,
    processes: int,
    say: Callable[[str], None],
) -> tuple[Any, dict[str, Any]]:
    """The trained student, with the lowest validation loss, and what is to be told of it; goes on at the last checkpoint.

    Where memory runs out the micro-batch is halved and accumulation doubled, so that a step stays what it was. Raises
    Interrupted after Ctrl-C, JudgementError where the loss is no number and DeviceMemoryError where one example does not fit.
    """
    micro_batch = micro_batch_of(settings, device, processes)
    while True:
        try:
            return _train(
                folder,
                rows,
                settings,
                device,
                dtype,
                open_student(),
                teacher,
                layers,
                decode,
                pad,
                micro_batch,
                processes,
            )
        except Exception as error:
            detail = explain_out_of_memory(error)
        device.release_memory()
        if micro_batch == 1 or processes > 1:
            remedy = "a shorter --max-prompt-tokens" if micro_batch == 1 else f"--micro-batch {micro_batch // 2}"
            raise DeviceMemoryError(
                f"out of memory while training with a micro-batch of {micro_batch}: {detail}; give {remedy}"
            )
        smaller = max(size for size in range(1, micro_batch // 2 + 1) if micro_batch % size == 0)
        say(
            f"out of memory with a micro-batch of {micro_batch} ({detail}); on with {smaller}, {settings.batch_size} a step as before"
        )
        micro_batch = smaller


def _train(
    folder: Path,
    rows: Sequence[Example],
    settings: DistillSettings,
    device: Device,
    dtype: str,
    student: Any,
    teacher: Any,
    layers: Sequence[int],
    decode: Callable[[Sequence[int]], str],
    pad: int,
    micro_batch: int,
    processes: int,
) -> tuple[Any, dict[str, Any]]:
    training, validation = training_and_validation(rows, settings)
    steps = total_steps(len(training), settings)
    stop = StopWhenAsked()
    last = last_whole_checkpoint(folder)
    trainer = DistillationTrainer(
        model=student,
        teacher=teacher,
        layers=layers,
        settings=settings,
        validation=validation,
        device=device,
        decode=decode,
        args=_arguments(folder, settings, device, dtype, steps, micro_batch, processes, is_new=last is None),
        train_dataset=list(training),
        eval_dataset=list(validation),
        data_collator=Collator(pad, settings.prompt_weight),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=settings.patience), stop, ProgressBar()],
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    with stop.listening():
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if stop.step is not None:
        raise Interrupted(stop.step)
    return trainer.accelerator.unwrap_model(trainer.model), _told(trainer, training, micro_batch)


def total_steps(examples: int, settings: DistillSettings) -> int:
    """Optimizer steps of the whole run."""
    if settings.steps is not None:
        return settings.steps
    return max(1, math.ceil(settings.epochs * math.ceil(examples / settings.batch_size)))


def _arguments(
    folder: Path,
    settings: DistillSettings,
    device: Device,
    dtype: str,
    steps: int,
    micro_batch: int,
    processes: int,
    *,
    is_new: bool,
) -> TrainingArguments:
    every = math.ceil(steps / settings.evaluations)
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=micro_batch,
        per_device_eval_batch_size=micro_batch,
        gradient_accumulation_steps=settings.batch_size // (micro_batch * processes),
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(WARM_UP_SHARE * steps),
        weight_decay=0.01,
        bf16=dtype == "bfloat16",
        use_cpu=not device.is_gpu,
        eval_strategy="steps",
        eval_steps=every,
        eval_on_start=is_new,  # again at each resumption, it would use up the patience
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
        dataloader_pin_memory=device.is_gpu,
        disable_tqdm=True,
        report_to="none",
        ddp_find_unused_parameters=False,
        ddp_backend=None if device.is_gpu or "WORLD_SIZE" not in os.environ else "gloo",
    )


def _told(trainer: Any, training: Sequence[Example], micro_batch: int) -> dict[str, Any]:
    """Steps and losses, plain JSON types."""
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
