"""How many steps training takes, and how a step is divided into micro-batches."""

from __future__ import annotations

import math

from distillation.settings import DistillSettings
from summarybench.core.outcomes import InputError
from summarybench.machine.device import Device


def total_steps(examples: int, settings: DistillSettings) -> int:
    """Optimizer steps of the whole training: --steps, or as many as --epochs take."""
    if settings.steps is not None:
        return settings.steps
    return max(1, math.ceil(settings.epochs * math.ceil(examples / settings.batch_size)))


def teacher_batch_size(settings: DistillSettings, device: Device) -> int:
    """Texts that the teacher generates at a time."""
    return settings.teacher_batch or (128 if device.gains_from_large_batches else 8)


def micro_batch_size(settings: DistillSettings, device: Device, processes: int) -> int:
    """Examples at a time on one device.

    This is the largest divisor of its share of a step that is at most --micro-batch.

    Raises InputError if the processes cannot share a step evenly.
    """
    share, rest = divmod(settings.batch_size, processes)
    if rest:
        raise InputError(
            f"--batch-size {settings.batch_size}: must be a multiple of the {processes} processes that share a step"
        )
    wanted = settings.micro_batch or (32 if device.gains_from_large_batches else 2)
    return max(size for size in range(1, min(wanted, share) + 1) if share % size == 0)
