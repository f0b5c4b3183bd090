"""Callbacks of the Trainer: progress, and stopping with a checkpoint.

Imports torch and transformers: import this module only when training begins.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback

from summarybench.core.numbers import significant


class TrainingInterrupted(Exception):  # noqa: N818  (requested by the user, not an error)
    """Ctrl-C or SIGTERM stopped training, after a finished step and with a checkpoint."""

    def __init__(self, step: int) -> None:
        super().__init__(f"interrupted after step {step}, with a checkpoint; run the same command again to continue")


class ProgressBar(TrainerCallback):  # type: ignore[misc]
    """Progress of training: a bar on a terminal, and one line per log elsewhere."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            disable=None if args.process_index == 0 else True,
        )
        self._prints_lines = self._bar.disable and args.process_index == 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.update(state.global_step - self._bar.n if not self._bar.disable else 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        names = {"loss": "loss", "eval_loss": "validation loss", "eval_rouge1": "validation ROUGE-1"}
        values = {names[key]: significant(value, 4) for key, value in (logs or {}).items() if key in names}
        if values and self._prints_lines:
            line = ", ".join(f"{name} {value}" for name, value in values.items())
            print(f"step {state.global_step} of {state.max_steps}: {line}", flush=True)
        elif values:
            self._bar.set_postfix(values)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """Callback that ends training with a checkpoint on Ctrl-C or SIGTERM.

    Training ends after the current step; a second signal ends it at once.

    `step` is the step after which training stopped, None if it was not interrupted.
    """

    def __init__(self) -> None:
        self._is_requested = False
        self.step: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals in this context.

        Only the main thread can do that; in other threads this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def request(*_: object) -> None:
            if self._is_requested:
                raise KeyboardInterrupt
            self._is_requested = True
            print(
                "stopping after this step, to save a checkpoint; a second Ctrl-C stops at once",
                file=sys.stderr,
                flush=True,
            )

        for number in previous:
            signal.signal(number, request)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if _in_any_process(self._is_requested, args):
            self.step = state.global_step
            control.should_save = control.should_training_stop = True


def _in_any_process(is_requested: bool, args: Any) -> bool:
    """Whether any process was asked to stop.

    All must stop after the same step, or the others would wait forever.
    """
    if args.world_size == 1:
        return is_requested
    requested = torch.tensor([float(is_requested)], device=args.device)
    torch.distributed.all_reduce(requested)
    return bool(requested.item())
