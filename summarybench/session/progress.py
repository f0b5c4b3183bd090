"""One live line on a terminal, drawn between rounds; nothing where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from summarybench.measure.generation import GenerationRecord


class Progress:
    """Shows which experiment is at which document, its speed so far and the time left."""

    def __init__(self, terminal: Any, capture: Any) -> None:
        self._terminal = terminal
        self._capture = capture
        self.is_live = bool(self._terminal and self._terminal.isatty)

    def warn(self, line: str) -> None:
        """Say one line for good, on a terminal or not; nothing for an empty one."""
        if line and self._terminal:
            self._terminal.ensure_newline()
            self._terminal.write_line(line, yellow=True)

    @contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Show what takes long, and let the libraries draw their own bars meanwhile."""
        with self._uncaptured():
            self._draw(text)
            try:
                yield
            finally:
                self._draw("")

    def document(self, experiment: str, records: list[GenerationRecord], total: int) -> None:
        seconds = sum(record.seconds for record in records)
        tokens = sum(record.generated_tokens for record in records)
        left = seconds / len(records) * (total - len(records))
        line = (
            f"{experiment}  {len(records)} of {total}  {tokens / seconds:.1f} tok/s  {left:.0f} s left"
            if len(records) < total
            else ""
        )
        with self._uncaptured():
            self._draw(line)

    def _uncaptured(self) -> Any:
        return self._capture.global_and_fixture_disabled() if self.is_live and self._capture else nullcontext()

    def _draw(self, text: str) -> None:
        if not self.is_live:
            return
        try:
            self._terminal.ensure_newline()
            self._terminal.rewrite(text, erase=True)
            self._terminal.flush()
        except OSError:  # the terminal was closed; SIGHUP ends the session, and no test fails for a missing line
            self.is_live = False
