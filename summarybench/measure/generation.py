"""Warm-up, the timed rounds, and their records.

The only caller of `benchmark.pedantic` for single documents and batches.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from summarybench.core.device_errors import explain_out_of_memory, is_device_lost
from summarybench.core.outcomes import DeviceLostError, DeviceMemoryError, InputError, first_line
from summarybench.documents.document import Document
from summarybench.documents.long_documents import Room, prompt_for
from summarybench.documents.prompts import INSTRUCTION, Prompt, message_with
from summarybench.documents.strategy import Strategy
from summarybench.engines.engine import ChatFormat, TextGenerator, note_nothing
from summarybench.machine.clock import Clock
from summarybench.machine.device import Device
from summarybench.machine.probes import ProbeReadings
from summarybench.machine.probes import as_extra_info as probes_as_extra_info
from summarybench.machine.telemetry import Monitor, Telemetry, TelemetrySummary
from summarybench.measure.long_documents import reader_for

SHORTEST_DOCUMENT = "a"
"""One token, with which a prompt is as short as one can be."""


class Benchmark(Protocol):
    """The part of pytest-benchmark's fixture that measuring uses."""

    def pedantic(self, target: Callable[..., Any], *, setup: Callable[[], Any], rounds: int) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRecord:
    """The raw facts of one timed document.

    Seconds are readings of the session's only clock. `batch` is the number of its round, which had `rows` documents;
    the readings are the round's. `generated_tokens` counts the end token but no padding. `hit_cap` says that the token
    limit cut off the summary. `host_rate_per_second` is the host probe sample taken just before the round, None where
    none was taken.

    A document that was read in several calls states its last call, whose answer is the summary: its prompt, its tokens and its
    first token. The tokens of the `earlier_calls` are counted apart. `unread_tokens` of the document were cut off.

    Raises ValueError for times and counts that are impossible.
    """

    document_id: str
    document_tokens: int
    prompt_tokens: int
    generated_tokens: int
    truncated: bool
    hit_cap: bool
    start_seconds: float
    first_token_seconds: float
    end_seconds: float
    summary: str
    host_rate_per_second: float | None = None
    batch: int = 0
    rows: int = 1
    unread_tokens: int = 0
    earlier_calls: int = 0
    earlier_prompt_tokens: int = 0
    earlier_generated_tokens: int = 0

    def __post_init__(self) -> None:
        if not self.start_seconds < self.first_token_seconds <= self.end_seconds:
            raise ValueError(
                f"impossible times: start {self.start_seconds}, first token {self.first_token_seconds}, end {self.end_seconds}"
            )
        prompt_tokens = self.earlier_prompt_tokens + self.prompt_tokens
        if self.generated_tokens < 1 or not 0 < self.document_tokens <= prompt_tokens:
            raise ValueError(
                f"impossible counts: {self.generated_tokens} generated, "
                f"{self.document_tokens} of {prompt_tokens} prompt tokens the document's"
            )

    @property
    def round_key(self) -> tuple[int, str]:
        """Equal for all documents of one round.

        A document alone is a round, whatever its number.
        """
        return self.batch, self.document_id if self.rows == 1 else ""

    @property
    def round_seconds(self) -> float:
        return self.end_seconds - self.start_seconds

    @property
    def seconds(self) -> float:
        """The document's share of its round: the round's seconds ÷ its rows."""
        return self.round_seconds / self.rows

    @property
    def decode_seconds(self) -> float:
        """The document's share of the seconds after the round's first token."""
        return (self.end_seconds - self.first_token_seconds) / self.rows

    @property
    def summary_sha256(self) -> str:
        return hashlib.sha256(self.summary.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """The warm-up that has just ended.

    `warmed_rounds` is how many rounds it ran untimed, `rounds` how many timed ones follow. The former is 0 where
    the warm-up did something else, so that it allows no estimate of the timed rounds.
    """

    seconds: float
    warmed_rounds: int
    rounds: int


def ignore_warm_up(_: WarmUp) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What a measurement is made with.

    `monitor` reads the device's telemetry between rounds. `probe_machine` is called before the warm-up and after the last
    round, `sample_host` just before each round; with a fake clock, neither of them measures anything. `on_warm_up` is called
    when the warm-up is over.
    """

    device: Device
    clock: Clock
    monitor: Monitor
    probe_machine: Callable[[], ProbeReadings] = dict
    sample_host: Callable[[], float | None] = lambda: None
    on_warm_up: Callable[[WarmUp], None] = ignore_warm_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One experiment's records in document order, and the state of the device.

    The peak of memory is the highest over its rounds, None where it is unknown.
    """

    records: tuple[GenerationRecord, ...]
    peak_memory_bytes: int | None
    telemetry: TelemetrySummary
    machine_probes: Mapping[str, Mapping[str, float]]
    """By probe, as `controls` of the run file has them."""
    generated_tokens: int
    """Over all rounds, as the telemetry is."""

    @property
    def rounds(self) -> tuple[tuple[GenerationRecord, ...], ...]:
        """The records of each round, in the order in which the rounds were timed."""
        found: dict[tuple[int, str], list[GenerationRecord]] = {}
        for record in sorted(self.records, key=lambda record: record.batch):
            found.setdefault(record.round_key, []).append(record)
        return tuple(tuple(records) for records in found.values())


def build_prompts(
    chat: ChatFormat,
    documents: Sequence[Document],
    max_prompt_tokens: int,
    max_new_tokens: int,
    instruction: str = INSTRUCTION,
    strategy: Strategy = Strategy.TRUNCATE,
) -> tuple[Prompt, ...]:
    """The documents' prompts, which fit in the model's context: longer documents are truncated, or read in several calls.

    The context must hold the prompt and the new tokens. Raises InputError where it has no room for both, or where the limit
    leaves no room for a document.
    """
    room = chat.context_tokens - max_new_tokens
    shortest = len(chat.chat_ids(message_with(instruction, SHORTEST_DOCUMENT)))
    if room < shortest:
        raise InputError(
            f"--max-new-tokens {max_new_tokens}: the model's context has {chat.context_tokens} tokens, and the prompt of a single "
            f"letter takes {shortest} of them; allow at most {chat.context_tokens - shortest} new tokens"
        )
    limits = Room(
        tokenizer=chat,
        max_prompt_tokens=min(max_prompt_tokens, room),
        max_new_tokens=max_new_tokens,
        instruction=instruction,
    )
    return tuple(prompt_for(document, limits, strategy) for document in documents)


def batches_of(prompts: Sequence[Prompt], batch_size: int) -> list[list[int]]:
    """The prompts' indices, batch by batch.

    The longest come first: a batch that does not fit fails at once, and little is padded. Single prompts stay in order.
    """
    indices = list(range(len(prompts)))
    if batch_size > 1:
        indices.sort(key=lambda index: -len(prompts[index].token_ids))
    return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]


def measure(
    benchmark: Benchmark,
    model: TextGenerator,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    instruments: Instruments,
    on_record: Callable[[GenerationRecord], None],
    batch_size: int = 1,
) -> Measured:
    """Summarize each prompt once, one timed round for each batch.

    `on_record` gets each document, between rounds. Raises DeviceMemoryError where memory runs out in the warm-up or in
    a round, and DeviceLostError where the device is lost. `on_record` has received all earlier rounds by then.
    """
    with translate_device_errors(instruments.device):
        probes_before = instruments.probe_machine()
        batches = batches_of(prompts, batch_size)
        start = instruments.clock()
        warmed_rounds = _warm_up(model, prompts, batches, max_new_tokens)
        warm_up_seconds = instruments.clock() - start
        instruments.on_warm_up(WarmUp(seconds=warm_up_seconds, warmed_rounds=warmed_rounds, rounds=len(batches)))
        instruments.device.reset_peak_memory()
        telemetry = Telemetry(instruments.monitor)
        rounds = _Rounds(model, prompts, batches, max_new_tokens, instruments, telemetry, on_record)
        with collector_off():
            benchmark.pedantic(rounds.summarize, setup=rounds.next_batch, rounds=len(batches))
        rounds.record_last()
        peak_bytes = instruments.device.peak_memory_bytes()  # before the probes, which allocate
        return Measured(
            records=rounds.in_document_order(),
            peak_memory_bytes=peak_bytes,
            telemetry=telemetry.summary(),
            machine_probes=probes_as_extra_info(probes_before, instruments.probe_machine()),
            generated_tokens=sum(record.generated_tokens for record in rounds.records),
        )


@contextmanager
def translate_device_errors(device: Device) -> Iterator[None]:
    """Raise a library's errors as DeviceLostError or DeviceMemoryError.

    For the latter, memory is released first.
    """
    try:
        yield
    except Exception as error:
        if is_device_lost(error):
            raise DeviceLostError(
                f"the GPU was lost: {first_line(error)}; what was measured before it is kept"
            ) from error
        detail = explain_out_of_memory(error)
    else:
        return
    device.release_memory()
    raise DeviceMemoryError(f"out of memory while generating: {detail}")


def _warm_up(
    model: TextGenerator, prompts: Sequence[Prompt], batches: Sequence[Sequence[int]], max_new_tokens: int
) -> int:
    """Run the batch with the longest prompt untimed.

    It loads the kernels, and fails at once where memory is too small. Kernels depend on the batch size, so a smaller
    last batch is warmed up too. Of a document that is read in several calls, only the first call is run. Returns how many
    batches were warmed up; 0 if that says nothing about the time of the rounds.
    """
    longest: dict[int, Sequence[int]] = {}  # by batch size
    for batch in sorted(batches, key=lambda batch: -max(len(prompts[index].token_ids) for index in batch)):
        longest.setdefault(len(batch), batch)
    for batch in longest.values():
        model.generate(model.prepare([prompts[index].token_ids for index in batch]), max_new_tokens, note_nothing)
    return 0 if any(prompt.reading for prompt in prompts) else len(longest)


class _Rounds:
    """The state between rounds.

    It has the next batch, and the output of the last round until it is recorded.
    """

    def __init__(
        self,
        model: TextGenerator,
        prompts: Sequence[Prompt],
        batches: Sequence[Sequence[int]],
        max_new_tokens: int,
        instruments: Instruments,
        telemetry: Telemetry,
        on_record: Callable[[GenerationRecord], None],
    ) -> None:
        self.records: list[GenerationRecord] = []
        self._model = model
        self._reader = reader_for(model, prompts)
        self._prompts = prompts
        self._batches = batches
        self._finished = 0
        self._max_new_tokens = max_new_tokens
        self._clock = instruments.clock
        self._sample_host = instruments.sample_host
        self._host_sample: float | None = None
        self._telemetry = telemetry
        self._on_record = on_record
        self._last: tuple[Sequence[Prompt], Any, Any, float, float, float] | None = None

    def next_batch(self) -> tuple[tuple[Sequence[Prompt], Any], dict[str, Any]]:
        """Untimed: record the previous round, and put the next prompts on the device."""
        self.record_last()
        collect_new_garbage()
        # A profiler (--benchmark-cprofile) asks for one batch more than there are, and gets the last one again.
        batch = [self._prompts[index] for index in self._batches[min(self._finished, len(self._batches) - 1)]]
        prepared = self._reader.prepare(batch)
        self._host_sample = self._sample_host()
        self._telemetry.before_round()
        return (batch, prepared), {}

    def summarize(self, batch: Sequence[Prompt], prepared: Any) -> None:
        """The timed round. It decodes, scores and writes nothing."""
        first_token: list[float] = []
        start = self._clock()
        output = self._reader.generate(
            prepared, self._max_new_tokens, lambda wait=None: first_token.append(self._clock(wait))
        )
        end = self._clock()
        self._last = (batch, prepared, output, start, first_token[-1], end)

    def record_last(self) -> None:
        if self._last is None or self._finished == len(self._batches):
            return
        self._telemetry.after_round()
        batch, prepared, output, start, first_token, end = self._last
        self._last = None
        for prompt, read in zip(batch, self._reader.documents(output, prepared, batch), strict=True):
            generated = read.generated
            record = GenerationRecord(
                document_id=prompt.document.id,
                document_tokens=prompt.document_tokens,
                prompt_tokens=read.prompt_tokens,
                generated_tokens=len(generated),
                truncated=prompt.truncated,
                unread_tokens=prompt.unread_tokens,
                **read.earlier.as_record(),
                hit_cap=len(generated) >= self._max_new_tokens and not self._model.ends_by_itself(generated),
                start_seconds=start,
                first_token_seconds=first_token,
                end_seconds=end,
                summary=self._model.decode(generated),
                host_rate_per_second=self._host_sample,
                batch=self._finished,
                rows=len(batch),
            )
            self.records.append(record)
            self._on_record(record)
        self._finished += 1

    def in_document_order(self) -> tuple[GenerationRecord, ...]:
        """The records in the order of the prompts instead of the batches."""
        indices = (index for batch in self._batches for index in batch)
        return tuple(record for _, record in sorted(zip(indices, self.records, strict=True), key=lambda pair: pair[0]))


def collect_new_garbage() -> None:
    """Collect what has become garbage since the last call.

    What survives is frozen: the records of all earlier rounds are not visited again and again.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def collector_off() -> Iterator[None]:
    """Switch the garbage collector off inside rounds.

    Existing objects are frozen, so that collecting between rounds is fast.
    """
    collect_new_garbage()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
