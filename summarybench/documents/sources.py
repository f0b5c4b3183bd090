"""Sources of documents, sampling, and building prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from summarybench.core.outcomes import InputError, UnavailableError, first_line

EMBEDDED_ARTICLES = Path(__file__).parent / "articles.jsonl"

WIKILINGUA_REPOSITORY = "esdurmus/wiki_lingua"
WIKILINGUA_CONFIGURATION = "english"
WIKILINGUA_REVISION = "ea3db3510cbd34d0f8dc612419ae40e4732f3b40"

INSTRUCTION = "Summarize the following text in 1-3 sentences."


class DocumentSource(StrEnum):
    WIKILINGUA = "wikilingua"
    EMBEDDED = "embedded"
    FILE = "file"


class Half(StrEnum):
    """A half of a source: one for benchmarks, the other for distillation.

    The halves do not depend on the seed.
    """

    BENCH = "bench"
    TRAIN = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One section of an article with its reference summary, as in WikiLingua."""

    url: str
    section: str
    text: str
    reference: str

    @property
    def id(self) -> str:
        """A hash of url and section name, the same on every machine."""
        return hashlib.sha256(f"{self.url}\n{self.section}".encode()).hexdigest()[:16]

    @property
    def half(self) -> Half:
        """The document's half.

        It depends on the article's url alone, so that no article is in both halves.
        """
        return Half.BENCH if hashlib.sha256(f"half:{self.url}".encode()).digest()[0] % 2 == 0 else Half.TRAIN

    def rank(self, seed: int) -> bytes:
        """The sort key of this document for a seed.

        It does not depend on the order of the source's rows.
        """
        return hashlib.blake2b(f"{self.url}\n{self.section}".encode(), key=str(seed).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """All documents of a source. `revision` changes with the content."""

    source: DocumentSource
    revision: str
    documents: tuple[Document, ...]

    def eligible(self) -> tuple[Document, ...]:
        """The documents that a benchmark may sample.

        These are the `bench` half, or all of a --documents-file.
        """
        if self.source is DocumentSource.FILE:
            return self.documents
        return tuple(document for document in self.documents if document.half is Half.BENCH)

    def sample(self, count: int | None, seed: int) -> tuple[Document, ...]:
        """The first `count` eligible documents in the seed's order, or all for None.

        A sample is a prefix of every larger sample with the same seed. Raises InputError if there are too few documents.
        """
        ranked = sorted(self.eligible(), key=lambda document: document.rank(seed))
        if count is not None and count > len(ranked):
            raise InputError(
                f"--documents {count} is more than the {len(ranked)} that {self.source} documents offer; ask for {len(ranked)} or fewer"
            )
        return tuple(ranked[:count])


def embedded_documents() -> Collection:
    """The articles that ship with this project."""
    return _collection(DocumentSource.EMBEDDED, EMBEDDED_ARTICLES)


def documents_of_file(path: Path) -> Collection:
    """Read the documents of a JSONL or parquet file in WikiLingua's schema.

    Raises InputError if the file is missing, does not follow the schema (with the line), or contains no document.
    """
    if not path.is_file():
        raise InputError(f"--documents-file {path}: no such file")
    return _collection(DocumentSource.FILE, path)


def wikilingua_documents() -> Collection:
    """WikiLingua's English articles at the pinned revision, from the hub or its cache.

    Raises UnavailableError if they could not be downloaded.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(
            WIKILINGUA_REPOSITORY, WIKILINGUA_CONFIGURATION, split="train", revision=WIKILINGUA_REVISION
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UnavailableError(
            f"the documents of {WIKILINGUA_REPOSITORY} could not be downloaded ({type(error).__name__}: {first_line(error)}); "
            "connect to the hub once, or use --document-source embedded or --documents-file PATH"
        ) from error
    located = ((f"{WIKILINGUA_REPOSITORY}, row {number}", row) for number, row in enumerate(rows, start=1))
    return Collection(source=DocumentSource.WIKILINGUA, revision=WIKILINGUA_REVISION, documents=_documents(located))


def _collection(source: DocumentSource, path: Path) -> Collection:
    documents = _documents(_rows_of_parquet(path) if path.suffix == ".parquet" else _rows_of_jsonl(path))
    if not documents:
        raise InputError(f"{path} holds no document: every section is empty or has no summary")
    return Collection(source=source, revision=hashlib.sha256(path.read_bytes()).hexdigest()[:16], documents=documents)


Located = tuple[str, Any]
"""A row and its location for messages."""


def _rows_of_jsonl(path: Path) -> Iterator[Located]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            if line.strip():
                try:
                    yield where, json.loads(line)
                except ValueError as error:  # bad JSON, or bytes that are not UTF-8
                    raise InputError(f"{where}: not a JSON object in UTF-8 ({error})") from error


def _rows_of_parquet(path: Path) -> Iterator[Located]:
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise InputError(f"{path}: not a parquet file ({first_line(error)})") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _documents(rows: Iterable[Located]) -> tuple[Document, ...]:
    """Every section with a text and a summary.

    Of two sections with the same name in an article, the first counts.
    """
    by_id: dict[str, Document] = {}
    for document in chain.from_iterable(_sections(where, row) for where, row in rows):
        by_id.setdefault(document.id, document)
    return tuple(by_id.values())


def _sections(where: str, row: Any) -> Iterator[Document]:
    try:
        url, article = row["url"], row["article"]
        columns = [_listed(article[name]) for name in ("section_name", "document", "summary")]
        sections = list(zip(*columns, strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f'{where}: not WikiLingua\'s schema {{"url": …, "article": {{"section_name": […], "document": […], "summary": […]}}}}'
            f" with lists of one length ({type(error).__name__}: {error})"
        ) from error
    for field in (url, *chain.from_iterable(sections)):
        if not isinstance(field, str) or any("\ud800" <= character <= "\udfff" for character in field):
            raise InputError(f"{where}: url, section names, documents and summaries must be strings of valid Unicode")
    for name, text, summary in sections:
        if text.strip() and summary.strip():
            yield Document(url=url, section=name, text=text.strip(), reference=summary.strip())


def _listed(column: Any) -> list[Any]:
    if not isinstance(column, list):
        raise TypeError(f"{type(column).__name__} in place of a list")
    return column


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A document's prompt: token ids [prompt tokens].

    `document_tokens` of them belong to the document.
    """

    document: Document
    token_ids: tuple[int, ...]
    document_tokens: int
    truncated: bool


def template_digest(chat_template: str) -> str:
    """Identifies the instruction and the chat template; part of the workload."""
    return hashlib.sha256(f"{INSTRUCTION}\n{chat_template}".encode()).hexdigest()[:16]


class ChatTokenizer(Protocol):
    """A tokenizer with a chat template, as prompts need it."""

    def document_offsets(self, text: str) -> Sequence[tuple[int, int]]:
        """The start and end of each token in the text, in characters."""

    def chat_ids(self, message: str) -> Sequence[int]:
        """The token ids of one user message in the chat template.

        The answer begins right after them.
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
        token_ids = tuple(tokenizer.chat_ids(f"{instruction}\n\n{text}"))
        excess = len(token_ids) - max_prompt_tokens
        if excess <= 0:
            return Prompt(document=document, token_ids=token_ids, document_tokens=kept, truncated=kept < len(offsets))
        kept -= excess
    raise InputError(
        f"--max-prompt-tokens {max_prompt_tokens}: chat template and instruction leave no room for a document; allow more"
    )
