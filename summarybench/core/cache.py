"""The user's cache folder, and folders in it that are filled once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from summarybench.core.outcomes import UnavailableError


def cache_folder() -> Path:
    """The folder for converted and generated models, in XDG_CACHE_HOME or ~/.cache.

    A user without a home folder, as in some containers, gets a temporary folder that no other user shares.
    """
    name = "llm-summarization-benchmarks"
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / name
    try:
        return Path.home() / ".cache" / name
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"


def fill_folder_once(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder, and rename it to `folder` when it is complete.

    `fill` is called with an empty folder.

    Two processes may do this at once: each fills a folder of its own, and the first rename wins. Raises UnavailableError if
    the folder cannot be written; no incomplete folder is left.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".filling-", dir=folder.parent))
        try:
            fill(temporary)
            temporary.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from its other users
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if not folder.is_dir():
            raise UnavailableError(
                f"cannot write the model cache {folder}: {error.strerror}; set XDG_CACHE_HOME to a writable folder with room"
            ) from error
