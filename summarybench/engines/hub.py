"""Model repositories on the Hugging Face hub: which commit a revision is, and its files.

Everything is loaded from the folder that a download leaves in the hub's cache, so that a folder of the same name in the
current folder is never taken for the repository.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import ModelSpec
from summarybench.core.deadline import within
from summarybench.core.numbers import trimmed
from summarybench.core.outcomes import InputError, UnavailableError, first_line
from summarybench.engines.checkpoint_files import (
    FILES_BESIDE_WEIGHTS,
    INDEX,
    WEIGHTS,
    check_checkpoint,
    shards_in,
)

HUB_SECONDS = 20.0
"""The longest time that the hub may take for an answer or a small file. Downloading weights is not limited."""
DEFAULT_REVISION = "main"
WITHOUT_HUB = "without the hub, name a local folder (--model FOLDER, --model-path NAME=FOLDER) or use -m embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """What the hub says about a model at a commit. `weights_bytes` is the size of its safetensors, None if unknown."""

    commit: str
    config: dict[str, Any]
    weights_bytes: int | None


def page_of(repository: str) -> str:
    return f"https://huggingface.co/{repository}"


def describe(repository: str, revision: str | None) -> HubModel:
    """The model's commit and config.json, from the cache if it has that commit, and otherwise from the hub.

    Raises UnavailableError if neither has it.
    """
    import huggingface_hub as hub

    wanted = revision or DEFAULT_REVISION
    if (folder := cached_folder(repository, wanted)) and folder.name == wanted:
        return HubModel(commit=folder.name, config=_config_in(folder, repository), weights_bytes=None)
    try:
        info = _ask(repository, wanted)
    except UnavailableError:
        if (folder := cached_folder(repository, wanted)) is None:
            raise
        return HubModel(commit=folder.name, config=_config_in(folder, repository), weights_bytes=None)
    with _explaining(repository, wanted):
        config = within(HUB_SECONDS, lambda: hub.hf_hub_download(repository, "config.json", revision=info.sha))
    sizes = {each.rfilename: each.size for each in info.siblings}
    names = [WEIGHTS] if WEIGHTS in sizes else [name for name in sizes if name.startswith("model-")]
    known = [sizes[name] for name in names if name.endswith(".safetensors") and sizes[name]]
    return HubModel(
        commit=str(info.sha), config=_config_in(Path(config).parent, repository), weights_bytes=sum(known) or None
    )


def download(spec: ModelSpec) -> Path:
    """The folder of the hub's cache with the whole model. The first call downloads it.

    Raises UnavailableError if that is impossible.
    """
    import huggingface_hub as hub

    repository, revision = spec.repository, spec.revision
    if (cached := cached_folder(repository, revision)) and _is_whole(cached):
        return cached
    info = _ask(repository, revision, spec.licence_url)
    names = {each.rfilename for each in info.siblings}
    with _explaining(repository, revision, spec.licence_url):
        folder = hub.snapshot_download(
            repository,
            revision=info.sha,
            allow_patterns=[*FILES_BESIDE_WEIGHTS, *_files_of_weights(repository, str(info.sha), names)],
            etag_timeout=HUB_SECONDS,
        )
    try:
        check_checkpoint(Path(folder), repository)
    except InputError as error:
        raise UnavailableError(str(error)) from error
    return Path(folder)


def cached_folder(repository: str, revision: str) -> Path | None:
    """The folder of this revision in the hub's cache, if its config.json is there."""
    import huggingface_hub as hub

    with suppress(OSError, ValueError):  # an unreadable cache counts as empty
        found = hub.try_to_load_from_cache(repository, "config.json", revision=revision)
        return Path(found).parent if isinstance(found, str) else None
    return None


def _is_whole(folder: Path) -> bool:
    try:
        check_checkpoint(folder, str(folder))
    except InputError:
        return False
    return True


def _config_in(folder: Path, repository: str) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UnavailableError(f"{repository}: its config.json cannot be read ({first_line(error)})") from error


def _ask(repository: str, revision: str, licence_url: str = "") -> Any:
    """What the hub says about a repository: its commit and its files."""
    import huggingface_hub as hub

    with _explaining(repository, revision, licence_url):
        return within(
            HUB_SECONDS,
            lambda: hub.HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=HUB_SECONDS),
        )


def _files_of_weights(repository: str, commit: str, names: Collection[str]) -> list[str]:
    """The files to download: a repository may hold its weights in several formats."""
    import huggingface_hub as hub

    if WEIGHTS in names:
        return [WEIGHTS]
    if INDEX not in names:
        raise UnavailableError(f"{repository} holds neither {WEIGHTS} nor {INDEX}; other formats are not loaded")
    index = within(HUB_SECONDS, lambda: hub.hf_hub_download(repository, INDEX, revision=commit))
    return [INDEX, *shards_in(Path(index))]


@contextmanager
def _explaining(repository: str, revision: str, licence_url: str = "") -> Iterator[None]:
    """Raise the hub's errors as UnavailableError with one line that says what to do."""
    try:
        yield
    except (UnavailableError, InputError):
        raise
    except Exception as error:
        why = explain_hub_error(error, repository, revision, licence_url or page_of(repository))
        raise UnavailableError(why) from error


def explain_hub_error(error: Exception, repository: str, revision: str, licence_url: str) -> str:
    """One line about a failed request: no access, no such revision, or no network."""
    import huggingface_hub.errors as errors
    from httpx2 import TimeoutException

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated: accept the licence at {licence_url}, then run 'hf auth login'; without an account, use "
            "-m embedded, --model FOLDER or --model-path NAME=FOLDER"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}: {page_of(repository)}/commits lists its commits"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return (
            f"{repository}: the hub gives this account no access, or has no such repository: check the name at "
            f"{page_of(repository)}, and log in with 'hf auth login'"
        )
    if isinstance(error, errors.HFValidationError):
        return f"{repository!r} is neither a folder nor a repository of the hub ({first_line(error)})"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{repository} has no config.json at {revision!r}, so transformers cannot load it"
    is_late = isinstance(error, (TimeoutError, TimeoutException))
    reason = f"no answer within {trimmed(HUB_SECONDS)} s" if is_late else first_line(error)
    if isinstance(error, errors.OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set, and the cache does not have the model"
    return (
        f"{repository} could not be downloaded, the hub cannot be reached ({reason}): check the network and HTTPS_PROXY; "
        f"{WITHOUT_HUB}"
    )
