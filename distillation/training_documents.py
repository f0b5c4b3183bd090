"""Step 1: the documents to learn from, all of the sources' `train` half, so that no benchmark has drawn one of them."""

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
from summarybench.documents.sources import (
    Collection,
    Document,
    DocumentSource,
    Half,
    documents_of_file,
    embedded_documents,
    wikilingua_documents,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Documents to train on and to stop early by (of other articles), and what is held out for benchmarks.

    `invented` ones, which the teacher wrote, are trained on too.
    `held_out` is empty where no file was given: benchmarks draw from the other half of the usual sources by themselves.
    """

    training: tuple[Document, ...]
    validation: tuple[Document, ...]
    held_out: tuple[Document, ...]
    sources: tuple[str, ...]
    invented: tuple[Document, ...] = ()

    @property
    def all(self) -> tuple[Document, ...]:
        return (*self.training, *self.invented, *self.validation)


def draw(settings: DistillSettings) -> Drawn:
    """As many documents as asked for, or as there are.

    Raises InputError where the `train` half has fewer than two articles, UnavailableError where a source cannot be had.
    """
    collections = [_read(settings.document_source), *map(documents_of_file, settings.documents_files)]
    ranked = sorted(set(_half(collections, Half.TRAIN)), key=lambda document: document.rank(settings.seed))
    drawn = ranked[: settings.documents]
    urls = sorted({document.url for document in drawn}, key=_validation_rank)
    if len(urls) < 2:
        raise InputError(
            f"{len(urls)} of the articles drawn are in the train part of {', '.join(map(_name, collections))}, and at least 2 are "
            "needed, one of them to validate; ask for more --documents, or give a larger --documents-file"
        )
    validating = set(urls[: max(1, ceil(settings.validation_share * len(urls)))])
    offered = [each for each in collections if each.source is not DocumentSource.WIKILINGUA]
    return Drawn(
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
    """The document itself and its consecutive parts of about equally many sentences: 2, then 3, and so on up to `most`.

    No part has fewer than two sentences.
    """
    found = sentences(document.text)
    counts = range(2, min(most, len(found) // 2) + 1)
    return (document, *(part for count in counts for part in _parts(document, found, count)))


def sentences(text: str) -> list[str]:
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
    """As a file that --documents-file takes: WikiLingua's schema, one section a line. Raises OSError."""
    lines = (
        {
            "url": each.url,
            "article": {"section_name": [each.section], "document": [each.text], "summary": [each.reference]},
        }
        for each in documents
    )
    write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
