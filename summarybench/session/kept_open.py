"""What a kind of benchmark keeps open between its tests, such as a server that it has started."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar, cast

from summarybench.core.outcomes import SuiteError

T = TypeVar("T")


class KeptOpen:
    """At most one open context, which tests with the same key share."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._value: Any = None
        self._failed: dict[str, SuiteError] = {}
        self._stack = ExitStack()

    def get(
        self,
        key: str,
        make: Callable[[], AbstractContextManager[T]],
        is_usable: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """The open context of this key, opened now unless it is open and usable. Any other is closed first.

        What could not be opened is not tried again: the same error is raised.
        """
        if error := self._failed.get(key):
            raise type(error)(str(error))
        if key != self._key or not is_usable(cast(T, self._value)):
            self.close()
            try:
                self._value = self._stack.enter_context(make())
            except SuiteError as error:
                self._failed[key] = error
                raise
            self._key = key
        return cast(T, self._value)

    def close(self) -> None:
        """Close what is open, if anything is."""
        self._key = self._value = None
        self._stack.close()
