"""Names that become a part of a file's path, and files that must stay inside a folder."""

from __future__ import annotations

import re
from pathlib import Path

from summarybench.core.outcomes import InputError

NAME_PATTERN = r"^\w[\w.-]{0,99}\Z"
"""A name that is one part of a path, whatever the folder: no slash, no line break, no dot at its beginning."""
RULE = "letters, digits, dots, dashes and underscores, at most 100, and no dot or dash at the beginning"


def check_name(name: str, given_as: str) -> str:
    """The name, if it may become a part of a file's name. `given_as` begins the message. Raises InputError."""
    if not re.match(NAME_PATTERN, name):
        raise InputError(f"{given_as}{name}: use only {RULE}")
    return name


def check_within(path: Path, folder: Path) -> None:
    """Check that a path does not lead out of a folder, through symbolic links neither. Raises InputError."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path} leads to {path.resolve()}, out of {folder}; replace the link by what it should be")
