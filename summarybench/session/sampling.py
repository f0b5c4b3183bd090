"""The session's documents and prompts.

They are read and sampled once, and shared by all loaders of a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from summarybench.core.numbers import counted
from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.documents.document import Collection, Document, DocumentSource
from summarybench.documents.hub import check_wikilingua, documents_of_hub, wikilingua_documents
from summarybench.documents.sources import documents_of_file, embedded_documents
from summarybench.documents.strategy import Strategy
from summarybench.engines.engine import ChatFormat
from summarybench.measure.generation import build_prompts
from summarybench.measure.sample import Sample
from summarybench.session.config import Config
from summarybench.session.progress import Progress


class Sampler:
    """Draws each model's sample when it is first asked for."""

    def __init__(self, config: Config, progress: Progress) -> None:
        self._config = config
        self._settings = config.settings
        self._progress = progress
        self._collections: dict[DocumentSource, Collection | UnavailableError] = {}
        self._samples: dict[tuple[str, Strategy], Sample] = {}
        self._reported: set[DocumentSource] = set()

    def check(self, model: str) -> None:
        """Raises InputError where the model's documents cannot be used.

        Documents that may need the network are not read.
        """
        source, language = self._settings.document_source_of(model), self._settings.document_options.language
        if source is DocumentSource.EMBEDDED and not language.is_english:
            raise InputError(
                f"--language {language.code}: the built-in articles are English; give --documents-file, --dataset or "
                "--document-source wikilingua"
            )
        if source is DocumentSource.WIKILINGUA:
            check_wikilingua(language)
        if not source.needs_hub:
            self._draw_for(model, self._collection(source))

    def sample_for(self, model: str, chat: ChatFormat, strategy: Strategy = Strategy.TRUNCATE) -> Sample:
        """The model's sample, with prompts for this way of reading long documents.

        Raises UnavailableError, each time, where its documents could not be downloaded.
        """
        if (model, strategy) not in self._samples:
            self._samples[model, strategy] = self._drawn(model, chat, strategy)
        return self._samples[model, strategy]

    def check_prompts(self, model: str, chat: ChatFormat) -> None:
        """Raises InputError where prompts have no room for a document, or for a strategy that reads long ones.

        Raises UnavailableError where the documents could not be downloaded.
        """
        for strategy in self._settings.document_options.long_documents:
            self._drawn(model, chat, strategy)

    def longest_sequence_for(self, model: str, chat: ChatFormat) -> int:
        """Tokens of the model's longest prompt and its summary, over all ways of reading long documents of this session."""
        strategies = self._settings.document_options.long_documents
        return max(self.sample_for(model, chat, each).longest_sequence for each in strategies)

    def _drawn(self, model: str, chat: ChatFormat, strategy: Strategy) -> Sample:
        collection = self._collection(self._settings.document_source_of(model))
        documents = self._draw_for(model, collection)
        limit, max_new_tokens = self._config.max_prompt_tokens, self._config.max_new_tokens
        options = self._settings.document_options
        return Sample(
            source=collection.source,
            revision=collection.revision,
            documents=documents,
            prompts=build_prompts(chat, documents, limit, max_new_tokens, options.instruction, strategy),
            max_new_tokens=max_new_tokens,
            instruction=options.instruction,
            language=options.language,
            dropped={reason.name.lower(): count for reason, count in collection.dropped.items()},
        )

    def longest_sequence_of(self, model: str) -> int | None:
        """Tokens of the model's longest prompt and its summary.

        It is None where the model's sample has not been drawn.
        """
        found = (sample.longest_sequence for (name, _), sample in self._samples.items() if name == model)
        return max(found, default=None)

    def local_revision(self, model: str) -> str | None:
        """The revision of the model's documents. None for documents of the hub, which this does not read."""
        source = self._settings.document_source_of(model)
        return None if source.needs_hub else self._collection(source).revision

    def documents(self, models: Iterable[str]) -> Iterator[Document]:
        """The documents of these models.

        This session has summarized them, or the earlier one that it resumes. Documents that can no longer be downloaded
        are left out.
        """
        for source in {self._settings.document_source_of(model) for model in models}:
            with suppress(UnavailableError):
                yield from self._draw(self._collection(source))

    def _collection(self, source: DocumentSource) -> Collection:
        if source not in self._collections:
            try:
                self._collections[source] = self._announced(self._read(source))
            except UnavailableError as error:
                self._collections[source] = error
        found = self._collections[source]
        if isinstance(found, UnavailableError):
            raise UnavailableError(str(found))
        return found

    def _read(self, source: DocumentSource) -> Collection:
        options = self._settings.document_options
        if source is DocumentSource.FILE and self._settings.documents_file is not None:
            return documents_of_file(self._settings.documents_file, options.columns, options.split)
        if source is DocumentSource.EMBEDDED:
            return embedded_documents()
        if options.dataset is not None:
            with self._progress.stage(f"reading {options.dataset}"):
                return documents_of_hub(options.dataset, options.columns)
        with self._progress.stage("reading WikiLingua"):
            return wikilingua_documents(options.language)

    def _announced(self, collection: Collection) -> Collection:
        """The collection, after saying what was read of it and what was not: the user's own sources may surprise."""
        if collection.source in (DocumentSource.FILE, DocumentSource.HUB):
            if collection.columns:
                self._progress.say(f"{collection.name}: {collection.columns}")
            self._progress.warn(collection.about_dropped)
            if not collection.references:
                self._progress.warn(f"{collection.name}: no reference summaries with words, so ROUGE is left out")
            elif collection.references < len(collection.documents):
                self._progress.warn(
                    f"{collection.name}: {collection.references} of {counted(collection.documents, 'document')} have a reference "
                    "with words, so ROUGE is of those"
                )
        return collection

    def _draw_for(self, model: str, collection: Collection) -> tuple[Document, ...]:
        documents = self._draw(collection)
        if student := self._settings.students.get(model):
            student.refuse_seen(documents)
        return documents

    def _draw(self, collection: Collection) -> tuple[Document, ...]:
        wanted = self._config.documents
        if self._config.is_default_sample_size:
            default, there = wanted, len(collection.eligible())
            wanted = min(default, there)
            if there < default and collection.source not in self._reported:
                self._reported.add(collection.source)
                self._progress.warn(
                    f"only {there} documents instead of the default {default}: the {collection.source} source has no more"
                )
        return collection.sample(wanted, self._settings.seed)
