"""Reads documents in several calls of the model, with any engine.

`Conversation` keeps one document's calls, whoever runs them: a model in this process in batches, an engine of continuous
batching, or a server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from summarybench.documents.prompts import Call, Prompt
from summarybench.engines.engine import ConcurrentEngine, OnFirstToken, RequestResult, TextGenerator, note_nothing


@dataclass(frozen=True, slots=True)
class EarlierCalls:
    """The calls of one document before its last one, and the tokens of their prompts and answers."""

    calls: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0

    def plus(self, prompt_tokens: int, generated_tokens: int) -> EarlierCalls:
        """One call more."""
        return EarlierCalls(
            self.calls + 1, self.prompt_tokens + prompt_tokens, self.generated_tokens + generated_tokens
        )

    def as_record(self) -> dict[str, int]:
        """The fields of a `GenerationRecord`."""
        return {f"earlier_{name}": count for name, count in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """The last call of a document: the tokens of its prompt, and the token ids of its answer, which is the summary."""

    prompt_tokens: int
    generated: Sequence[int]
    earlier: EarlierCalls = EarlierCalls()


class Conversation:
    """The calls of one document. `pending` are those that can be made now; none if the document has been read."""

    def __init__(self, prompt: Prompt) -> None:
        self.earlier = EarlierCalls()
        self.pending = prompt.first_calls
        self._calls = prompt.reading.calls() if prompt.reading else None
        if self._calls is not None:
            self.pending = next(self._calls)

    @property
    def is_at_last_call(self) -> bool:
        return any(call.is_last for call in self.pending)

    def count(self, prompt_tokens: int, generated_tokens: int) -> None:
        """Count a call that is not the last one."""
        self.earlier = self.earlier.plus(prompt_tokens, generated_tokens)

    def answer(self, texts: Sequence[str]) -> None:
        """Take the answers to the pending calls, in their order. Those after them become pending."""
        if self._calls is None or self.is_at_last_call:
            self.pending = ()
        else:
            self.pending = self._calls.send(texts)


class Reader(Protocol):
    """Summarizes one batch of documents after the other, with one model."""

    def prepare(self, batch: Sequence[Prompt]) -> Any:
        """Put the prompts of the first calls on the device. Not timed."""

    def generate(self, prepared: Any, max_new_tokens: int, on_first_token: OnFirstToken) -> Any:
        """Summarize the batch. This call is timed.

        The last time that it calls `on_first_token`, the summary of every document has its first token.
        """

    def documents(self, output: Any, prepared: Any, batch: Sequence[Prompt]) -> list[ReadDocument]:
        """The documents in the order of the batch. Not timed."""


def reader_for(model: TextGenerator, prompts: Iterable[Prompt]) -> Reader:
    """The reader for these documents. Where all of them fit in a prompt, it adds nothing to a round."""
    return StepReader(model) if any(prompt.reading for prompt in prompts) else OneCallReader(model)


class OneCallReader:
    """One call for each batch."""

    def __init__(self, model: TextGenerator) -> None:
        self._model = model
        self.generate = model.generate

    def prepare(self, batch: Sequence[Prompt]) -> Any:
        return self._model.prepare([prompt.token_ids for prompt in batch])

    def documents(self, output: Any, prepared: Any, batch: Sequence[Prompt]) -> list[ReadDocument]:
        pairs = zip(batch, self._model.generated_ids(output, prepared), strict=True)
        return [ReadDocument(len(prompt.token_ids), generated) for prompt, generated in pairs]


@dataclass(slots=True)
class _Step:
    """Calls that run together: each with the number of its document, and its place among that document's pending calls."""

    calls: list[tuple[int, int, Call]]
    prepared: Any


class StepReader:
    """All pending calls of a batch's documents are made together, in batches of at most its size, the longest first.

    Decoding partial summaries to text and building the prompts that contain them is a part of the round.
    """

    def __init__(self, model: TextGenerator) -> None:
        self._model = model

    def prepare(self, batch: Sequence[Prompt]) -> tuple[list[Conversation], list[_Step]]:
        conversations = [Conversation(prompt) for prompt in batch]
        return conversations, list(self._steps(conversations))

    def generate(
        self,
        prepared: tuple[list[Conversation], list[_Step]],
        max_new_tokens: int,
        on_first_token: OnFirstToken,
    ) -> list[ReadDocument]:
        conversations, steps = prepared
        found: dict[int, ReadDocument] = {}
        while steps:
            texts = [[""] * len(each.pending) for each in conversations]
            for step in steps:
                for number, place, call, generated in self._run(step, max_new_tokens, on_first_token):
                    if call.is_last:
                        earlier = conversations[number].earlier
                        found[number] = ReadDocument(len(call.token_ids), generated, earlier)
                    else:
                        conversations[number].count(len(call.token_ids), len(generated))
                        texts[number][place] = self._model.decode(generated)
            for conversation, answers in zip(conversations, texts, strict=True):
                if answers:
                    conversation.answer(answers)
            steps = list(self._steps(conversations))
        return [found[number] for number in range(len(conversations))]

    def documents(self, output: list[ReadDocument], prepared: Any, batch: Sequence[Prompt]) -> list[ReadDocument]:
        del prepared, batch
        return output

    def _steps(self, conversations: Sequence[Conversation]) -> Iterator[_Step]:
        pending = [
            (number, place, call)
            for number, conversation in enumerate(conversations)
            for place, call in enumerate(conversation.pending)
        ]
        pending.sort(key=lambda each: -len(each[2].token_ids))
        for start in range(0, len(pending), len(conversations)):
            calls = pending[start : start + len(conversations)]
            yield _Step(calls, self._model.prepare([call.token_ids for *_, call in calls]))

    def _run(
        self, step: _Step, max_new_tokens: int, on_first_token: OnFirstToken
    ) -> Iterator[tuple[int, int, Call, list[int]]]:
        has_last = any(call.is_last for *_, call in step.calls)
        output = self._model.generate(step.prepared, max_new_tokens, on_first_token if has_last else note_nothing)
        generated = self._model.generated_ids(output, step.prepared)
        for (number, place, call), ids in zip(step.calls, generated, strict=True):
            yield number, place, call, ids


# All documents at once --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadAtOnce:
    """One document of a pass over the sample: its requests, each with the tokens of its prompt. The last one is the summary's."""

    requests: Sequence[tuple[int, RequestResult]]
    earlier: EarlierCalls

    @property
    def prompt_tokens(self) -> int:
        return self.requests[-1][0]

    @property
    def last(self) -> RequestResult:
        return self.requests[-1][1]


def conversations_of(prompts: Iterable[Prompt]) -> list[Conversation]:
    return [Conversation(prompt) for prompt in prompts]


def run_at_once(
    engine: ConcurrentEngine,
    conversations: Sequence[Conversation],
    max_new_tokens: int,
    text_of: Callable[[Sequence[int]], str],
) -> list[ReadAtOnce]:
    """Give all pending calls of all documents to the engine at once, until every document has been read.

    Documents that need further calls wait until the engine has answered all that it was given.
    """
    requests: list[list[tuple[int, RequestResult]]] = [[] for _ in conversations]
    while waiting := [number for number, each in enumerate(conversations) if each.pending]:
        calls = [call for number in waiting for call in conversations[number].pending]
        results = iter(engine.run([list(call.token_ids) for call in calls], max_new_tokens))
        for number in waiting:
            conversation, texts = conversations[number], []
            for call in conversation.pending:
                tokens, result = len(call.token_ids), next(results)
                requests[number].append((tokens, result))
                if not call.is_last:
                    conversation.count(tokens, len(result.generated_tokens))
                    texts.append(text_of(result.generated_tokens))
            conversation.answer(texts)
    return [ReadAtOnce(found, each.earlier) for found, each in zip(requests, conversations, strict=True)]
