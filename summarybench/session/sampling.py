"""The session's documents and prompts: read once, sampled once, and shared by all loaders of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from summarybench.core.outcomes import UnavailableError
from summarybench.documents.sources import (
    Collection,
    Document,
    DocumentSource,
    Prompt,
    documents_of_file,
    embedded_documents,
    wikilingua_documents,
)
from summarybench.engines.engine import ChatFormat
from summarybench.machine.device import Device
from summarybench.measure.generation import build_prompts
from summarybench.session.progress import Progress
from summarybench.session.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one model summarizes: the documents drawn from a source, in order, and their prompts."""

    source: DocumentSource
    revision: str
    documents: tuple[Document, ...]
    prompts: tuple[Prompt, ...]
    max_new_tokens: int

    @property
    def longest_sequence(self) -> int:
        """Tokens of the longest prompt with its whole summary."""
        return max(len(prompt.token_ids) for prompt in self.prompts) + self.max_new_tokens

    def around_the_longest(self, count: int) -> Sample:
        """The document with the longest prompt and the first others, `count` in all or as many as there are."""
        longest = max(range(len(self.prompts)), key=lambda index: len(self.prompts[index].token_ids))
        others = [index for index in range(len(self.prompts)) if index != longest][: count - 1]
        chosen = sorted([longest, *others])
        return replace(
            self,
            documents=tuple(self.documents[index] for index in chosen),
            prompts=tuple(self.prompts[index] for index in chosen),
        )


class Sampler:
    """Draws each model's sample when it is first asked for."""

    def __init__(self, settings: Settings, device: Device, progress: Progress) -> None:
        self._settings = settings
        self._device = device
        self._progress = progress
        self._collections: dict[DocumentSource, Collection | UnavailableError] = {}
        self._samples: dict[str, Sample] = {}
        self._told: set[DocumentSource] = set()

    def check(self, model: str) -> None:
        """Raises InputError where the model's documents cannot be used; those that may need the network are not asked for."""
        source = self._settings.document_source_of(model)
        if source is not DocumentSource.WIKILINGUA:
            self._draw_for(model, self._collection(source))

    def sample_for(self, model: str, chat: ChatFormat) -> Sample:
        """The model's sample. Raises UnavailableError, each time, where its documents cannot be fetched."""
        if model not in self._samples:
            collection = self._collection(self._settings.document_source_of(model))
            documents = self._draw_for(model, collection)
            max_new_tokens = self._settings.new_tokens_on(self._device)
            self._samples[model] = Sample(
                source=collection.source,
                revision=collection.revision,
                documents=documents,
                prompts=build_prompts(chat, documents, self._settings.prompt_tokens_on(self._device), max_new_tokens),
                max_new_tokens=max_new_tokens,
            )
        return self._samples[model]

    def longest_sequence_of(self, model: str) -> int | None:
        """Tokens of the longest prompt with its summary; None where the model's sample has not been drawn."""
        return self._samples[model].longest_sequence if model in self._samples else None

    def documents(self, models: Iterable[str]) -> Iterator[Document]:
        """The documents of these models, whether this session summarized them or an earlier one that it goes on with.

        Those that cannot be fetched any more are left out.
        """
        for source in {self._settings.document_source_of(model) for model in models}:
            with suppress(UnavailableError):
                yield from self._draw(self._collection(source))

    def _collection(self, source: DocumentSource) -> Collection:
        if source not in self._collections:
            try:
                self._collections[source] = self._read(source)
            except UnavailableError as error:
                self._collections[source] = error
        found = self._collections[source]
        if isinstance(found, UnavailableError):
            raise UnavailableError(str(found))
        return found

    def _read(self, source: DocumentSource) -> Collection:
        if source is DocumentSource.FILE and self._settings.documents_file is not None:
            return documents_of_file(self._settings.documents_file)
        if source is DocumentSource.EMBEDDED:
            return embedded_documents()
        with self._progress.stage("reading WikiLingua"):
            return wikilingua_documents()

    def _draw_for(self, model: str, collection: Collection) -> tuple[Document, ...]:
        documents = self._draw(collection)
        if student := self._settings.students.get(model):
            student.refuse_seen(documents)
        return documents

    def _draw(self, collection: Collection) -> tuple[Document, ...]:
        wanted = self._settings.documents
        if wanted is None:
            default, there = self._settings.default_documents_on(self._device), len(collection.eligible())
            wanted = min(default, there)
            if there < default and collection.source not in self._told:
                self._told.add(collection.source)
                self._progress.warn(
                    f"{there} documents, which is all that {collection.source} documents offer; the default here is {default}"
                )
        return collection.sample(wanted, self._settings.seed)
