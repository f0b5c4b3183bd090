"""Batches and memory: which are tried, and the largest that is predicted to fit and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil
from typing import Any

from summarybench.catalogue.models import Experiment
from summarybench.core.outcomes import (
    BatchTooLargeError,
    DeviceLostError,
    DeviceMemoryError,
    explain_out_of_memory,
    first_line,
    is_device_lost,
)
from summarybench.documents.sources import Prompt
from summarybench.engines.engine import BatchEngine
from summarybench.engines.memory_model import MemoryPrediction
from summarybench.machine.device import GIB, Device

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
LARGEST_BATCH_SIZE, LARGEST_BATCH_SIZE_ON_A_CPU = 256, 8
"""The largest batches that are ever tried."""


@contextmanager
def hold_in_memory(
    experiment: Experiment, prediction: MemoryPrediction, device: Device, *, predict: bool
) -> Iterator[None]:
    """Around the measurement of a loaded model in batches, which begins with clean memory.

    Raises BatchTooLargeError for a batch that is predicted not to fit beside the weights: with `predict` before it is
    tried, otherwise if it ran out of memory. One that was predicted to fit keeps its DeviceMemoryError.
    """
    device.release_memory()
    free_bytes = device.free_memory_bytes()
    fits = experiment.batch_size == 1 or prediction.beside_weights_bytes <= free_bytes
    if not fits and predict:
        raise BatchTooLargeError(
            f"out of memory (predicted): {prediction}, and {free_bytes / GIB:.2f} GiB are free beside the weights; "
            "a smaller batch fits, or --no-memory-prediction tries all the same"
        )
    try:
        yield
    except DeviceMemoryError as error:
        if fits:
            raise
        detail = f"{error} (as predicted: {prediction})"
    else:
        return
    raise BatchTooLargeError(detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestBatch:
    """The largest batch of the longest prompt that is predicted to fit and ran, and what was tried on the way to it."""

    rows: int
    predicted_rows: int
    tries: tuple[tuple[int, bool], ...]

    def as_extra_info(self) -> dict[str, Any]:
        """The keys of the run file; `batch_tries` has rows and whether they ran, in the order in which they were tried."""
        return {
            "largest_safe_batch": self.rows,
            "predicted_largest_batch": self.predicted_rows,
            "batch_tries": [list(each) for each in self.tries],
        }


def rows_of_even_batches(model: BatchEngine, sequence_tokens: int, documents: int, device: Device) -> int:
    """Rows a batch, where as few and as even batches are made of the documents as are predicted to fit in memory.

    A last batch of a few rows would take as long as a full one. On a GPU there are no more than the largest of
    BATCH_SIZES, and a verdict has batches to rest on; on a CPU no more than are tried at all.
    """
    _begin_clean(model, device)
    most = _largest_predicted(model, sequence_tokens, device, max(BATCH_SIZES))
    return ceil(documents / ceil(documents / most))


def find_largest_batch(
    model: BatchEngine, prompts: Sequence[Prompt], max_new_tokens: int, device: Device
) -> LargestBatch:
    """Try the largest batch that is predicted to fit, and halve the interval for as long as memory runs out.

    accelerate's find_executable_batch_size only ever shrinks, so that it stops at the first size that runs.
    Raises DeviceMemoryError where not even one prompt runs.
    """
    longest_first = sorted((prompt.token_ids for prompt in prompts), key=len, reverse=True)
    _begin_clean(model, device)
    predicted = _largest_predicted(model, len(longest_first[0]) + max_new_tokens, device, LARGEST_BATCH_SIZE)
    tries: list[tuple[int, bool]] = []

    def runs(rows: int) -> bool:
        batch = list(islice(cycle(longest_first), rows))
        ran = _runs(lambda: model.generate(model.prepare(batch), max_new_tokens, lambda: None))
        if not ran:
            model.resize(0)  # what was compiled for them takes as much memory as it did
        device.release_memory()
        tries.append((rows, ran))
        return ran

    rows = largest(predicted, runs)
    if not rows:
        raise DeviceMemoryError("out of memory while generating: not even one row of the longest prompt runs")
    return LargestBatch(rows=rows, predicted_rows=predicted, tries=tuple(tries))


def largest(first: int, runs: Callable[[int], bool]) -> int:
    """The largest number up to `first` that runs, by bisection; 0 where none does. `first` is the first to be tried."""
    if runs(first):
        return first
    below, above = 0, first
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if runs(middle) else (below, middle)
    return below


def _begin_clean(model: BatchEngine, device: Device) -> None:
    """Nothing of an earlier batch is in the memory, what was compiled for it included."""
    model.resize(0)
    device.release_memory()


def _largest_predicted(model: BatchEngine, sequence_tokens: int, device: Device, most_rows: int) -> int:
    """At least 1: that one document fits was found when the model was loaded."""
    free_bytes = device.free_memory_bytes()
    most = most_rows if device.is_gpu else LARGEST_BATCH_SIZE_ON_A_CPU
    fitting = (
        rows
        for rows in range(most, 0, -1)
        if model.memory_for(sequence_tokens, rows).beside_weights_bytes <= free_bytes
    )
    return next(fitting, 1)


def _runs(run: Callable[[], object]) -> bool:
    """Whether it runs without running out of memory, of which nothing is held by the error afterwards.

    Raises DeviceLostError where the device is gone, and anything else as it is.
    """
    try:
        run()
    except Exception as error:
        if is_device_lost(error):
            raise DeviceLostError(f"the GPU was lost: {first_line(error)}") from error
        explain_out_of_memory(error)
        return False
    return True
