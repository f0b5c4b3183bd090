"""What a server answers: the fields that are read, and a streamed answer while it arrives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec

from summarybench.core.text import printable

SHOWN_CHARACTERS = 200
BYTES_PER_TOKEN, LEAST_BYTES_OF_AN_EVENT = 4_096, 1_024
"""The most that a server may send for each requested token, its JSON included: ten times what servers were seen to send.

A smaller event counts as the second number, so that there is a limit to empty ones too.
"""
BROKEN_OFF = frozenset({"abort", "error", "cancelled", "content_filter"})
"""Reasons with which vLLM, SGLang and others end an answer that is not finished."""

# The fields that are read. Others are ignored; a wrong type is an error.

Count = Annotated[int, msgspec.Meta(ge=0)]


class PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: Count | None = None


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Count
    completion_tokens: Count
    prompt_tokens_details: PromptDetails | None = None

    @property
    def cached_tokens(self) -> int:
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0


class Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """A part of an answer: `delta` is a chat's, `text` a completion's."""

    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    @property
    def written(self) -> str:
        return (self.delta.content if self.delta else self.text) or ""

    @property
    def is_generated(self) -> bool:
        """Whether the part stands for generated tokens.

        A token may have no text: half of a character, or an id outside the tokenizer. A chat's parts without text may
        also come before the first token.
        """
        return bool(self.written) or (self.text is not None and not self.finish_reason)


class Chunk(msgspec.Struct, frozen=True):
    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


class Model(msgspec.Struct, frozen=True):
    id: str
    owned_by: str = ""


class Models(msgspec.Struct, frozen=True):
    data: list[Model]


Answer = TypeVar("Answer")


class AnswerError(Exception):
    """An answer that cannot be used. Its message goes after the server's address, as in `ADDRESS: HTTP 503: overloaded`.

    `status` is the HTTP status of an answer that is no success; None for every other fault.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answered request. All seconds are readings of one clock.

    `token_seconds` are the arrivals of the stream's generated parts: one a token for most servers, and fewer where a
    server sends several tokens in one part. Both token counts are the server's own, but that an empty answer counts as its end
    token, which not every server counts.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    """Tokens of the prompt that the server took from its cache, as far as it says so."""
    generated_tokens: int
    start_seconds: float
    token_seconds: tuple[float, ...]
    end_seconds: float
    is_resent: bool = False
    """Whether the request was sent again because the server had closed the unused connection before it arrived."""

    @property
    def first_token_seconds(self) -> float:
        """When the first part arrived; for an empty answer, when it ended."""
        return self.token_seconds[0] if self.token_seconds else self.end_seconds


class StreamedAnswer:
    """An answer of at most `most_tokens` while it arrives. Seconds are readings of one clock."""

    def __init__(self, *, start_seconds: float, most_tokens: int) -> None:
        self.most_bytes = BYTES_PER_TOKEN * (most_tokens + 16)
        self._most_tokens = most_tokens
        self._start_seconds = self._end_seconds = start_seconds
        self._received_bytes = 0
        self._parts: list[str] = []
        self._arrivals: list[float] = []
        self._finish_reason = ""
        self._usage: Usage | None = None

    def take(self, data: bytes, now: float) -> None:
        """Take the data of one event. Raises AnswerError for one that is malformed, an error, or too much."""
        self._end_seconds = now
        self._received_bytes += max(len(data), LEAST_BYTES_OF_AN_EVENT)
        if self._received_bytes > self.most_bytes:
            raise AnswerError(f"the answer has more than the {self.most_bytes:,} bytes that its tokens can need")
        if data == b"[DONE]":  # some servers end the stream without it
            return
        chunk = decoded(data, Chunk)
        if chunk.error is not None:
            raise AnswerError(shortened(message_of(chunk.error)))
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            self._parts.append(choice.written)
            if choice.is_generated:
                self._arrivals.append(now)
            self._finish_reason = choice.finish_reason or self._finish_reason

    def completion(self, *, is_resent: bool = False) -> Completion:
        """The whole answer. Raises AnswerError if its end or its token counts are missing or impossible."""
        if not self._finish_reason:
            raise AnswerError(f"the stream ended after {len(self._arrivals)} parts, before the answer did")
        if self._finish_reason in BROKEN_OFF:
            raise AnswerError(f"the server broke off its answer: its finish_reason is {self._finish_reason}")
        if self._usage is None:
            raise AnswerError("the server does not count tokens; it must support stream_options.include_usage")
        text, generated = "".join(self._parts), self._usage.completion_tokens
        if generated > self._most_tokens:
            raise AnswerError(
                f"the server counts {generated:,} generated tokens, but was asked for at most {self._most_tokens:,}"
            )
        if text and not generated:
            raise AnswerError("the server counts 0 generated tokens for an answer that has text")
        return Completion(
            text=text,
            finish_reason=self._finish_reason,
            prompt_tokens=self._usage.prompt_tokens,
            cached_tokens=self._usage.cached_tokens,
            generated_tokens=max(generated, 1),
            start_seconds=self._start_seconds,
            token_seconds=tuple(self._arrivals),
            end_seconds=self._end_seconds,
            is_resent=is_resent,
        )


def decoded(content: bytes | str, kind: type[Answer]) -> Answer:
    """Read JSON as this kind of answer. Raises AnswerError where it is none."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        said = content if isinstance(content, str) else content.decode("utf-8", errors="replace")
        raise AnswerError(f"malformed answer ({error}): {shortened(said)}") from None


def shortened(text: str) -> str:
    """The start of a server's text on one line, control and format characters escaped."""
    line = printable(text[:SHOWN_CHARACTERS])
    return f"{line}…" if len(text) > SHOWN_CHARACTERS else line


def message_in(text: str) -> str:
    """The message of an error in OpenAI's format; the whole text if it has another format."""
    try:
        return message_of(json.loads(text))
    except (ValueError, RecursionError):
        return text


def message_of(error: Any) -> str:
    while isinstance(error, dict):
        error = error.get("error") or error.get("message") or error.get("detail") or json.dumps(error)
    return str(error)
