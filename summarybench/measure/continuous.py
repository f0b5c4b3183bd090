"""Continuous batching: all documents are submitted at once.

Each timed round is one pass over the whole sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from operator import ne

from summarybench.analysis.utilization import cache_tokens_read
from summarybench.core.outcomes import RequestsFailedError
from summarybench.documents.prompts import Prompt
from summarybench.engines.engine import ConcurrentEngine, Limits, RequestResult, TextGenerator
from summarybench.machine.probes import as_extra_info as probes_as_extra_info
from summarybench.machine.telemetry import Telemetry
from summarybench.measure.generation import (
    Benchmark,
    GenerationRecord,
    Instruments,
    Measured,
    WarmUp,
    translate_device_errors,
)
from summarybench.measure.long_documents import Conversation, ReadAtOnce, conversations_of, run_at_once
from summarybench.measure.passes import Passes
from summarybench.runs.journal_lines import Record

WARM_UP_TOKENS = 2
"""Enough for a step with all prompts, which makes the peak of memory, and for a step that only decodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One timed round: one pass over the whole sample.

    It lasts from the submission until the last document is finished. `changed_summaries` counts the documents whose
    summary differs from the first round's, `cache_tokens` the cached tokens that decoding read, in all calls.
    """

    seconds: float
    generated_tokens: int
    steps: int
    changed_summaries: int
    cache_tokens: int

    def as_record(self) -> Record:
        """The round as the run file keeps it."""
        return {name: value for name, value in asdict(self).items() if name != "cache_tokens"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    results: list[ReadAtOnce]
    start: float
    end: float
    steps: int


# Measuring -------------------------------------------------------------------------------------------------------


def measure_at_once(
    benchmark: Benchmark,
    model: TextGenerator,
    prompts: Sequence[Prompt],
    *,
    start: Callable[[], ConcurrentEngine],
    rounds: int,
    max_new_tokens: int,
    instruments: Instruments,
    on_record: Callable[[GenerationRecord], None],
) -> tuple[Measured, ConcurrentEngine, tuple[Round, ...]]:
    """Summarize all prompts at once, `rounds` times; each time is one timed round.

    `on_record` gets the documents of the first round, which are the ones that are scored. The engine is closed here once
    `start` has returned it; the machine is probed before that. Raises as `measure`, and RequestsFailedError where a document
    was not summarized.
    """
    with translate_device_errors(instruments.device):
        probes_before = instruments.probe_machine()
        start_seconds = instruments.clock()
        engine = start()
        try:
            engine.run(
                [call.token_ids for prompt in prompts for call in prompt.first_calls],
                min(WARM_UP_TOKENS, max_new_tokens),
            )
            warm_up_seconds = instruments.clock() - start_seconds
            instruments.on_warm_up(WarmUp(seconds=warm_up_seconds, warmed_rounds=0, rounds=rounds))
            instruments.device.reset_peak_memory()
            telemetry = Telemetry(instruments.monitor)
            state = _Rounds(engine, model, prompts, max_new_tokens, instruments, telemetry, on_record)
            state.measure(benchmark, rounds)
            peak_bytes = instruments.device.peak_memory_bytes()  # before the probes, which allocate
        finally:
            engine.close()
        measured = Measured(
            records=tuple(state.records),
            peak_memory_bytes=peak_bytes,
            telemetry=telemetry.summary(),
            machine_probes=probes_as_extra_info(probes_before, instruments.probe_machine()),
            generated_tokens=sum(each.generated_tokens for each in state.rounds),
        )
    return measured, engine, tuple(state.rounds)


class _Rounds(Passes[_Output]):
    """Passes through one engine."""

    def __init__(
        self,
        engine: ConcurrentEngine,
        model: TextGenerator,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        instruments: Instruments,
        telemetry: Telemetry,
        on_record: Callable[[GenerationRecord], None],
    ) -> None:
        super().__init__(prompts, instruments, telemetry, on_record)
        self.rounds: list[Round] = []
        self._first_summaries: list[str] = []
        self._engine = engine
        self._model = model
        self._max_new_tokens = max_new_tokens
        self._clock = instruments.clock

    def _arguments(self) -> tuple[list[Conversation]]:
        return (conversations_of(self._prompts),)

    def _pass(self, conversations: list[Conversation]) -> _Output:
        """It decodes only what later calls are asked about."""
        steps = self._engine.steps
        start = self._clock()
        results = run_at_once(self._engine, conversations, self._max_new_tokens, self._model.decode)
        end = self._clock()
        return _Output(results=results, start=start, end=end, steps=self._engine.steps - steps)

    def _record(self, output: _Output) -> list[GenerationRecord]:
        self._check_not_cut_short([result for each in output.results for _, result in each.requests])
        records = [self._document(*each, output.start) for each in zip(self._prompts, output.results, strict=True)]
        summaries = [record.summary for record in records]
        self._first_summaries = self._first_summaries or summaries
        self.rounds.append(
            Round(
                seconds=output.end - output.start,
                generated_tokens=sum(record.generated_tokens for record in records),
                steps=output.steps,
                changed_summaries=sum(map(ne, summaries, self._first_summaries)),
                cache_tokens=sum(
                    cache_tokens_read([prompt_tokens], [len(result.generated_tokens)])
                    for each in output.results
                    for prompt_tokens, result in each.requests
                ),
            )
        )
        return records

    def _check_not_cut_short(self, results: Sequence[RequestResult]) -> None:
        short = [each for each in results if not (self._is_whole(each.generated_tokens))]
        if short:
            raise RequestsFailedError(
                f"{len(short)} of {len(results)} requests stopped before the token limit without an end token, the first "
                f"after {len(short[0].generated_tokens)} of {self._max_new_tokens} tokens"
            )

    def _is_whole(self, generated: Sequence[int]) -> bool:
        return len(generated) == self._max_new_tokens or self._model.ends_by_itself(generated)

    def _document(self, prompt: Prompt, read: ReadAtOnce, start: float) -> GenerationRecord:
        result, generated = read.last, read.last.generated_tokens
        return GenerationRecord(
            document_id=prompt.document.id,
            document_tokens=prompt.document_tokens,
            prompt_tokens=read.prompt_tokens,
            generated_tokens=len(generated),
            truncated=prompt.truncated,
            unread_tokens=prompt.unread_tokens,
            **read.earlier.as_record(),
            hit_cap=not self._model.ends_by_itself(generated),
            start_seconds=start,
            first_token_seconds=result.timestamps[0],
            end_seconds=result.lifespan[1],
            summary=self._model.decode(generated),
            host_rate_per_second=self._host_sample,
        )


# The run file ----------------------------------------------------------------------------------------------------


def as_extra_info(
    measured: Measured,
    rounds: Sequence[Round],
    limits: Limits,
    *,
    weights_read_bytes: int,
    cache_bytes_per_token: int,
    copy_bandwidth: float | None,
) -> Record:
    """The keys of a run file that are figures of whole rounds.

    They replace or add to the keys of other kinds. `model_bandwidth_utilization` counts the weights as read once per
    step, and the cache of each document, which is not padded, once per token after its first. Prompts and summaries
    share steps, so the speed of decoding alone is unknown.
    """
    seconds = fsum(each.seconds for each in rounds)
    documents = len(measured.records) * len(rounds)
    document_tokens = sum(record.document_tokens for record in measured.records) * len(rounds)
    steps, cache_tokens = sum(each.steps for each in rounds), sum(each.cache_tokens for each in rounds)
    read_bytes = weights_read_bytes * steps + cache_bytes_per_token * cache_tokens
    return {
        "generated_tokens_per_second": measured.generated_tokens / seconds,
        "decode_tokens_per_second": None,
        "document_tokens_per_second": document_tokens / seconds,
        "documents_per_second": documents / seconds,
        "model_bandwidth_utilization": None if copy_bandwidth is None else read_bytes / seconds / copy_bandwidth,
        "predicted_memory_bytes": limits.predicted.total_bytes,
        "finish_seconds": [record.seconds for record in measured.records],
        "continuous": {
            "rounds": [each.as_record() for each in rounds],
            "requests_in_flight": limits.requests,
            "page_tokens": limits.page_tokens,
            "pages": limits.pages,
            "step_tokens": limits.step_tokens,
        },
    }
