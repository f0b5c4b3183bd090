"""Documents that the teacher invents, where those at hand are few: each holds what two sentences of one of them say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distillation.generate import TOP_K
from distillation.settings import DistillSettings
from distillation.summaries import INSTRUCTIONS, TIMES_A_SUMMARY, TRAINING, Request, request
from distillation.training_documents import Drawn, sentences
from summarybench.documents.sources import INSTRUCTION, Document
from summarybench.engines.chat import Chat


def inventions(drawn: Drawn, settings: DistillSettings, chat: Chat) -> list[Request]:
    """One for each document to invent, the longest first.

    Sentences of training documents give the topics, since not every source has titles; they come round again where more is
    asked for, and the teacher draws something else to say.
    """
    topics = sorted(
        {topic for document in drawn.training for topic in _topics(document)},
        key=lambda topic: _rank(topic, settings.seed),
    )
    once = [
        request(TRAINING, "invent", 1, _on(topic), settings, chat) for topic in topics[: settings.invented_documents]
    ]
    found = (
        _numbered(once[number % len(once)], number, number // len(once) + 1)
        for number in range(settings.invented_documents)
    )
    return sorted(found, key=lambda each: -len(each.prompt_ids))


def _topics(document: Document) -> Iterator[str]:
    found = sentences(document.text)
    return (" ".join(found[first : first + 2]) for first in range(max(1, len(found) - 1)))


def _rank(topic: str, seed: int) -> bytes:
    """Mixes the documents, so that a few inventions are about as many of them."""
    return hashlib.blake2b(topic.encode(), key=str(seed).encode()).digest()


def _on(topic: str) -> Document:
    """Not written yet: its topic stands where its text will."""
    return Document(url="", section="", text=topic, reference="")


def _numbered(asked: Request, number: int, sample: int) -> Request:
    return replace(asked, sample=sample, document=replace(asked.document, url=f"invented:{number}"))


def with_invented(drawn: Drawn, rows: Sequence[Mapping[str, Any]]) -> Drawn:
    """With the documents that were invented, but for empty and repeating ones."""
    kept = (row for row in rows if not row["dropped"])
    return replace(
        drawn,
        invented=tuple(Document(url=row["url"], section="", text=row["output"], reference="") for row in kept),
    )


def stand_ins(asked: Sequence[Request], settings: DistillSettings, chat: Chat) -> list[Request]:
    """The summaries of what is not invented yet, each document as long as it may become."""
    frame = len(chat.chat_ids(f"{INSTRUCTION}\n\n"))
    limit = min(settings.max_prompt_tokens, chat.context_tokens - settings.max_new_tokens)
    return [
        replace(
            each,
            task="summarize",
            sample=0,
            prompt_ids=(0,) * min(limit, frame + each.max_new_tokens),
            max_new_tokens=settings.max_new_tokens,
        )
        for each in asked
    ]


def inputs_of(drawn: Drawn, settings: DistillSettings, teacher: Mapping[str, str], chat: Chat) -> dict[str, Any]:
    """What the inventions follow from: plain JSON types."""
    return {
        "documents": [document.text for document in drawn.training],
        "invented_documents": settings.invented_documents,
        "teacher": dict(teacher),
        "template": chat.template,
        "instruction": INSTRUCTIONS["invent"],
        "sampling_temperature": settings.sampling_temperature,
        "top_k": TOP_K,
        "seed": settings.seed,
        "max_new_tokens": settings.max_new_tokens * TIMES_A_SUMMARY["invent"],
        "max_prompt_tokens": settings.max_prompt_tokens,
    }
