"""Servers that the suite can start or recognize, read from the TOML table beside this module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from summarybench.catalogue.entries import check_known, named
from summarybench.core.outcomes import InputError
from summarybench.core.tables import entry_of, read_table, shown

SERVERS_FILE = Path(__file__).with_name("servers.toml")


class PromptStyle(StrEnum):
    """Who renders a prompt with the chat template, and what is sent."""

    TOKENS = "tokens"
    """The suite renders it and sends token ids."""
    TEXT = "text"
    """The suite renders it and sends text, which the server tokenizes."""
    CHAT = "chat"
    """The server renders the chat with its own template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPreset:
    """A server: how to start it, how to recognize it, and what its requests need. servers.toml explains the fields."""

    name: str
    command: str = ""
    synthetic_command: str = ""
    health_path: str = ""
    model_id: str = ""
    owned_by: str = ""
    version_paths: tuple[str, ...] = ()
    version_key: str = ""
    version_package: str = ""
    prompt: str = PromptStyle.CHAT
    every_request: Mapping[str, Any] = field(default_factory=dict)
    full_length: Mapping[str, Any] = field(default_factory=dict)


def read_servers(path: Path = SERVERS_FILE) -> dict[str, ServerPreset]:
    """Read the servers, by name.

    Raises InputError that names the file, the entry and the value.
    """
    found: dict[str, ServerPreset] = {}
    for name, values in read_table(path).items():
        where = f"{shown(path)}: [{name}]"
        server = entry_of(ServerPreset, named(values, name), where)
        check_known(server.prompt, [each.value for each in PromptStyle], f"{where}: prompt")
        for key, command in (("command", server.command), ("synthetic_command", server.synthetic_command)):
            if command and "{port}" not in command:
                raise InputError(f"{where}: {key}: {command!r} must say with {{port}} where the port goes")
        found[name] = server
    return found


SERVERS = read_servers()
UNKNOWN_SERVER = ServerPreset(name="openai-compatible")
"""A server that nothing recognizes: only chats are certain to work."""


def recognized_server(owners: frozenset[str]) -> ServerPreset:
    """The server whose list of models names these owners."""
    known = (each for each in SERVERS.values() if each.owned_by and each.owned_by in owners)
    return next(known, UNKNOWN_SERVER)
