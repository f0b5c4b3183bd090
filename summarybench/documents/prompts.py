"""The prompts that models get: an instruction and a document, in the model's chat template."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from summarybench.core.outcomes import InputError
from summarybench.documents.document import Document

INSTRUCTION = "Summarize the following text in 1-3 sentences."


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A document's prompt: token ids [prompt tokens].

    `document_tokens` of them belong to the document. `message` is the user message that the chat template renders.
    """

    document: Document
    token_ids: tuple[int, ...]
    document_tokens: int
    truncated: bool
    message: str = ""


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


def build_prompt(
    document: Document, tokenizer: ChatTokenizer, max_prompt_tokens: int, instruction: str = INSTRUCTION
) -> Prompt:
    """Build the prompt for a document.

    If it is longer than `max_prompt_tokens`, the end of the document is cut off.

    The instruction is never cut. Raises InputError if not even one token of the document fits.
    """
    offsets = tokenizer.document_offsets(document.text)
    kept = len(offsets)
    while kept > 0:
        text = document.text[: offsets[kept - 1][1]]
        message = f"{instruction}\n\n{text}"
        token_ids = tuple(tokenizer.chat_ids(message))
        excess = len(token_ids) - max_prompt_tokens
        if excess <= 0:
            return Prompt(
                document=document,
                token_ids=token_ids,
                document_tokens=kept,
                truncated=kept < len(offsets),
                message=message,
            )
        kept -= excess
    raise InputError(
        f"--max-prompt-tokens {max_prompt_tokens}: chat template and instruction leave no room for a document; allow more"
    )
