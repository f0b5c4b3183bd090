"""Timed rounds that are passes over the whole sample, as of continuous batching and of servers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from summarybench.documents.prompts import Prompt
from summarybench.machine.telemetry import Telemetry
from summarybench.measure.generation import (
    Benchmark,
    GenerationRecord,
    Instruments,
    collect_new_garbage,
    collector_off,
)

Output = TypeVar("Output")


class Passes(ABC, Generic[Output]):
    """The state between passes: the output of the last one until it is recorded.

    `records` are the documents of the first pass, which are the ones that are scored. `on_record` gets each of them.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        instruments: Instruments,
        telemetry: Telemetry,
        on_record: Callable[[GenerationRecord], None],
    ) -> None:
        self.records: list[GenerationRecord] = []
        self.telemetry = telemetry
        self._prompts = prompts
        self._sample_host = instruments.sample_host
        self._host_sample: float | None = None
        self._on_record = on_record
        self._last: Output | None = None
        self._rounds_left = 0
        self._is_first = True

    def measure(self, benchmark: Benchmark, rounds: int) -> None:
        """Make so many timed passes, and record each. A profiler (--benchmark-cprofile) makes more, which are dropped."""
        self._rounds_left = rounds
        with collector_off():
            benchmark.pedantic(self._run, setup=self._prepare, rounds=rounds)
        self._record_last()

    def _prepare(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Untimed: record the previous pass. Returns the arguments of the next one."""
        self._record_last()
        collect_new_garbage()
        arguments = self._arguments()
        self._host_sample = self._sample_host()
        self.telemetry.before_round()
        return arguments, {}

    def _run(self, *arguments: Any) -> None:
        """The timed round. It scores and writes nothing."""
        self._last = self._pass(*arguments)

    def _record_last(self) -> None:
        """Untimed: record the last pass, unless it is recorded already or a profiler's."""
        if self._last is None or self._rounds_left == 0:
            return
        self._rounds_left -= 1
        self.telemetry.after_round()
        last, self._last = self._last, None
        records = self._record(last)
        if self._is_first:
            self._is_first, self.records = False, records
            for record in records:
                self._on_record(record)

    def _arguments(self) -> tuple[Any, ...]:
        """What a pass takes, made before it is timed."""
        return ()

    @abstractmethod
    def _pass(self, *arguments: Any) -> Output:
        """Summarize all documents once."""

    @abstractmethod
    def _record(self, output: Output) -> list[GenerationRecord]:
        """Keep the figures of a pass. Returns its documents."""
