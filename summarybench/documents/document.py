"""A document with its reference summary, and collections of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from summarybench.core.numbers import counted
from summarybench.core.outcomes import InputError


class DocumentSource(StrEnum):
    """Where documents come from. `HUB` is a dataset that --dataset names."""

    WIKILINGUA = "wikilingua"
    EMBEDDED = "embedded"
    FILE = "file"
    HUB = "hub"

    @property
    def needs_hub(self) -> bool:
        return self in (DocumentSource.WIKILINGUA, DocumentSource.HUB)


class Half(StrEnum):
    """A half of a source: one for benchmarks, the other for distillation.

    The halves do not depend on the seed.
    """

    BENCH = "bench"
    TRAIN = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document with its reference summary: in WikiLingua, a section of an article.

    `reference` is empty where there is none.
    """

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


class Reason(StrEnum):
    """Why a document of a source was dropped, as the end of "3 documents …"."""

    NO_TEXT = "without text"
    NO_REFERENCE = "without a reference summary"
    NO_WORDS = "with a reference summary without words"
    EQUAL = "equal to an earlier one"
    SAME_NAME = "with the url and section name of an earlier one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """All documents of a source.

    `revision` changes with the content. `dropped` counts what the source has besides them. `name` is what the user
    called the source, and `columns` says which columns were guessed; both may be empty.
    """

    source: DocumentSource
    revision: str
    documents: tuple[Document, ...]
    dropped: Mapping[Reason, int] = field(default_factory=dict)
    name: str = ""
    columns: str = ""

    @property
    def references(self) -> int:
        """The number of documents that have a reference summary."""
        return sum(bool(document.reference) for document in self.documents)

    @property
    def about_dropped(self) -> str:
        """One line that counts what was dropped by reason; empty where nothing was."""
        if not self.dropped:
            return ""
        counts = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        return f"{self.name or self.source}: {counted(self.documents, 'document')}; dropped {counts}"

    def eligible(self) -> tuple[Document, ...]:
        """The documents that a benchmark may sample.

        These are the `bench` half of the suite's own sources, and all of the user's.
        """
        if self.source in (DocumentSource.FILE, DocumentSource.HUB):
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
