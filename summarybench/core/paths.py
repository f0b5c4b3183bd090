"""Paths as users type them."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path


def user_path(text: str) -> Path:
    """The path, with `~` as the home folder: a shell leaves `--option=~/folder` as it is.

    Raises ArgumentTypeError, which argparse reports in one line, if there is no home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ArgumentTypeError(
            f"{text}: the home folder is unknown; set the variable HOME or give the whole path"
        ) from error
