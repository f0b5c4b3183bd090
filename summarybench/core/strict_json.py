"""Parse JSON from files that anyone may have written."""

from __future__ import annotations

import json
import math
from typing import Any

from summarybench.core.numbers import trimmed

LARGEST_NUMBER = 1e18
"""No quantity of a run comes near it. Larger numbers would overflow when they are squared or added up."""
DEEPEST_NESTING = 32
"""Levels of lists and objects. A run file has nine; much deeper ones exhaust Python's stack where they are written again."""
MOST_CHARACTERS = 60
"""Of a value that a message shows."""


class InvalidValueError(ValueError):
    """A key that is missing, or a value that is not allowed.

    The message names the key and the value.
    """


def parse_json(content: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Python's parser takes NaN, infinities and halves of surrogate pairs for values: `check_values` refuses them by their key.
    Raises InvalidValueError if the text is not JSON, or is nested too deeply for Python.
    """
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise InvalidValueError(f"it is nested more than {DEEPEST_NESTING} levels deep") from error
    except ValueError as error:  # bytes that are not UTF-8, too
        raise InvalidValueError(str(error)) from error


def _are_fit_numbers(values: list[Any]) -> bool:
    """Whether they are numbers and surely pass: long lists of figures are then not checked one by one."""
    return (
        bool(values)
        and set(map(type, values)) <= {float, int}
        and max(map(abs, values)) <= LARGEST_NUMBER
        and all(map(math.isfinite, values))
    )


def check_values(value: Any, where: str, levels: int = DEEPEST_NESTING) -> None:
    """Check that a value can be written as JSON again, and that no integer in it overflows a float.

    Raises InvalidValueError for infinite and undefined numbers, integers above LARGEST_NUMBER, halves of surrogate pairs, and
    more than `levels` levels of lists and objects. `where` begins the message.
    """
    match value:
        case float() if not math.isfinite(value):
            raise InvalidValueError(f"{where} is {value}, and must be a finite number")
        case int() if abs(value) > LARGEST_NUMBER:
            raise InvalidValueError(f"{where} is {shortened(value)}, and must be at most {trimmed(LARGEST_NUMBER)}")
        case str() if not is_valid_unicode(value):
            raise InvalidValueError(f"{where} is {shortened(value)}, and must be valid Unicode")
        case list() if levels and _are_fit_numbers(value):
            return
        case dict() | list() if not levels:
            raise InvalidValueError(f"{where[:MOST_CHARACTERS]}… is nested more than {DEEPEST_NESTING} levels deep")
        case dict():
            for name, item in value.items():
                check_values(name, where)
                check_values(item, inside(where, name), levels - 1)
        case list():
            for number, item in enumerate(value):
                check_values(item, f"{where}[{number}]", levels - 1)


def is_valid_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which no file can hold."""
    try:
        text.encode("utf-8")  # fails at surrogates
    except UnicodeEncodeError:
        return False
    return True


def inside(where: str, name: str) -> str:
    """The path of a key inside the object at the path `where`, which is empty for the whole file."""
    return f"{where}.{name}" if where else name


def shortened(value: Any) -> str:
    """A value as JSON for a message, cut after MOST_CHARACTERS."""
    text = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
