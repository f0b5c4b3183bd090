"""Compares the suite's client with a bare streaming loop, request by request, and measures its CPU time under load."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from statistics import median
from typing import Any

from summarybench.core.numbers import decimal
from summarybench.core.outcomes import JudgementError
from summarybench.documents.prompts import Prompt
from summarybench.engines.server.answers import Completion
from summarybench.engines.server.bare_stream import BareAnswer, BareStream
from summarybench.engines.server.served_model import ServedModel, fresh_salt
from summarybench.machine.probes import as_extra_info as probes_as_extra_info
from summarybench.machine.telemetry import Telemetry
from summarybench.measure.generation import Benchmark, GenerationRecord, Instruments, Measured, WarmUp, collector_off
from summarybench.measure.load import Answered, Concurrency, answered_of, round_seconds, send_all
from summarybench.measure.overhead import BARE, HARNESS, ORDER, Overhead, assert_harness_costs_nothing, pairs
from summarybench.measure.serving import ServerMonitor, record_of, why_failed
from summarybench.runs.kind_records import ServedOverheadRecord
from summarybench.stats.changes import WITHIN_ONE_PROCESS, paired_change
from summarybench.stats.intervals import ALARM_CONFIDENCE
from summarybench.stats.timings import Timing
from summarybench.stats.typical_change import TypicalChange, typical_change

ALLOWED_SECONDS, ALLOWED_SHARE = 0.001, 0.01
"""How much later than the bare loop the client may see a first token."""
IN_FLIGHT = 256
WHERE_TO_LOOK = "look at what `ServerClient` does with each part of a stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedOverhead:
    """The client's tokens per second ÷ those of a bare loop, and how much later it sees the first token.

    `first_token` is the time that is allowed ÷ the client's, in the typical document: below 1 is too late. `cpu_share` is
    the client's CPU time ÷ duration with 256 requests in flight, None where that was not measured. `load_failure` is why
    the first of those requests failed where none of them was answered, and empty otherwise.
    """

    speed: Overhead
    first_token: TypicalChange
    first_token_seconds: float
    bare_first_token_seconds: float
    cpu_share: float | None = None
    load_failure: str = ""

    def as_record(self) -> ServedOverheadRecord:
        return {
            "first_token_seconds": self.first_token_seconds,
            "bare_first_token_seconds": self.bare_first_token_seconds,
            "client_cpu_share": self.cpu_share,
        }


class _Interleaved:
    """Sends each document four times: by the client, twice by the bare loop, and by the client again.

    With --benchmark-cprofile, a profiler runs further turns after the last one. They repeat the last turn, and their answers are
    not kept.
    """

    def __init__(self, model: ServedModel, bare: BareStream, prompts: Sequence[Prompt], max_new_tokens: int) -> None:
        self.answers: dict[str, list[Completion | BareAnswer]] = {HARNESS: [], BARE: []}
        self._model = model
        self._bare = bare
        self._max_new_tokens = max_new_tokens
        self._turns = [(prompt, side) for prompt in prompts for side in ORDER]

    @property
    def _finished(self) -> int:
        return sum(map(len, self.answers.values()))

    def next_turn(self) -> tuple[tuple[Prompt, str], dict[str, Any]]:
        return self._turns[min(self._finished, len(self._turns) - 1)], {}

    def send(self, prompt: Prompt, side: str) -> None:
        salt = fresh_salt()
        if side == HARNESS:
            answer: Completion | BareAnswer = self._model.connections.run(
                self._model.answer(prompt, self._max_new_tokens, salt=salt)
            )
        else:
            answer = self._bare.send(self._model.request(prompt, self._max_new_tokens, salt=salt))
        if self._finished < len(self._turns):
            self.answers[side].append(answer)


def compare_with_bare_stream(
    benchmark: Benchmark,
    model: ServedModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    instruments: Instruments,
    on_record: Callable[[GenerationRecord], None],
    is_loaded: bool,
) -> tuple[ServedOverhead, Measured]:
    """Compare the client with a bare loop; the measurement that is returned is the client's.

    With `is_loaded`, its CPU time is measured too, with 256 requests in flight. Raises ServerError where a request fails.
    """
    target = model.target
    bare = BareStream(target.addresses[0], target.api_key, silence_seconds=target.silence_seconds)
    monitor = ServerMonitor(instruments.monitor, model.before_launch)
    telemetry = Telemetry(monitor)
    try:
        start = instruments.clock()
        _Interleaved(model, bare, prompts[:1], max_new_tokens).send(prompts[0], HARNESS)
        bare.send(model.request(prompts[0], max_new_tokens, salt=fresh_salt()))
        warm_up_seconds = instruments.clock() - start
        rounds = len(prompts) * len(ORDER)
        instruments.on_warm_up(WarmUp(seconds=warm_up_seconds, warmed_rounds=0, rounds=rounds))
        state = _Interleaved(model, bare, prompts, max_new_tokens)
        telemetry.before_round()
        with collector_off():
            benchmark.pedantic(state.send, setup=state.next_turn, rounds=rounds)
        telemetry.after_round()
    finally:
        bare.close()
    client = [each for each in state.answers[HARNESS] if isinstance(each, Completion)]
    records = [record_of(*each, None) for each in zip(prompts, client[::2], strict=True)]
    for record in records:
        on_record(record)
    measured = Measured(
        records=tuple(replace(record, batch=number) for number, record in enumerate(records)),
        peak_memory_bytes=monitor.peak_memory_bytes(model.process),
        telemetry=telemetry.summary(),
        machine_probes=probes_as_extra_info({}, {}),
        generated_tokens=sum(each.generated_tokens for side in state.answers.values() for each in side),
    )
    cpu_share, load_failure = _cpu_share(model, prompts, max_new_tokens) if is_loaded else (None, "")
    found = _overhead(client, state.answers[BARE])
    return replace(found, cpu_share=cpu_share, load_failure=load_failure), measured


def _overhead(client: Sequence[Answered], bare: Sequence[Answered]) -> ServedOverhead:
    harness, plain = pairs(_timings(client)), pairs(_timings(bare))
    first, plain_first = ([_first_token(each) for each in side] for side in (client, bare))
    allowed = [ALLOWED_SECONDS + (1 + ALLOWED_SHARE) * seconds for seconds in plain_first]
    return ServedOverhead(
        speed=Overhead(
            change=paired_change(harness, plain, WITHIN_ONE_PROCESS), typical=typical_change(harness, plain)
        ),
        first_token=typical_change(pairs(_one_token_each(first)), pairs(_one_token_each(allowed))),
        first_token_seconds=median(first),
        bare_first_token_seconds=median(plain_first),
    )


def _timings(answers: Sequence[Answered]) -> list[Timing]:
    return [Timing(tokens=each.generated_tokens, seconds=each.end_seconds - each.start_seconds) for each in answers]


def _one_token_each(seconds: Sequence[float]) -> list[Timing]:
    return [Timing(tokens=1, seconds=each) for each in seconds]


def _first_token(answer: Answered) -> float:
    return answer.first_token_seconds - answer.start_seconds


def _cpu_share(model: ServedModel, prompts: Sequence[Prompt], max_new_tokens: int) -> tuple[float | None, str]:
    """CPU time of this process ÷ duration, with 256 requests in flight; None, and why, where none is answered."""
    salt = fresh_salt()

    async def send_one(prompt: Prompt) -> Completion:
        return await model.answer(prompt, max_new_tokens, salt=salt)

    many = list(islice(cycle(prompts), 2 * IN_FLIGHT))
    start = time.process_time()
    answers = model.connections.run(send_all(many, send_one, Concurrency(in_flight=IN_FLIGHT)))
    cpu_seconds = time.process_time() - start
    if not answered_of(answers):
        return None, why_failed(answers, model) or ""
    return cpu_seconds / round_seconds(answers), ""


def assert_client_costs_nothing(overhead: ServedOverhead) -> None:
    """Check that the client keeps 99% of the bare loop's tokens per second, and sees first tokens within 1 ms + 1%.

    Raises JudgementError where either is shown not to hold.
    """
    assert_harness_costs_nothing(overhead.speed, WHERE_TO_LOOK)
    bound = overhead.first_token.upper_bound(ALARM_CONFIDENCE)
    if bound is not None and bound < 1:
        raise JudgementError(
            f"the client sees the first token after {decimal(overhead.first_token_seconds * 1000, 2)} ms, a bare loop after "
            f"{decimal(overhead.bare_first_token_seconds * 1000, 2)} ms, and 1 ms + 1% more is allowed; {WHERE_TO_LOOK}"
        )
