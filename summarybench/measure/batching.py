"""Batch sizes and memory.

Which sizes are tried, and which is the largest one that is predicted to fit and runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil
from typing import Any

from summarybench.catalogue.models import Experiment
from summarybench.core.device_errors import explain_out_of_memory, is_device_lost
from summarybench.core.numbers import gib
from summarybench.core.outcomes import BatchTooLargeError, DeviceLostError, DeviceMemoryError, first_line
from summarybench.documents.prompts import Prompt
from summarybench.engines.engine import BatchEngine, note_nothing
from summarybench.engines.memory_model import MemoryPrediction
from summarybench.machine.device import Device

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
LARGEST_BATCH_SIZE, LARGEST_BATCH_SIZE_ON_A_CPU = 256, 8
"""The largest batch sizes that are ever tried."""


@contextmanager
def hold_in_memory(
    experiment: Experiment, prediction: MemoryPrediction, device: Device, *, predict: bool
) -> Iterator[None]:
    """Release memory before a measurement in batches, and judge a lack of it.

    Raises BatchTooLargeError for a batch that is predicted not to fit beside the weights: with `predict` before it is
    tried, otherwise when it has run out of memory. A batch that was predicted to fit keeps its DeviceMemoryError.
    """
    device.release_memory()
    free_bytes = device.free_memory_bytes()
    fits = experiment.batch_size == 1 or prediction.beside_weights_bytes <= free_bytes
    if not fits and predict:
        raise BatchTooLargeError(
            f"out of memory (predicted): {prediction}, and {gib(free_bytes)} GiB are free beside the weights; "
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
    """The largest batch of the longest prompts that ran.

    `predicted_batch_size` is the largest one that was predicted to fit. `tries` has each batch size that was tried and
    whether it ran, in order.
    """

    batch_size: int
    predicted_batch_size: int
    tries: tuple[tuple[int, bool], ...]

    def as_extra_info(self) -> dict[str, Any]:
        """The keys of the run file."""
        return {
            "largest_safe_batch": self.batch_size,
            "predicted_largest_batch": self.predicted_batch_size,
            "batch_tries": [list(each) for each in self.tries],
        }


def even_batch_size(model: BatchEngine, sequence_tokens: int, documents: int, device: Device) -> int:
    """The size of the fewest even batches that are predicted to fit in memory.

    A last batch of a few documents would take as long as a full one. On a GPU the size is at most the largest of
    BATCH_SIZES, so that a verdict has several batches to compare; on a CPU at most the largest size that is ever tried.
    """
    _begin_clean(model, device)
    most = _largest_predicted(model, sequence_tokens, device, max(BATCH_SIZES))
    return ceil(documents / ceil(documents / most))


def find_largest_batch(
    model: BatchEngine, prompts: Sequence[Prompt], max_new_tokens: int, device: Device
) -> LargestBatch:
    """Try the largest batch size that is predicted to fit.

    Where memory runs out, bisect. accelerate's find_executable_batch_size only ever shrinks, so it stops at the first
    size that runs. Raises DeviceMemoryError where not even one prompt runs.
    """
    longest_first = sorted((prompt.token_ids for prompt in prompts), key=len, reverse=True)
    _begin_clean(model, device)
    predicted = _largest_predicted(model, len(longest_first[0]) + max_new_tokens, device, LARGEST_BATCH_SIZE)
    tries: list[tuple[int, bool]] = []

    def runs(batch_size: int) -> bool:
        batch = list(islice(cycle(longest_first), batch_size))
        ran = _runs(lambda: model.generate(model.prepare(batch), max_new_tokens, note_nothing))
        if not ran:
            model.resize(0)  # the decoder that was compiled for this size still holds its memory
        device.release_memory()
        tries.append((batch_size, ran))
        return ran

    batch_size = largest(predicted, runs)
    if not batch_size:
        raise DeviceMemoryError("out of memory while generating: the longest prompt does not even run alone")
    return LargestBatch(batch_size=batch_size, predicted_batch_size=predicted, tries=tuple(tries))


def largest(first: int, runs: Callable[[int], bool]) -> int:
    """The largest number up to `first` that runs, by bisection; 0 where none runs.

    `first` is tried first.
    """
    if runs(first):
        return first
    below, above = 0, first
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if runs(middle) else (below, middle)
    return below


def _begin_clean(model: BatchEngine, device: Device) -> None:
    """Release the memory of earlier batches and of their compiled decoders."""
    model.resize(0)
    device.release_memory()


def _largest_predicted(model: BatchEngine, sequence_tokens: int, device: Device, largest_worth_trying: int) -> int:
    """At least 1: loading the model has already shown that one document fits."""
    free_bytes = device.free_memory_bytes()
    most = largest_worth_trying if device.gains_from_large_batches else LARGEST_BATCH_SIZE_ON_A_CPU
    fitting = (
        batch_size
        for batch_size in range(most, 0, -1)
        if model.memory_for(sequence_tokens, batch_size).beside_weights_bytes <= free_bytes
    )
    return next(fitting, 1)


def _runs(run: Callable[[], object]) -> bool:
    """Whether it runs without running out of memory.

    The error of a failed run does not outlive this call. Raises DeviceLostError where the device is lost, and any other
    error as it is.
    """
    try:
        run()
    except Exception as error:
        if is_device_lost(error):
            raise DeviceLostError(f"the GPU was lost: {first_line(error)}") from error
        explain_out_of_memory(error)
        return False
    return True
