"""A command-line option as data, for parsing, `--help` and documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    `type`, `default`, `metavar`, `choices` and `action` have argparse's meaning.

    `default_in_words` describes a default that depends on the device or on other options. Numbers below `minimum` are
    refused.
    """

    name: str
    meaning: str
    example: str = field(kw_only=True)
    is_everyday: bool = field(default=False, kw_only=True)
    default_in_words: str | None = field(default=None, kw_only=True)
    type: Callable[[str], Any] | None = field(default=None, kw_only=True)
    default: Any = field(default=None, kw_only=True)
    minimum: int | None = field(default=None, kw_only=True)
    metavar: str | None = field(default=None, kw_only=True)
    choices: Sequence[Any] | None = field(default=None, kw_only=True)
    action: str | None = field(default=None, kw_only=True)

    @property
    def key(self) -> str:
        """The attribute of the parsed options that holds the value."""
        return self.name.removeprefix("--").replace("-", "_")

    @property
    def placeholder(self) -> str:
        """The value's placeholder in a usage line; empty for a flag."""
        if self.action == "store_true":
            return ""
        return "|".join(map(str, self.choices)) if self.choices else self.metavar or "VALUE"

    @property
    def stated_default(self) -> str:
        if self.default_in_words:
            return self.default_in_words
        return "off" if self.action == "store_true" else str(self.default or "none")

    @property
    def help(self) -> str:
        """The help text for argparse, with a default that depends on something."""
        default = f" (default: {self.default_in_words})" if self.default_in_words else ""
        return f"{self.meaning}{default}".replace("%", "%%")

    @property
    def argparse_keywords(self) -> dict[str, Any]:
        names = ("type", "default", "metavar", "choices", "action")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {**given, "help": self.help}
