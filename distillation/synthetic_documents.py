"""Synthetic documents, which the teacher writes for training.

Each is about two sentences of a training document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distillation.generation import TOP_K
from distillation.settings import DistillSettings
from distillation.summaries import INSTRUCTIONS, LENGTH_FACTORS, TRAINING, Request, build_request
from distillation.training_documents import TrainingDocuments, sentences
from summarybench.documents.document import Document
from summarybench.documents.prompts import INSTRUCTION
from summarybench.engines.chat import Chat


def synthetic_document_requests(documents: TrainingDocuments, settings: DistillSettings, chat: Chat) -> list[Request]:
    """One request for each synthetic document, the longest prompts first.

    Two consecutive sentences of a training document are the topic, because not every source has titles. If more
    documents are requested than there are topics, topics are used again with another sample.
    """
    topics = sorted(
        {topic for document in documents.training for topic in _topics(document)},
        key=lambda topic: _rank(topic, settings.seed),
    )
    by_topic = [
        build_request(TRAINING, "invent", 1, _topic_document(topic), settings, chat)
        for topic in topics[: settings.invented_documents]
    ]
    found = (
        _numbered(by_topic[number % len(by_topic)], number, number // len(by_topic) + 1)
        for number in range(settings.invented_documents)
    )
    return sorted(found, key=lambda each: -len(each.prompt_ids))


def _topics(document: Document) -> Iterator[str]:
    found = sentences(document.text)
    return (" ".join(found[first : first + 2]) for first in range(max(1, len(found) - 1)))


def _rank(topic: str, seed: int) -> bytes:
    """A keyed hash to order topics by.

    In this order, even a few topics come from many documents.
    """
    return hashlib.blake2b(topic.encode(), key=str(seed).encode()).digest()


def _topic_document(topic: str) -> Document:
    """A document that is not written yet, with its topic in place of its text."""
    return Document(url="", section="", text=topic, reference="")


def _numbered(request: Request, number: int, sample: int) -> Request:
    return replace(request, sample=sample, document=replace(request.document, url=f"invented:{number}"))


def with_synthetic(documents: TrainingDocuments, rows: Sequence[Mapping[str, Any]]) -> TrainingDocuments:
    """Add the synthetic documents of `rows`, without empty and repeating ones."""
    kept = (row for row in rows if not row["dropped"])
    return replace(
        documents,
        synthetic=tuple(Document(url=row["url"], section="", text=row["output"], reference="") for row in kept),
    )


def placeholder_summary_requests(requests: Sequence[Request], settings: DistillSettings, chat: Chat) -> list[Request]:
    """Requests to summarize documents that are not written yet, for --plan.

    Each document is as long as its token limit allows.
    """
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
        for each in requests
    ]


def synthetic_inputs(
    documents: TrainingDocuments, settings: DistillSettings, teacher: Mapping[str, str], chat: Chat
) -> dict[str, Any]:
    """Everything that determines the synthetic documents: plain JSON types."""
    return {
        "documents": [document.text for document in documents.training],
        "invented_documents": settings.invented_documents,
        "teacher": dict(teacher),
        "template": chat.template,
        "instruction": INSTRUCTIONS["invent"],
        "sampling_temperature": settings.sampling_temperature,
        "top_k": TOP_K,
        "seed": settings.seed,
        "max_new_tokens": settings.max_new_tokens * LENGTH_FACTORS["invent"],
        "max_prompt_tokens": settings.max_prompt_tokens,
    }
