"""A home folder for users that have none, as in containers with a uid of their own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def provide_home() -> None:
    """Let HOME and LOGNAME have values in this process and its children, if nothing says where the home folder is.

    Libraries ask for it when they are imported: nltk fails without one, and huggingface_hub makes a folder named `~`. The
    home is a temporary folder that belongs to this user. Call it after options are parsed, which refuse `~` without a home.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(_own_temporary_folder())
        os.environ.setdefault("LOGNAME", str(os.getuid()))


def _own_temporary_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"llm-summarization-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():  # somebody else made it first
        return Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
    return folder
