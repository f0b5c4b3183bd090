"""Datasets on the Hugging Face hub, read at one commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from summarybench.core.deadline import within
from summarybench.core.outcomes import InputError, UnavailableError, first_line
from summarybench.documents.document import Collection, DocumentSource
from summarybench.documents.files import located_rows
from summarybench.documents.hub_cache import COMMIT, cached_rows, commit_in_cache, commit_of_rows
from summarybench.documents.languages import ENGLISH, Language
from summarybench.documents.rows import Columns, Located, extract, extract_pinned, with_words_only
from summarybench.documents.sources import collection_of

HUB_TIMEOUT_SECONDS = 20.0


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


def wikilingua_documents(language: Language = ENGLISH) -> Collection:
    """WikiLingua's articles in a language at the pinned revision, from the hub or its cache.

    Raises UnavailableError if they could not be downloaded, and InputError if WikiLingua has none in this language.
    """
    check_wikilingua(language)
    local = "--document-source embedded or --documents-file PATH" if language.is_english else "--documents-file PATH"
    with _advising(f"use {local}"):
        found = extract_pinned(_rows(replace(WIKILINGUA, configuration=language.wikilingua)))
    if not language.is_english:  # the stored runs fix which English documents there are
        found = with_words_only(found)
    return Collection(
        source=DocumentSource.WIKILINGUA,
        revision=WIKILINGUA.revision,
        documents=found.documents,
        dropped=found.dropped,
        name="WikiLingua" if language.is_english else f"WikiLingua ({language.name})",
    )


def check_wikilingua(language: Language) -> None:
    """Raises InputError if WikiLingua has no articles in this language."""
    if not language.wikilingua:
        raise InputError(
            f"--language {language.code}: WikiLingua has no articles in {language.name}; give --documents-file or --dataset"
        )


def documents_of_hub(dataset: HubDataset, columns: Columns) -> Collection:
    """The documents of the dataset that --dataset names, from the hub or its cache.

    The collection's name and revision state the commit. Raises UnavailableError if the dataset could not be downloaded, and
    InputError if its columns cannot be used.
    """
    with _advising(f"give --documents-file PATH in place of --dataset {dataset.repository}"):
        pinned = replace(dataset, revision=resolved_commit(dataset))
        found = extract(_rows(pinned), columns)
    commit = "" if pinned == dataset else f" (commit {pinned.revision})"
    return collection_of(DocumentSource.HUB, f"{pinned} {pinned.split}", f"--dataset {dataset}{commit}", found)


@contextmanager
def _advising(instead: str) -> Iterator[None]:
    """Add what to do without the hub to errors of documents that could not be downloaded."""
    try:
        yield
    except UnavailableError as error:
        raise UnavailableError(f"{error}; or {instead}") from error


def resolved_commit(dataset: HubDataset) -> str:
    """The commit that the revision means now, or meant at the last download if the hub gives no answer.

    Raises UnavailableError if neither is known.
    """
    if COMMIT.fullmatch(dataset.revision):
        return dataset.revision
    try:
        return _commit_on_hub(dataset)
    except UnavailableError:
        if commit := commit_in_cache(dataset.repository, dataset.revision):
            return commit
        raise


def _commit_on_hub(dataset: HubDataset) -> str:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi

    try:
        info = within(
            HUB_TIMEOUT_SECONDS,
            lambda: HfApi().dataset_info(dataset.repository, revision=dataset.revision, timeout=HUB_TIMEOUT_SECONDS),
        )
    except (OSError, ValueError, HTTPError) as error:
        raise UnavailableError(_explained(dataset, error)) from error
    return str(info.sha)


def _rows(dataset: HubDataset) -> Iterator[Located]:
    """The rows at the commit that `dataset` names: from the cache if it has that commit, and otherwise from the hub."""
    if Path(dataset.repository).exists():
        raise InputError(
            f"the folder ./{dataset.repository} would be read in place of the hub's dataset of that name: rename it, or start "
            "from another folder"
        )
    import datasets

    datasets.disable_progress_bars()
    rows = cached_rows(dataset.repository, dataset.configuration, dataset.revision, dataset.split)
    return located_rows(dataset.repository, _downloaded(dataset) if rows is None else rows)


def _downloaded(dataset: HubDataset) -> Any:
    import datasets
    from httpx2 import HTTPError

    _commit_on_hub(dataset)  # which has a time limit; the library tries for minutes
    try:
        rows = datasets.load_dataset(
            dataset.repository, dataset.configuration, split=dataset.split, revision=dataset.revision
        )
    except (OSError, ValueError, RuntimeError, HTTPError, datasets.exceptions.DatasetsError) as error:
        raise UnavailableError(_explained(dataset, error)) from error
    if (found := commit_of_rows(rows)) not in (None, dataset.revision):
        raise UnavailableError(
            f"the documents of {dataset.repository} could not be downloaded at {dataset.revision}, and the cache has another "
            f"commit ({found}): connect to the hub once, or give @{found}"
        )
    return rows


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
                return f"the documents of {dataset.repository} could not be downloaded: {reason}"
    why = f"{type(error).__name__}: {first_line(error)}"
    return f"the documents of {dataset.repository} could not be downloaded ({why}); connect to the hub once"


def _chain(error: BaseException | None) -> Iterator[Any]:
    """The error and those that caused it: `datasets` wraps what `huggingface_hub` raises."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
