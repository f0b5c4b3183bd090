"""Make texts of others harmless before they are stored or shown: documents, models, exceptions, run files, branch names.

Control and format characters become visible escapes, so that no text moves the cursor, hides a part of itself or reads
backwards. Passwords and tokens become ***.
"""

from __future__ import annotations

import base64
import os
import re
import unicodedata
from collections.abc import Container, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from summarybench.core.text import is_printable_apart_from

HIDDEN = "***"
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of characters that a terminal or a page does not show as they are."""
USER_INFO = re.compile(r"(?<=://)[^/\s?#\"'<>]*@")
TOKENS = re.compile(r"\bhf_\w{16,}|(?<=[Bb]earer )[\w.~+/=-]{8,}")
NAMES_OF_SECRETS = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL")
WITHOUT_TEXT = frozenset({int, float, bool, type(None)})
"""The types of long lists of figures, which are not looked at one by one."""
SHORTEST_SECRET = 8
"""A shorter value of such a variable may be a common word, and hiding it would garble messages."""


_hidden_values: set[str] = set()
"""What `hide` was given in this process."""


def hide(secret: str) -> None:
    """Hide this value from now on, whatever the name of the variable that holds it."""
    _hidden_values.add(secret)


def inert(text: str, *, keep: str = "") -> str:
    """The text with visible control characters, apart from those in `keep`, and without secrets."""
    return _visible(_redacted(text, _secrets(os.environ)), keep)


def inert_record(value: Any, *, line_breaks_in: Container[str] = ()) -> Any:
    """A copy of a JSON value whose texts are inert. Its keys stay as they are.

    Texts below a key of `line_breaks_in` keep their line breaks.
    """
    return _inert_record(value, _secrets(os.environ), "", line_breaks_in)


def _inert_record(value: Any, secrets: tuple[str, ...], keep: str, line_breaks_in: Container[str]) -> Any:
    if isinstance(value, str):
        return _visible(_redacted(value, secrets), keep)
    if isinstance(value, dict):
        return {
            name: _inert_record(item, secrets, "\n" if name in line_breaks_in else keep, line_breaks_in)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        if WITHOUT_TEXT.issuperset(map(type, value)):
            return list(value)
        return [_inert_record(item, secrets, keep, line_breaks_in) for item in value]
    return value


def _visible(text: str, keep: str) -> str:
    if is_printable_apart_from(keep, text):
        return text
    return "".join(
        character if character in keep or unicodedata.category(character) not in INVISIBLE else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    r"""As in Python: \n, \x1b, \u202e."""
    return character.encode("unicode_escape").decode("ascii")


def _redacted(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = USER_INFO.sub(f"{HIDDEN}@", text)
    return TOKENS.sub(HIDDEN, text) if "hf_" in text or "earer " in text else text


def _secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values of variables that hold tokens, what `hide` was given, and the passwords in addresses; the longest first."""
    named = {value for name, value in environment.items() if NAMES_OF_SECRETS.search(name.upper())}
    addresses = frozenset(value for value in environment.values() if "://" in value and "@" in value)
    found = named | _hidden_values | _passwords_in(addresses)
    return tuple(sorted((each for each in found if len(each) >= SHORTEST_SECRET), key=len, reverse=True))


@lru_cache(maxsize=1)
def _passwords_in(addresses: frozenset[str]) -> frozenset[str]:
    return frozenset(
        form
        for address in addresses
        for found in USER_INFO.findall(address)
        for form in _forms(found.removesuffix("@"))
    )


def _forms(user_info: str) -> Iterator[str]:
    """The password as it was typed, decoded, and encoded again, and what clients send: user and password in base64.

    User info without a password is a token.
    """
    user, _, password = user_info.partition(":")
    secret = unquote(password or user)
    yield from (password or user, secret, quote(secret, safe=""), quote(secret))
    for encoding in ("utf-8", "latin-1"):
        sent = f"{unquote(user)}:{unquote(password)}".encode(encoding, errors="replace")
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(sent).decode("ascii").rstrip("=")
