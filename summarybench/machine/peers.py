"""The processes of one run and what they tell each other. The only module that talks to accelerate and torch.distributed.

Every wait is one `share`: all processes come to it, or all of them learn why one did not. A process that dies is noticed
by its closed connections and, on one machine, by the launcher, which ends the others with SIGTERM; one that hangs, or a
machine that vanishes, by the patience of the wait. Waiting is gloo's on GPUs too: a wait in NCCL keeps a core and the GPU
busy, and does not see that the other side is gone.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from summarybench.core.outcomes import ProcessLostError, SuiteError, first_line
from summarybench.core.processes import Process
from summarybench.machine.device import Device

PATIENCE_SECONDS = 300.0
"""How long a silent process is waited for. A dead one is not waited for."""
LOADING_PATIENCE_SECONDS = 1800.0
"""One machine may still have the weights to fetch."""
END = "the end of the session"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What one process failed of, as the others are told it."""

    error_type: type[SuiteError]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What a process brings to a meeting: where it is, and a value or a failure."""

    place: str
    value: Any


class _ToldByAnother(Exception):  # noqa: N818  (it carries an error, and is none that a user sees)
    """A failure that all processes know of by now: it must not be told again."""

    def __init__(self, error: SuiteError) -> None:
        super().__init__()  # without its text, in which others look for signs of what to make of an error
        self.error = error


class Peers:
    """All processes of the run, this one among them. Made in each of them at the same point, it waits for the others.

    `is_over` says that they do not meet any more, `has_ended` that process 0 has come to the end of its session.
    Raises ProcessLostError where they cannot meet.
    """

    def __init__(self, process: Process, device: Device) -> None:
        import torch
        from accelerate import PartialState

        self.process = process
        self.is_over = False
        self.has_ended = False
        self._lost = ""
        self._is_attentive = False
        patience = timedelta(seconds=PATIENCE_SECONDS)
        try:
            self._state = PartialState(cpu=not device.is_gpu, backend=device.collective_backend, timeout=patience)
            self._waiting = torch.distributed.new_group(backend="gloo", timeout=patience)
            device.divide_among(process.local_count)
            self._pids = [told.value for told in self._meet(_Told(place="start", value=_own_pid()), PATIENCE_SECONDS)]
        except (RuntimeError, ValueError, NotImplementedError) as error:  # torch.distributed's are RuntimeErrors
            raise ProcessLostError(f"{process} cannot meet the others: {first_line(error)}") from error
        if process.reports:  # the others have nothing to write: they may die of it
            signal.signal(signal.SIGTERM, self._note_termination)

    def deal(self, items: Sequence[T]) -> list[T]:
        """The part for this process of what all of them have in the same order: the first of equal parts for process 0."""
        with self._state.split_between_processes(list(items)) as mine:
            return list(mine)

    def share(self, place: str, value: T, *, patience_seconds: float = PATIENCE_SECONDS) -> list[T]:
        """The value of every process, by rank, once all are here.

        Raises what another process failed of instead, and ProcessLostError where one is gone, silent for longer than the
        patience, or elsewhere. `place` is the same in all processes, and another for each meeting.
        """
        if self._lost:
            raise self._over(self._lost)
        try:
            told = self._meet(_Told(place=place, value=value), patience_seconds)
        except RuntimeError as error:
            raise self._over(self._lost or self._who_is_gone() or _why(error, patience_seconds)) from error
        for rank, each in enumerate(told):
            if isinstance(each.value, Failure) and rank != self.process.rank:
                message = f"process {rank} of {self.process.count}: {each.value.message}"
                raise _ToldByAnother(each.value.error_type(message))
        self.has_ended = told[0].place == END
        elsewhere = [f"process {rank} is at {each.place}" for rank, each in enumerate(told) if each.place != place]
        if elsewhere and place != END and not isinstance(value, Failure):  # which may be told before its meeting
            raise self._over(f"the processes are out of step: {', '.join(elsewhere)}, {self.process} at {place}")
        return [each.value for each in told if each.place == place]

    def together(
        self, place: str, do: Callable[[], T], *, patience_seconds: Callable[[], float] = lambda: PATIENCE_SECONDS
    ) -> list[T]:
        """What `do` gives in each process, by rank; where it fails in one, it fails in all with that error.

        `do` may share on its way. `patience_seconds` is asked when this process is done.
        """
        try:
            mine = do()
        except _ToldByAnother as told:
            failure: Exception = told.error
        except ProcessLostError:
            raise
        except Exception as error:
            failure = error
            self._tell(place, error)
        else:
            try:
                return self.share(place, mine, patience_seconds=patience_seconds())
            except _ToldByAnother as told:
                failure = told.error
        raise failure

    @contextmanager
    def attentive(self) -> Iterator[None]:
        """While this process measures, the launcher's SIGTERM raises ProcessLostError; elsewhere, at the next meeting."""
        self._is_attentive = True
        try:
            yield
        finally:
            self._is_attentive = False

    def end(self, value: T) -> list[T]:
        """The last meeting: what each process has to say at its end. Empty where they do not come together any more."""
        if self.is_over:
            return []
        with suppress(ProcessLostError, _ToldByAnother):
            told = self.share(END, value)
            self._state.destroy_process_group()
            return told
        return []

    def _tell(self, place: str, error: Exception) -> None:
        kind = type(error) if isinstance(error, SuiteError) else SuiteError
        message = first_line(error) if kind is not SuiteError else f"{type(error).__name__}: {first_line(error)}"
        with suppress(_ToldByAnother):  # two processes that fail at once each keep their own error
            self.share(place, Failure(error_type=kind, message=message))

    def _meet(self, mine: _Told, patience_seconds: float) -> list[_Told]:
        import torch
        from accelerate.utils import gather_object

        torch.distributed.monitored_barrier(self._waiting, timeout=timedelta(seconds=patience_seconds))
        return list(gather_object([mine]))

    def _over(self, why: str) -> ProcessLostError:
        self.is_over = True
        return ProcessLostError(why)

    def _note_termination(self, *_: object) -> None:
        self._lost = self._who_is_gone() or (
            f"{self.process} was told to end (SIGTERM): another process of this run died, or somebody stopped the launcher"
        )
        if self._is_attentive:
            raise self._over(self._lost)

    def _who_is_gone(self) -> str:
        """The processes of this machine that have died; empty where none has."""
        here, _ = _own_pid()
        gone = [rank for rank, (host, pid) in enumerate(self._pids) if host == here and _is_gone(pid)]
        if not gone:
            return ""
        who = f"process {gone[0]} of" if len(gone) == 1 else f"processes {', '.join(map(str, gone))} of"
        return f"{who} {self.process.count} died: the launcher says of what, after this report"


def _own_pid() -> tuple[str, int]:
    import os

    return socket.gethostname(), os.getpid()


def _is_gone(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _why(error: BaseException, patience_seconds: float) -> str:
    """One line of what gloo says at length."""
    if "Timed out" in str(error):
        return f"{_named_by(error)} was silent for {patience_seconds:.0f} s"
    if "closed by peer" in str(error) or "reset by peer" in str(error):
        return f"{_named_by(error)} is gone: the launcher's output on its machine says of what"
    return f"the processes lost touch: {first_line(error)}"


def _named_by(error: BaseException) -> str:
    """The process that a failed barrier names, as far as it does: '[Rank 0]: Rank 1 failed to pass monitoredBarrier'."""
    _, found, rest = first_line(error).partition("]: Rank ")
    return f"process {rest.split(' ')[0]}" if found else "another process"
