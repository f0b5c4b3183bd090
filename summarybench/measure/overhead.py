"""Compares the harness with a bare loop around `model.generate`.

Both get the same prompts, interleaved A B B A in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from summarybench.core.numbers import percent
from summarybench.core.outcomes import JudgementError
from summarybench.documents.prompts import Prompt
from summarybench.engines.engine import OnFirstToken
from summarybench.engines.loaded_model import LoadedModel
from summarybench.machine.clock import Clock
from summarybench.measure.generation import Benchmark, GenerationRecord, Instruments, Measured, measure
from summarybench.runs.facts import LEAST_RATIO, _describe_ratios
from summarybench.runs.kind_records import OverheadRecord
from summarybench.stats.changes import WITHIN_ONE_PROCESS, Change, paired_change
from summarybench.stats.intervals import ALARM_CONFIDENCE
from summarybench.stats.timings import Timing, added_up
from summarybench.stats.typical_change import TypicalChange, typical_change

HARNESS, BARE = "harness", "bare"
ORDER = (HARNESS, BARE, BARE, HARNESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """The harness's tokens per second ÷ a bare loop's.

    `change` is over all tokens, `typical` for the typical document. A shared host delays a few documents by far more
    than the harness could cost. Such documents widen the interval of the first ratio and hardly move the second.
    """

    change: Change
    typical: TypicalChange

    def as_extra_info(self) -> OverheadRecord:
        """The key `overhead` of the run file.

        A bound is None where there are too few documents for it.
        """
        interval, typical = self.change.interval(), self.typical.interval()
        return {
            "ratio": self.change.ratio,
            "low": interval.low,
            "high": interval.high,
            "confidence": interval.confidence,
            "typical": {
                "ratio": self.typical.ratio,
                "low": typical.low if typical else None,
                "high": typical.high if typical else None,
                "confidence": interval.confidence,
                "lower_bound": self.typical.lower_bound(ALARM_CONFIDENCE),
                "bound_confidence": ALARM_CONFIDENCE,
                "documents": self.typical.documents,
            },
        }


class _Interleaved:
    """A model that generates in turn through the harness and bare.

    The bare calls are timed here, as a loop would. The first pass over a prompt of a new length also chooses kernels
    and allocates memory. It runs here, untimed, before the four rounds of each document: otherwise the harness, which
    comes first, would always pay for it.
    """

    def __init__(self, loaded: LoadedModel, clock: Clock, max_new_tokens: int) -> None:
        self.bare_seconds: list[float] = []
        self._loaded = loaded
        self._clock = clock
        self._max_new_tokens = max_new_tokens
        self._turns = cycle(ORDER)
        self._blocks = cycle(range(len(ORDER)))
        self._is_warm = False
        self.generated_ids = loaded.generated_ids
        self.decode = loaded.decode
        self.ends_by_itself = loaded.ends_by_itself

    def prepare(self, rows: Sequence[Sequence[int]]) -> Any:
        prepared = self._loaded.prepare(rows)
        if self._is_warm and next(self._blocks) == 0:
            self._loaded.generate_bare(prepared, self._max_new_tokens)
        return prepared

    def generate(self, prepared: Any, max_new_tokens: int, on_first_token: OnFirstToken) -> Any:
        if not self._is_warm:
            self._is_warm = True
            return self._loaded.generate(prepared, max_new_tokens, on_first_token)
        if next(self._turns) == HARNESS:
            return self._loaded.generate(prepared, max_new_tokens, on_first_token)
        start = self._clock()
        output = self._loaded.generate_bare(prepared, max_new_tokens)
        seconds = self._clock() - start
        on_first_token()
        self.bare_seconds.append(seconds)
        return output


def compare_with_bare_loop(
    benchmark: Benchmark,
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    instruments: Instruments,
    on_record: Callable[[GenerationRecord], None],
) -> tuple[Overhead, Measured]:
    """Compare the harness's speed with the bare loop's.

    The measurement that is returned is the harness's, with one record for each document.
    """
    model = _Interleaved(loaded, instruments.clock, max_new_tokens)
    everything = measure(
        benchmark,
        model,
        [prompt for prompt in prompts for _ in ORDER],
        max_new_tokens=max_new_tokens,
        instruments=instruments,
        on_record=lambda _: None,
    )
    sides: dict[str, list[GenerationRecord]] = {HARNESS: [], BARE: []}
    for record, side in zip(everything.records, cycle(ORDER), strict=False):
        sides[side].append(record)
    first_of_each = sides[HARNESS][::2]
    for record in first_of_each:
        on_record(record)
    harness = [Timing(tokens=record.generated_tokens, seconds=record.seconds) for record in sides[HARNESS]]
    bare = [
        Timing(tokens=record.generated_tokens, seconds=seconds)
        for record, seconds in zip(sides[BARE], model.bare_seconds[: len(sides[BARE])], strict=True)
    ]
    found = Overhead(
        change=paired_change(pairs(harness), pairs(bare), WITHIN_ONE_PROCESS),
        typical=typical_change(pairs(harness), pairs(bare)),
    )
    return found, replace(everything, records=tuple(first_of_each))


def pairs(timings: Sequence[Timing]) -> list[Timing]:
    """A document's two passes added up: the order A B B A cancels a steady drift."""
    return added_up([timings[::2], timings[1::2]])


def assert_harness_costs_nothing(
    overhead: Overhead,
    where_to_look: str = "look at what `LoadedModel.generate` does that `generate_bare` does not",
) -> None:
    """Check that the harness keeps 99% of the bare loop's tokens per second.

    Raises JudgementError where the upper bound of either ratio is below that.
    """
    upper_bounds = overhead.change.upper_bound(ALARM_CONFIDENCE), overhead.typical.upper_bound(ALARM_CONFIDENCE)
    if any(bound is not None and bound < LEAST_RATIO for bound in upper_bounds):
        raise JudgementError(
            f"the harness keeps less than {LEAST_RATIO} of a bare loop's tok/s: "
            f"{_describe_ratios(overhead.as_extra_info())}; a one-sided {percent(ALARM_CONFIDENCE)} upper bound of either "
            f"below {LEAST_RATIO} fails; {where_to_look}"
        )
