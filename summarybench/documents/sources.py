"""The sources of documents on this machine: shipped with the suite, and a user's file or folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from summarybench.core.outcomes import InputError
from summarybench.documents.document import Collection, DocumentSource
from summarybench.documents.files import rows_of_file, rows_of_saved_dataset
from summarybench.documents.rows import Columns, Extracted, extract, extract_pinned

EMBEDDED_ARTICLES = Path(__file__).parent / "articles.jsonl"

GUESSED = Columns()


def embedded_documents() -> Collection:
    """The articles that ship with this project."""
    rows, revision = rows_of_file(EMBEDDED_ARTICLES)
    found = extract_pinned(rows)
    return Collection(
        source=DocumentSource.EMBEDDED, revision=revision, documents=found.documents, dropped=found.dropped
    )


def documents_of_file(path: Path, columns: Columns = GUESSED, split: str | None = None) -> Collection:
    """Read the documents of a file, or of a folder saved by `datasets`.

    `split` is for such a folder. Raises InputError if the path is missing, cannot be read, does not follow a known
    schema (with the place), or contains no document.
    """
    if not path.exists():
        raise InputError(f"--documents-file {path}: no such file")
    if split is not None and not path.is_dir():
        raise InputError(f"--split {split}: {path} is one file, without splits; leave --split out")
    rows, digest = rows_of_saved_dataset(path, split) if path.is_dir() else rows_of_file(path)
    return collection_of(DocumentSource.FILE, digest, str(path), extract(rows, columns))


def collection_of(source: DocumentSource, revision: str, name: str, found: Extracted) -> Collection:
    """The collection of a user's source. Its revision depends on the columns, as other columns are other documents.

    Raises InputError if there is no document.
    """
    if found.columns:
        revision = f"{revision} {hashlib.sha256(found.columns.encode()).hexdigest()[:16]}"
    collection = Collection(
        source=source,
        revision=revision,
        documents=found.documents,
        dropped=found.dropped,
        name=name,
        columns=found.columns,
    )
    if not found.documents:
        dropped = f" ({collection.about_dropped})" if found.dropped else ""
        raise InputError(f"{name} holds no document{dropped}")
    return collection
