"""Step 1: documents from the `train` half of the sources, which no benchmark uses."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from pathlib import Path

from distillation.settings import DistillSettings
from summarybench.core.files import write_atomically
from summarybench.core.outcomes import InputError
from summarybench.documents.document import Collection, Document, DocumentSource, Half
from summarybench.documents.hub import wikilingua_documents
from summarybench.documents.sources import documents_of_file, embedded_documents


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingDocuments:
    """Documents for training, for validation, and held out for benchmarks.

    Training and validation documents come from different articles.

    `synthetic` documents were written by the teacher and are used for training. `held_out` is empty unless files were
    given: of the other sources, benchmarks draw from the other half anyway.
    """

    training: tuple[Document, ...]
    validation: tuple[Document, ...]
    held_out: tuple[Document, ...]
    sources: tuple[str, ...]
    synthetic: tuple[Document, ...] = ()

    @property
    def all(self) -> tuple[Document, ...]:
        """Every document that the student sees, for training or validation."""
        return (*self.training, *self.synthetic, *self.validation)


def draw_documents(settings: DistillSettings) -> TrainingDocuments:
    """Draw as many documents as requested, or all if there are fewer.

    Raises InputError if the `train` half has fewer than two articles, UnavailableError if a source could not be
    downloaded.
    """
    files = [documents_of_file(path, settings.columns) for path in settings.documents_files]
    collections = [_read(settings.document_source), *files]
    ranked = sorted(set(_half(collections, Half.TRAIN)), key=lambda document: document.rank(settings.seed))
    drawn = ranked[: settings.documents]
    urls = sorted({document.url for document in drawn}, key=_validation_rank)
    if len(urls) < 2:
        raise InputError(
            f"the documents drawn from the train half of {', '.join(map(_name, collections))} come from {len(urls)} articles; at "
            "least 2 are needed, one for training and one for validation: raise --documents or give a larger --documents-file"
        )
    validating = set(urls[: max(1, ceil(settings.validation_share * len(urls)))])
    offered = [each for each in collections if each.source is not DocumentSource.WIKILINGUA]
    return TrainingDocuments(
        training=tuple(document for document in drawn if document.url not in validating),
        validation=tuple(document for document in drawn if document.url in validating),
        held_out=tuple(_half(offered, Half.BENCH)) if settings.documents_files else (),
        sources=tuple(f"{_name(each)} {each.revision}" for each in collections),
    )


def _read(source: DocumentSource) -> Collection:
    return embedded_documents() if source is DocumentSource.EMBEDDED else wikilingua_documents()


def _name(collection: Collection) -> str:
    return "the --documents-file" if collection.source is DocumentSource.FILE else f"the {collection.source} documents"


def _half(collections: Iterable[Collection], half: Half) -> Iterator[Document]:
    return (document for each in collections for document in each.documents if document.half is half)


def _validation_rank(url: str) -> bytes:
    return hashlib.sha256(f"validation:{url}".encode()).digest()


def passages(document: Document, most: int) -> tuple[Document, ...]:
    """The whole document, its 2 halves, its 3 thirds, and so on up to `most` parts.

    Parts have about equally many sentences.

    Each part has at least two sentences.
    """
    found = sentences(document.text)
    counts = range(2, min(most, len(found) // 2) + 1)
    return (document, *(part for count in counts for part in _parts(document, found, count)))


def sentences(text: str) -> list[str]:
    """The text, split after `.`, `!` and `?`."""
    return re.split(r"(?<=[.!?])\s+", text)


def _parts(document: Document, found: Sequence[str], count: int) -> Iterator[Document]:
    edges = [round(number * len(found) / count) for number in range(count + 1)]
    for number, (start, end) in enumerate(pairwise(edges), start=1):
        yield replace(
            document,
            section=f"{document.section} [{number} of {count}]",
            text=" ".join(found[start:end]),
        )


def write_documents(path: Path, documents: Sequence[Document]) -> None:
    """Write a file that --documents-file reads.

    It has WikiLingua's schema, with one section a line. Raises OSError.
    """
    lines = (
        {
            "url": each.url,
            "article": {"section_name": [each.section], "document": [each.text], "summary": [each.reference]},
        }
        for each in documents
    )
    write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
