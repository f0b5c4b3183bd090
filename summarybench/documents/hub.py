"""Datasets on the Hugging Face hub, read at one commit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.core.outcomes import InputError, UnavailableError, first_line
from summarybench.documents.document import Collection, DocumentSource
from summarybench.documents.files import located_rows
from summarybench.documents.rows import Columns, Located, extract, extract_pinned
from summarybench.documents.sources import collection_of

HUB_TIMEOUT_SECONDS = 20.0
COMMIT = re.compile(r"[0-9a-f]{40}")

INSTEAD = "use --document-source embedded or --documents-file PATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDataset:
    """A split of a dataset on the hub. `revision` is a commit, a tag or a branch."""

    repository: str
    configuration: str | None
    revision: str
    split: str

    def __str__(self) -> str:
        configuration = f":{self.configuration}" if self.configuration else ""
        return f"{self.repository}{configuration}@{self.revision}"


WIKILINGUA = HubDataset(
    repository="esdurmus/wiki_lingua",
    configuration="english",
    revision="ea3db3510cbd34d0f8dc612419ae40e4732f3b40",
    split="train",
)


def wikilingua_documents() -> Collection:
    """WikiLingua's English articles at the pinned revision, from the hub or its cache.

    Raises UnavailableError if they could not be downloaded.
    """
    found = extract_pinned(_rows(WIKILINGUA))
    return Collection(
        source=DocumentSource.WIKILINGUA,
        revision=WIKILINGUA.revision,
        documents=found.documents,
        dropped=found.dropped,
        name="WikiLingua",
    )


def documents_of_hub(dataset: HubDataset, columns: Columns) -> Collection:
    """The documents of any dataset on the hub, or of its copy in the cache.

    The collection's revision names the commit. Raises UnavailableError if the dataset could not be downloaded, and
    InputError if its columns cannot be used.
    """
    commit = resolved_commit(dataset)
    pinned = HubDataset(
        repository=dataset.repository, configuration=dataset.configuration, revision=commit, split=dataset.split
    )
    found = extract(_rows(pinned), columns)
    return collection_of(DocumentSource.HUB, f"{pinned} {pinned.split}", f"--dataset {dataset}", found)


def resolved_commit(dataset: HubDataset) -> str:
    """The commit that the revision means now. Raises UnavailableError if the hub does not say so."""
    if COMMIT.fullmatch(dataset.revision):
        return dataset.revision
    from httpx2 import HTTPError
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(dataset.repository, revision=dataset.revision, timeout=HUB_TIMEOUT_SECONDS)
    except (OSError, ValueError, HTTPError) as error:
        raise UnavailableError(_explained(dataset, error)) from error
    return str(info.sha)


def _rows(dataset: HubDataset) -> Iterator[Located]:
    if Path(dataset.repository).exists():
        raise InputError(
            f"the folder ./{dataset.repository} would be read in place of the hub's dataset of that name: rename it, or start "
            "from another folder"
        )
    import datasets
    from httpx2 import HTTPError

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(
            dataset.repository, dataset.configuration, split=dataset.split, revision=dataset.revision
        )
    except (OSError, ValueError, RuntimeError, HTTPError, datasets.exceptions.DatasetsError) as error:
        raise UnavailableError(_explained(dataset, error)) from error
    return located_rows(dataset.repository, rows)


def _explained(dataset: HubDataset, error: BaseException) -> str:
    """One line for a failure of the hub: no access, no such revision, no network, or what the library said."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/datasets/{dataset.repository}"
    reasons: Mapping[type[BaseException], str] = {
        errors.GatedRepoError: f"access is restricted: accept its terms at {page} and run `hf auth login`",
        errors.RevisionNotFoundError: f"it has no revision {dataset.revision!r}: {page}/commits/main lists them",
        errors.RepositoryNotFoundError: f"the hub has no such dataset, or it is private: see {page}, or run `hf auth login`",
    }
    for each in _chain(error):
        for kind, reason in reasons.items():
            if isinstance(each, kind):
                return f"the documents of {dataset.repository} could not be downloaded: {reason}; or {INSTEAD}"
    return (
        f"the documents of {dataset.repository} could not be downloaded ({type(error).__name__}: {first_line(error)}); connect to "
        f"the hub once, or {INSTEAD}"
    )


def _chain(error: BaseException | None) -> Iterator[Any]:
    """The error and those that caused it: `datasets` wraps what `huggingface_hub` raises."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
