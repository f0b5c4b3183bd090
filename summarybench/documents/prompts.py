"""The prompts that models get: an instruction and a document, in the model's chat template."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from summarybench.core.outcomes import InputError
from summarybench.documents.document import Document

INSTRUCTION = "Summarize the following text in 1-3 sentences."


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the model: the prompt's token ids [prompt tokens], and the user message that they render.

    The answer to the last call of a document is its summary.
    """

    token_ids: tuple[int, ...]
    message: str
    is_last: bool = False


class Reading(Protocol):
    """How a document that does not fit in one prompt is read in several calls."""

    @property
    def limit(self) -> int:
        """The longest prompt of any call, in tokens."""

    @property
    def first(self) -> tuple[Call, ...]:
        """The calls that need no answer of other calls."""

    def calls(self) -> Generator[tuple[Call, ...], Sequence[str], None]:
        """Yield calls that do not depend on each other, and take their answers as texts in the same order.

        What is yielded last is one call, the document's last.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A document's prompt: token ids [prompt tokens].

    `document_tokens` of them belong to the document, and `unread_tokens` of the document were cut off. `message` is the user
    message that the chat template renders. A document that is read in several calls has a `reading`: then the ids and the
    message are those of its first call, and the document's tokens those of all calls.
    """

    document: Document
    token_ids: tuple[int, ...]
    document_tokens: int
    truncated: bool
    message: str = ""
    unread_tokens: int = 0
    reading: Reading | None = None

    @property
    def longest_call_tokens(self) -> int:
        """The tokens of the longest prompt that the document can need."""
        return max(len(self.token_ids), self.reading.limit if self.reading else 0)

    @property
    def first_calls(self) -> tuple[Call, ...]:
        """The calls that need no answer of other calls."""
        if self.reading:
            return self.reading.first
        return (Call(token_ids=self.token_ids, message=self.message, is_last=True),)


def template_digest(chat_template: str, instruction: str = INSTRUCTION) -> str:
    """Identifies the instruction and the chat template; part of the workload."""
    return hashlib.sha256(f"{instruction}\n{chat_template}".encode()).hexdigest()[:16]


class ChatTokenizer(Protocol):
    """A tokenizer with a chat template, as prompts need it."""

    def document_offsets(self, text: str) -> Sequence[tuple[int, int]]:
        """The start and end of each token in the text, in characters."""

    def chat_ids(self, message: str) -> Sequence[int]:
        """The token ids of one user message in the chat template.

        The answer begins right after them. Nothing in the message becomes a special token.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The beginning of a text that fits in a prompt: `kept` of its tokens, up to the character `end`."""

    message: str
    token_ids: tuple[int, ...]
    kept: int
    end: int
    is_whole: bool


def message_with(instruction: str, text: str) -> str:
    """The user message that asks for a summary of a text."""
    return f"{instruction}\n\n{text}"


def fit(text: str, tokenizer: ChatTokenizer, max_prompt_tokens: int, message_of: Callable[[str], str]) -> Fitted | None:
    """The longest beginning of a text whose message fits; None if not even one token does."""
    offsets = tokenizer.document_offsets(text)
    kept = len(offsets)
    while kept > 0:
        end = offsets[kept - 1][1]
        message = message_of(text[:end])
        token_ids = tuple(map(_shared, tokenizer.chat_ids(message)))
        excess = len(token_ids) - max_prompt_tokens
        if excess <= 0:
            return Fitted(message=message, token_ids=token_ids, kept=kept, end=end, is_whole=kept == len(offsets))
        kept -= excess
    return None


@cache
def _shared(token_id: int) -> int:
    """One object for all ids that are equal: without it, each token of each prompt would take 28 bytes more."""
    return token_id


def build_prompt(
    document: Document, tokenizer: ChatTokenizer, max_prompt_tokens: int, instruction: str = INSTRUCTION
) -> Prompt:
    """Build the prompt for a document.

    If it is longer than `max_prompt_tokens`, the end of the document is cut off.

    The instruction is never cut. Raises InputError if not even one token of the document fits.
    """
    found = fit(document.text, tokenizer, max_prompt_tokens, lambda text: message_with(instruction, text))
    if found is None:
        raise InputError(
            f"--max-prompt-tokens {max_prompt_tokens}: chat template and instruction leave no room for a document; allow more"
        )
    return Prompt(
        document=document,
        token_ids=found.token_ids,
        document_tokens=found.kept,
        truncated=not found.is_whole,
        message=found.message,
        unread_tokens=0 if found.is_whole else len(tokenizer.document_offsets(document.text)) - found.kept,
    )
