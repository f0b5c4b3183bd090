"""What all steps share: settings, teacher, documents, device and processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation.loading import Teacher, compute_dtype, load_teacher, load_weights
from distillation.schedule import teacher_batch_size
from distillation.settings import DistillSettings
from distillation.steps import Inputs, Make, Steps
from distillation.training_documents import TrainingDocuments
from summarybench.machine.device import Device


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One process's view of a distillation.

    `drawn` has no synthetic documents. `state` is accelerate's PartialState.
    """

    settings: DistillSettings
    teacher: Teacher
    drawn: TrainingDocuments
    device: Device
    state: Any

    @property
    def dtype(self) -> str:
        return compute_dtype(self.device, float32=self.settings.float32)

    @property
    def teacher_batch(self) -> int:
        """Texts generated at a time."""
        return teacher_batch_size(self.settings, self.device)

    def load_teacher(self) -> Any:
        return load_teacher(self.teacher, self.dtype, self.state.device)

    def load_starting_model(self) -> Any:
        """Load the --student-from model, to write texts with."""
        assert self.settings.student_from is not None  # noqa: S101  (checked with the options)
        return load_weights(self.settings.student_from, self.dtype, self.state.device)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.teacher.chat.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def in_first(self, action: Callable[[], object]) -> None:
        """Run `action` in the first process; the others wait for it."""
        if self.state.is_main_process:
            action()
        self.state.wait_for_everyone()

    def in_all(self, steps: Steps, name: str, inputs: Inputs, output: Path, make: Make) -> bool:
        """Run a step in all processes, and return whether it was run now.

        The first process records it.
        """
        is_done = steps.is_done(name, inputs, output)
        self.state.wait_for_everyone()  # every process has looked before the first one changes anything
        if self.state.is_main_process:
            steps.run(name, inputs, output, make)
        elif not is_done:
            make(output)
        self.state.wait_for_everyone()
        return not is_done
