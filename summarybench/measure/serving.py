"""Rounds of requests to a served model. Each timed round is one pass over the whole sample under one load."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from summarybench.core.outcomes import RequestsFailedError
from summarybench.documents.prompts import Prompt
from summarybench.engines.server.answers import Completion
from summarybench.engines.server.process import ServerProcess
from summarybench.engines.server.served_model import ServedModel, fresh_salt
from summarybench.machine.probes import as_extra_info as probes_as_extra_info
from summarybench.machine.telemetry import Monitor, Reading, Telemetry
from summarybench.measure.generation import (
    Benchmark,
    GenerationRecord,
    Instruments,
    Measured,
    WarmUp,
)
from summarybench.measure.load import (
    Concurrency,
    Failure,
    Load,
    answered_of,
    round_seconds,
    send_all,
)
from summarybench.measure.long_documents import Conversation, EarlierCalls
from summarybench.measure.passes import Passes

Answer = Completion | Failure

DEATH_SECONDS = 2.0
"""How long after a failed request a server may take to be known as dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadByServer(Completion):
    """The last request of a document that was read in several. It starts with the first one, and has the cached tokens of all."""

    earlier: EarlierCalls


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One timed round: the answers in the order of the prompts, and the CPU time of this process meanwhile.

    It lasts from the first request sent until the last answer.
    """

    answers: tuple[Answer, ...]
    client_cpu_seconds: float = 0.0

    @property
    def completions(self) -> list[Completion]:
        return answered_of(self.answers)

    @property
    def failures(self) -> list[Failure]:
        return [each for each in self.answers if isinstance(each, Failure)]

    @property
    def seconds(self) -> float:
        return round_seconds(self.answers)

    @property
    def generated_tokens(self) -> int:
        return sum(each.generated_tokens for each in self.completions)


def measure_served(
    benchmark: Benchmark,
    model: ServedModel,
    prompts: Sequence[Prompt],
    load: Load,
    *,
    max_new_tokens: int,
    rounds: int,
    instruments: Instruments,
    on_record: Callable[[GenerationRecord], None],
) -> tuple[Measured, tuple[Round, ...]]:
    """Send all prompts under this load, `rounds` times; each time is one timed round.

    `on_record` gets the documents of the first round, which are the ones that are scored. Failed requests are part of
    their round. Raises RequestsFailedError where a round has no answer at all.
    """
    monitor = ServerMonitor(instruments.monitor, model.before_launch)
    probes_before = instruments.probe_machine()
    state = _Rounds(model, prompts, load, max_new_tokens, instruments, Telemetry(monitor), on_record)
    warm_up_seconds = state.warm_up()
    instruments.on_warm_up(WarmUp(seconds=warm_up_seconds, warmed_rounds=0, rounds=rounds))
    state.measure(benchmark, rounds)
    measured = Measured(
        records=tuple(state.records),
        peak_memory_bytes=monitor.peak_memory_bytes(model.process),
        telemetry=state.telemetry.summary(),
        machine_probes=probes_as_extra_info(probes_before, instruments.probe_machine()),
        generated_tokens=sum(each.generated_tokens for each in state.rounds),
    )
    return measured, tuple(state.rounds)


def pass_over(
    model: ServedModel, prompts: Sequence[Prompt], load: Load, max_new_tokens: int, *, server: int | None = None
) -> list[Answer]:
    """Send each prompt once under this load. The servers of a fleet take turns, unless one of them is named."""
    salt = fresh_salt()

    async def send_one(numbered: tuple[int, Prompt]) -> Completion:
        number, prompt = numbered
        address = number if server is None else server
        return await _read(prompt, lambda call: model.answer(call, max_new_tokens, server=address, salt=salt))

    return model.connections.run(send_all(list(enumerate(prompts)), send_one, load))


async def _read(prompt: Prompt, ask: Callable[[Prompt], Awaitable[Completion]]) -> Completion:
    """The answer to a document's last call. Its calls follow each other, so that a document has one request in flight."""
    if prompt.reading is None:
        return await ask(prompt)
    conversation, start_seconds, cached_tokens = Conversation(prompt), None, 0
    while True:
        texts = []
        for call in conversation.pending:
            found = await ask(replace(prompt, token_ids=call.token_ids, message=call.message, reading=None))
            start_seconds = found.start_seconds if start_seconds is None else start_seconds
            cached_tokens += found.cached_tokens
            if call.is_last:
                whole = {**_fields_of(found), "start_seconds": start_seconds, "cached_tokens": cached_tokens}
                return ReadByServer(**whole, earlier=conversation.earlier)
            conversation.count(found.prompt_tokens, found.generated_tokens)
            texts.append(found.text.strip())
        conversation.answer(texts)


def _fields_of(found: Completion) -> dict[str, Any]:
    return {field.name: getattr(found, field.name) for field in fields(found)}


class _Rounds(Passes[Round]):
    """Passes under one load."""

    def __init__(
        self,
        model: ServedModel,
        prompts: Sequence[Prompt],
        load: Load,
        max_new_tokens: int,
        instruments: Instruments,
        telemetry: Telemetry,
        on_record: Callable[[GenerationRecord], None],
    ) -> None:
        super().__init__(prompts, instruments, telemetry, on_record)
        self.rounds: list[Round] = []
        self._model = model
        self._load = load
        self._max_new_tokens = max_new_tokens
        self._clock = instruments.clock.of_host

    def warm_up(self) -> float:
        """Send as many documents as are in flight at once, the longest among them. Returns the seconds."""
        in_flight = self._load.in_flight if isinstance(self._load, Concurrency) else 1
        longest_first = sorted(self._prompts, key=lambda prompt: -len(prompt.token_ids))
        start = self._clock()
        self._send(longest_first[:in_flight])
        return self._clock() - start

    def _pass(self) -> Round:
        start = time.process_time()
        answers = self._send(self._prompts)
        return Round(answers=tuple(answers), client_cpu_seconds=time.process_time() - start)

    def _send(self, prompts: Sequence[Prompt]) -> list[Answer]:
        return pass_over(self._model, prompts, self._load, self._max_new_tokens)

    def _record(self, output: Round) -> list[GenerationRecord]:
        if not output.completions:
            where = f" of round {len(self.rounds) + 1}" if self.rounds else ""
            first = next((each for each in self.rounds if each.failures), output)
            reason = why_failed(first.answers, self._model)
            raise RequestsFailedError(f"all {len(output.answers)} requests{where} failed: {reason}")
        self.rounds.append(output)
        pairs = zip(self._prompts, output.answers, strict=True)
        return [record_of(prompt, each, self._host_sample) for prompt, each in pairs if not isinstance(each, Failure)]


def record_of(prompt: Prompt, answer: Completion, host_sample: float | None) -> GenerationRecord:
    """One answered document, as it is journalled and scored."""
    earlier = answer.earlier if isinstance(answer, ReadByServer) else EarlierCalls()
    return GenerationRecord(
        document_id=prompt.document.id,
        document_tokens=min(prompt.document_tokens, earlier.prompt_tokens + answer.prompt_tokens),
        prompt_tokens=answer.prompt_tokens,
        generated_tokens=answer.generated_tokens,
        truncated=prompt.truncated,
        unread_tokens=prompt.unread_tokens,
        **earlier.as_record(),
        hit_cap=answer.finish_reason == "length",
        start_seconds=answer.start_seconds,
        first_token_seconds=answer.first_token_seconds,
        end_seconds=answer.end_seconds,
        summary=answer.text.strip(),
        host_rate_per_second=host_sample,
    )


def why_failed(answers: Sequence[Answer], model: ServedModel) -> str | None:
    """Why the first request of a pass failed: the server's end, if it has ended. None if no request failed."""
    reason = next((each.reason for each in answers if isinstance(each, Failure)), None)
    died = model.process.why_dead(DEATH_SECONDS) if reason is not None and model.process else ""
    return died or reason


# The device of the server -----------------------------------------------------------------------------------------

ELSEWHERE = "not measured: the suite did not start the server"


class ServerMonitor:
    """Telemetry of the device of a server that the suite has started: the server's processes are not foreign ones.

    `before_launch` is a reading from before the server was started; None for a server that somebody else started, whose
    device may be any. Make the monitor when the server is ready.
    """

    def __init__(self, monitor: Monitor, before_launch: Reading | None) -> None:
        self._monitor = monitor
        self._before = before_launch
        self._server_processes = 0 if before_launch is None else _added_processes(before_launch, monitor.read())
        self._most_used_bytes: int | None = None
        self.note = ELSEWHERE if before_launch is None else monitor.note

    def note_before_context(self) -> None:
        """The session has done that."""

    def read(self) -> Reading:
        found = self._monitor.read()
        if self._before is None:
            return Reading(seconds=found.seconds)
        if found.memory_used_bytes is not None:
            self._most_used_bytes = max(found.memory_used_bytes, self._most_used_bytes or 0)
        if found.foreign_processes is None:
            return found
        return replace(found, foreign_processes=max(0, found.foreign_processes - self._server_processes))

    def close(self) -> None:
        """The session closes the monitor."""

    def peak_memory_bytes(self, process: ServerProcess | None) -> int | None:
        """The server's memory: on a GPU what was in use at the edge of a round and not before the launch.

        On a CPU it is that of its processes. None where the suite did not start the server.
        """
        if self._before is None or process is None:
            return None
        if self._most_used_bytes is None or self._before.memory_used_bytes is None:
            return process.peak_memory_bytes() or None
        return max(self._most_used_bytes - self._before.memory_used_bytes, 1)


def _added_processes(before: Reading, now: Reading) -> int:
    return max(0, (now.foreign_processes or 0) - (before.foreign_processes or 0))
