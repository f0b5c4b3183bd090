"""The processes of one run and how they exchange values.

The only module that uses accelerate and torch.distributed. Processes wait for each other in `all_gather` only: all of
them come to it, or all of them learn why one did not. A process that dies is noticed by its closed connections and, on
one machine, by the launcher, which ends the others with SIGTERM. A process that hangs, or a machine that is lost, is
noticed by the timeout. Processes wait with gloo on GPUs too: a wait in NCCL keeps a core and the GPU busy, and does not
notice that the other side is gone.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from summarybench.core.numbers import decimal
from summarybench.core.outcomes import ProcessLostError, SuiteError, first_line
from summarybench.core.processes import Process
from summarybench.machine.device import Device

TIMEOUT_SECONDS = 300.0
"""How long to wait for a silent process. A dead one is noticed at once."""
LOADING_TIMEOUT_SECONDS = 1800.0
"""One machine may have to download the weights first."""
END = "the end of the session"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error of one process, as it is reported to the others."""

    error_type: type[SuiteError]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """A process's message to all others.

    It names the step at which the process is, and has a value or a failure.
    """

    place: str
    value: Any


class _ReportedByAnother(Exception):  # noqa: N818  (carries an error, and is never shown to a user)
    """An error that all processes know already. It must not be reported again."""

    def __init__(self, error: SuiteError) -> None:
        super().__init__()  # without the error's text, from which other code infers the kind of an error
        self.error = error


class Peers:
    """All processes of the run, including this one.

    Every process creates it at the same point, and waits for the others. `is_over` says that the processes cannot reach
    each other any more, `has_ended` that process 0 has come to the end of its session. Raises ProcessLostError where
    the processes cannot connect.
    """

    def __init__(self, process: Process, device: Device) -> None:
        import torch
        from accelerate import PartialState

        self.process = process
        self.is_over = False
        self.has_ended = False
        self._lost = ""
        self._is_attentive = False
        timeout = timedelta(seconds=TIMEOUT_SECONDS)
        try:
            self._state = PartialState(cpu=device.is_host, backend=device.collective_backend, timeout=timeout)
            self._waiting = torch.distributed.new_group(backend="gloo", timeout=timeout)
            device.divide_among(process.local_count)
            messages = self._exchange(_Message(place="start", value=_own_pid()), TIMEOUT_SECONDS)
            self._pids = [message.value for message in messages]
        except (RuntimeError, ValueError, NotImplementedError) as error:  # torch.distributed's are RuntimeErrors
            raise ProcessLostError(f"{process} cannot meet the others: {first_line(error)}") from error
        if process.reports:  # the others write nothing, and SIGTERM may end them
            signal.signal(signal.SIGTERM, self._note_termination)

    def shard(self, items: Sequence[T]) -> list[T]:
        """The part of the items for this process.

        All processes must have the same items in the same order. Process 0 gets the first of equal parts.
        """
        with self._state.split_between_processes(list(items)) as mine:
            return list(mine)

    def all_gather(self, place: str, value: T, *, timeout_seconds: float = TIMEOUT_SECONDS) -> list[T]:
        """The value of every process by rank, once all processes are here.

        `place` names this step: it is the same in all processes, and differs between steps. Raises the error that another
        process reported instead of a value, and ProcessLostError where a process is gone, silent for longer than the timeout,
        or at another step.
        """
        if self._lost:
            raise self._over(self._lost)
        try:
            messages = self._exchange(_Message(place=place, value=value), timeout_seconds)
        except RuntimeError as error:
            raise self._over(self._lost or self._who_is_gone() or _why(error, timeout_seconds)) from error
        for rank, each in enumerate(messages):
            if isinstance(each.value, Failure) and rank != self.process.rank:
                message = f"process {rank} of {self.process.count}: {each.value.message}"
                raise _ReportedByAnother(each.value.error_type(message))
        self.has_ended = messages[0].place == END
        elsewhere = [f"process {rank} is at {each.place}" for rank, each in enumerate(messages) if each.place != place]
        if elsewhere and place != END and not isinstance(value, Failure):  # a failure may be reported before its step
            raise self._over(f"the processes are out of step: {', '.join(elsewhere)}, {self.process} at {place}")
        return [each.value for each in messages if each.place == place]

    def run_in_all(
        self, place: str, do: Callable[[], T], *, timeout_seconds: Callable[[], float] = lambda: TIMEOUT_SECONDS
    ) -> list[T]:
        """The results of `do` in all processes, by rank.

        Where it fails in one process, all processes raise its error. `do` may call `all_gather`. `timeout_seconds` is
        called when this process is done.
        """
        try:
            mine = do()
        except _ReportedByAnother as reported:
            failure: Exception = reported.error
        except ProcessLostError:
            raise
        except Exception as error:
            failure = error
            self._report(place, error)
        else:
            try:
                return self.all_gather(place, mine, timeout_seconds=timeout_seconds())
            except _ReportedByAnother as reported:
                failure = reported.error
        raise failure

    @contextmanager
    def attentive(self) -> Iterator[None]:
        """Raise ProcessLostError at once when the launcher sends SIGTERM.

        Outside of this context, it is raised at the next step.
        """
        self._is_attentive = True
        try:
            yield
        finally:
            self._is_attentive = False

    def end(self, value: T) -> list[T]:
        """The values of all processes at the end of the session.

        Empty where they cannot reach each other any more.
        """
        if self.is_over:
            return []
        with suppress(ProcessLostError, _ReportedByAnother):
            values = self.all_gather(END, value)
            self._state.destroy_process_group()
            return values
        return []

    def _report(self, place: str, error: Exception) -> None:
        kind = type(error) if isinstance(error, SuiteError) else SuiteError
        message = first_line(error) if kind is not SuiteError else f"{type(error).__name__}: {first_line(error)}"
        with suppress(_ReportedByAnother):  # two processes that fail at once each keep their own error
            self.all_gather(place, Failure(error_type=kind, message=message))

    def _exchange(self, mine: _Message, timeout_seconds: float) -> list[_Message]:
        import torch
        from accelerate.utils import gather_object

        torch.distributed.monitored_barrier(self._waiting, timeout=timedelta(seconds=timeout_seconds))
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
        """Which processes of this machine have died; empty if none has."""
        here, _ = _own_pid()
        gone = [rank for rank, (host, pid) in enumerate(self._pids) if host == here and _is_gone(pid)]
        if not gone:
            return ""
        who = f"process {gone[0]} of" if len(gone) == 1 else f"processes {', '.join(map(str, gone))} of"
        return f"{who} {self.process.count} died: the launcher says why, after this report"


def _own_pid() -> tuple[str, int]:
    import os

    return socket.gethostname(), os.getpid()


def _is_gone(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _why(error: BaseException, timeout_seconds: float) -> str:
    """Gloo's long message as one line."""
    if "Timed out" in str(error):
        return f"{_named_by(error)} was silent for {decimal(timeout_seconds, 0)} s"
    if "closed by peer" in str(error) or "reset by peer" in str(error):
        return f"{_named_by(error)} is gone: the launcher's output on its machine says why"
    return f"the processes lost touch: {first_line(error)}"


def _named_by(error: BaseException) -> str:
    """The process that a failed barrier names, if it names one.

    Its message is '[Rank 0]: Rank 1 failed to pass monitoredBarrier'.
    """
    _, found, rest = first_line(error).partition("]: Rank ")
    return f"process {rest.split(' ')[0]}" if found else "another process"
