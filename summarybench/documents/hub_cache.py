"""The cache of the package datasets: which commits of a dataset it has, and reading one of them without the hub.

Without the hub, `load_dataset` returns whatever commit it cached last, and does not say so.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

COMMIT = re.compile(r"[0-9a-f]{40}")


def cached_rows(repository: str, configuration: str | None, commit: str, split: str) -> Any:
    """The rows of this commit's split as the cache has them; None if it does not have them whole."""
    import datasets
    from datasets.packaged_modules.cache.cache import Cache

    folders = _folders(repository, configuration or "*", commit)
    if len(folders) != 1:
        return None
    config, version, _ = folders[0].parts[-3:]
    with suppress(OSError, ValueError, datasets.exceptions.DatasetsError):  # an unreadable cache counts as empty
        builder = Cache(
            dataset_name=repository.rpartition("/")[2],
            repo_id=repository,
            config_name=config,
            version=version,
            hash=commit,
        )
        return builder.as_dataset(split=split)
    return None


def commit_in_cache(repository: str, revision: str) -> str | None:
    """The commit that a branch or tag was when it was last downloaded; None if it never was."""
    import huggingface_hub as hub

    with suppress(OSError, ValueError):
        found = hub.try_to_load_from_cache(repository, "README.md", repo_type="dataset", revision=revision)
        return Path(found).parent.name if isinstance(found, str) else None
    return None


def commit_of_rows(rows: Any) -> str | None:
    """The commit in the path of the files that rows are read from; None if they have none."""
    parts = (part for file in rows.cache_files for part in Path(file["filename"]).parts)
    return next((part for part in parts if COMMIT.fullmatch(part)), None)


def _folders(repository: str, configuration: str, commit: str) -> list[Path]:
    """The folders of a commit, as `datasets` names them: ORG___NAME/CONFIGURATION/VERSION/COMMIT."""
    import datasets
    from datasets.naming import camelcase_to_snakecase

    organization, _, name = repository.rpartition("/")
    folder = "___".join(part for part in (organization, camelcase_to_snakecase(name)) if part)
    root = Path(datasets.config.HF_DATASETS_CACHE).expanduser() / folder
    with suppress(OSError, ValueError):
        return [each for each in root.glob(f"{configuration}/*/{commit}") if each.is_dir()]
    return []
