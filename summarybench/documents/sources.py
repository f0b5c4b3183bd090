"""Where documents come from, which of them are sampled, and how a prompt is built and truncated."""

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
    """Benchmarks draw from one half of a source, distillation from the other, whatever the seed."""

    BENCH = "bench"
    TRAIN = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One section of an article with its own reference summary, as WikiLingua stores them."""

    url: str
    section: str
    text: str
    reference: str

    @property
    def id(self) -> str:
        """A hash of url and section name: the same on every machine."""
        return hashlib.sha256(f"{self.url}\n{self.section}".encode()).hexdigest()[:16]

    @property
    def half(self) -> Half:
        """Chosen by the article's url alone, so that no article has sections in both."""
        return Half.BENCH if hashlib.sha256(f"half:{self.url}".encode()).digest()[0] % 2 == 0 else Half.TRAIN

    def rank(self, seed: int) -> bytes:
        """Where a seed puts this document among all others; independent of the order of the source's rows."""
        return hashlib.blake2b(f"{self.url}\n{self.section}".encode(), key=str(seed).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """All documents of a source; `revision` changes when the content does."""

    source: DocumentSource
    revision: str
    documents: tuple[Document, ...]

    def eligible(self) -> tuple[Document, ...]:
        """What a benchmark may draw from: the `bench` half, or the whole of a --documents-file."""
        if self.source is DocumentSource.FILE:
            return self.documents
        return tuple(document for document in self.documents if document.half is Half.BENCH)

    def sample(self, count: int | None, seed: int) -> tuple[Document, ...]:
        """The first `count` eligible documents in the seed's order (all for None); a prefix of any larger sample.

        Raises InputError where there are fewer.
        """
        ranked = sorted(self.eligible(), key=lambda document: document.rank(seed))
        if count is not None and count > len(ranked):
            raise InputError(
                f"--documents {count} is more than the {len(ranked)} that {self.source} documents offer; ask for {len(ranked)} or fewer"
            )
        return tuple(ranked[:count])


def embedded_documents() -> Collection:
    """The project's own articles."""
    return _collection(DocumentSource.EMBEDDED, EMBEDDED_ARTICLES)


def documents_of_file(path: Path) -> Collection:
    """The documents of a JSONL or parquet file in WikiLingua's schema.

    Raises InputError where the file is missing, is not the schema (naming the line) or holds no document.
    """
    if not path.is_file():
        raise InputError(f"--documents-file {path}: no such file")
    return _collection(DocumentSource.FILE, path)


def wikilingua_documents() -> Collection:
    """WikiLingua's English articles at the pinned revision, from the hub or its cache.

    Raises UnavailableError where they cannot be fetched.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(
            WIKILINGUA_REPOSITORY, WIKILINGUA_CONFIGURATION, split="train", revision=WIKILINGUA_REVISION
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UnavailableError(
            f"the documents of {WIKILINGUA_REPOSITORY} cannot be fetched ({type(error).__name__}: {first_line(error)}); "
            "connect to the hub once, or use --document-source embedded or --documents-file PATH"
        ) from error
    located = ((f"{WIKILINGUA_REPOSITORY}, row {number}", row) for number, row in enumerate(rows, start=1))
    return Collection(source=DocumentSource.WIKILINGUA, revision=WIKILINGUA_REVISION, documents=_documents(located))


def _collection(source: DocumentSource, path: Path) -> Collection:
    documents = _documents(_rows_of_parquet(path) if path.suffix == ".parquet" else _rows_of_jsonl(path))
    if not documents:
        raise InputError(f"{path} holds no document: every section is empty or lacks a summary")
    return Collection(source=source, revision=hashlib.sha256(path.read_bytes()).hexdigest()[:16], documents=documents)


Located = tuple[str, Any]
"""Where a row stands, for messages, and the row."""


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
    """Every section that has a text and a summary; the first of two sections with one name in one article."""
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
    """A document as the model gets it: `token_ids` [prompt tokens], of which `document_tokens` are the document's."""

    document: Document
    token_ids: tuple[int, ...]
    document_tokens: int
    truncated: bool


def template_digest(chat_template: str) -> str:
    """Names the instruction and the chat template around it: part of the workload."""
    return hashlib.sha256(f"{INSTRUCTION}\n{chat_template}".encode()).hexdigest()[:16]


class ChatTokenizer(Protocol):
    """What prompts need of a tokenizer."""

    def document_offsets(self, text: str) -> Sequence[tuple[int, int]]:
        """Where each token of a text begins and ends in it, in characters."""

    def chat_ids(self, message: str) -> Sequence[int]:
        """The token ids of one user message in the model's chat template, ready for the answer."""


def build_prompt(
    document: Document, tokenizer: ChatTokenizer, max_prompt_tokens: int, instruction: str = INSTRUCTION
) -> Prompt:
    """The prompt for a document; one that would be longer than `max_prompt_tokens` loses its document's end, never the instruction.

    Raises InputError where not even one token of the document fits.
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
        f"--max-prompt-tokens {max_prompt_tokens} leaves no room for a document beside the chat template and the instruction"
    )
