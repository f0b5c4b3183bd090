"""Shows how far a session is.

On a terminal it is one live line, drawn between rounds. Elsewhere it is a few lines for each experiment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from summarybench.core import session_seconds
from summarybench.core.inert_text import inert
from summarybench.core.numbers import decimal, short_duration
from summarybench.core.outcomes import Outcome
from summarybench.measure.generation import GenerationRecord


@dataclass(slots=True)
class Tally:
    """The timed documents of an experiment so far. Sums are kept, because adding up all records each time is quadratic."""

    documents: int = 0
    tokens: int = 0
    seconds: float = 0.0
    last: GenerationRecord | None = None

    def add(self, record: GenerationRecord) -> None:
        self.documents += 1
        self.tokens += record.generated_tokens
        self.seconds += record.seconds
        self.last = record


class Progress:
    """Shows the running experiment, its documents, its speed and the time left.

    Without a terminal, it writes a line when an experiment starts, one after its warm-up with the expected time, and one
    when it ends; none of them with -q.
    """

    def __init__(self, terminal: Any, capture: Any) -> None:
        self._terminal = terminal
        self._capture = capture
        self.is_live = bool(self._terminal and self._terminal.isatty)
        self._writes_lines = bool(self._terminal and not self.is_live and self._terminal.verbosity >= 0)
        self._running = ""
        self._start_seconds = 0.0

    def warn(self, line: str) -> None:
        """Write one yellow line that stays; nothing for an empty line."""
        if line:
            self.say(line, yellow=True)

    def say(self, line: str, **markup: bool) -> None:
        """Write one line that stays, on a terminal or not."""
        if not self._terminal:
            return
        try:
            self._terminal.ensure_newline()
            self._terminal.write_line(inert(line), **markup)
            self._terminal.flush()
        except BrokenPipeError:  # pytest meets it after the test, and ends the session; the test itself is measured
            self._terminal, self._writes_lines, self.is_live = None, False, False

    def note(self, line: str) -> None:
        """Write one line that stays, while a test runs."""
        with self._capture.global_and_fixture_disabled() if self._capture else nullcontext():
            self.say(line)

    def started(self, experiment: str) -> None:
        self._running, self._start_seconds = experiment, session_seconds.now()
        self._say_without_terminal(f"{experiment}: started")

    def warmed_up(self, experiment: str, seconds: float, *, rounds: int, expected_seconds: float | None) -> None:
        """Announce the timed rounds.

        `expected_seconds` is for all of them, None where the warm-up allows no estimate.
        """
        count = f"{rounds} timed rounds follow" if rounds != 1 else "1 timed round follows"
        estimate = "" if expected_seconds is None else f", about {short_duration(expected_seconds)}"
        self._say_without_terminal(f"{experiment}: warmed up in {short_duration(seconds)}; {count}{estimate}")

    def ended(self, experiment: str, outcome: Outcome, figures: Mapping[str, Any]) -> None:
        """Announce an experiment's end, if its start was announced.

        `figures` is its `extra_info`, empty where it was not measured.
        """
        if experiment != self._running:
            return
        self._running = ""
        seconds = session_seconds.now() - self._start_seconds
        words = [f"{outcome.value.replace('_', ' ')} after {short_duration(seconds)}"]
        if figures:
            words.append(f"{decimal(figures['generated_tokens_per_second'], 1)} tok/s")
        if figures.get("rouge1") is not None:
            words.append(f"ROUGE-1 {decimal(figures['rouge1'], 3)}")
        self._say_without_terminal(f"{experiment}: {', '.join(words)}")

    def _say_without_terminal(self, line: str) -> None:
        if self._writes_lines:
            with self._capture.global_and_fixture_disabled() if self._capture else nullcontext():
                self.say(line)

    @contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Show a step that takes long.

        Libraries may draw their own progress bars meanwhile.
        """
        with self._uncaptured():
            self._draw(text)
            try:
                yield
            finally:
                self._draw("")

    def show(self, text: str) -> None:
        """Show how far a step is; the next line that is shown replaces it."""
        with self._uncaptured():
            self._draw(text)

    def document(self, experiment: str, done: Tally, total: int) -> None:
        left = done.seconds / done.documents * (total - done.documents)
        line = (
            f"{experiment}  {done.documents} of {total}  {decimal(done.tokens / done.seconds, 1)} tok/s  {decimal(left, 0)} s left"
            if done.documents < total
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
            self._terminal.rewrite(inert(text), erase=True)
            self._terminal.flush()
        except OSError:  # the terminal was closed; SIGHUP ends the session, and no test fails for a missing line
            self.is_live = False
