"""From errors of commands to exit codes and lines on standard error."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from summarybench.core.inert_text import inert
from summarybench.core.outcomes import (
    DeviceInvalidError,
    ExitCode,
    InputError,
    MachineSlowerError,
    QualityError,
    SuiteError,
    UnavailableError,
)

INTERRUPTED = 128 + signal.SIGINT
"""The exit code that a shell reports for a command ended by Ctrl-C."""
OUTPUT_CLOSED = 128 + signal.SIGPIPE
"""The exit code that a shell reports for a command whose output nobody reads any more, as in `... | head`."""


def exit_code_of(error: SuiteError) -> int:
    """The exit code of a command that ended with this error.

    Sessions use the same codes.
    """
    match error:
        case InputError():
            return ExitCode.WRONG_INPUT
        case QualityError():
            return ExitCode.QUALITY
        case UnavailableError() | DeviceInvalidError() | MachineSlowerError():
            return ExitCode.NO_VERDICT
        case _:
            return ExitCode.FAILED


def run_to_exit_code(command: Callable[[], int], *, reports: bool = True) -> int:
    """Run a command and return its exit code.

    Write one line to standard error if it ends early.

    With `reports` False the line is omitted, because another process of the same command writes it. Errors other than
    SuiteError are bugs: their traceback is written, without the secrets in it.
    """
    try:
        code = _run(command, reports=reports)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        discard_unread_output()
        return OUTPUT_CLOSED


def _run(command: Callable[[], int], *, reports: bool) -> int:
    try:
        return int(command())
    except SuiteError as error:
        code, line = exit_code_of(error), f"ERROR: {inert(str(error))}"
    except KeyboardInterrupt as interruption:
        code, line = INTERRUPTED, str(interruption) or "interrupted"
    except SystemExit as ended:  # argparse ends the process after --help
        code, line = (ended.code or 0, "") if isinstance(ended.code, int | None) else (ExitCode.FAILED, str(ended.code))
    except BrokenPipeError:
        raise
    except Exception:
        code, line = ExitCode.FAILED, inert(traceback.format_exc().rstrip(), keep="\n")
    if reports and line and sys.stderr is not None:
        sys.stderr.write(f"{line}\n")
    return code


def discard_unread_output() -> None:
    """Redirect the standard streams that nobody reads any more: later writes and Python's final flush are silent."""
    with Path(os.devnull).open("w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and _is_unread(stream):
                with contextlib.suppress(OSError):  # only a stream with a file descriptor can be redirected
                    os.dup2(nowhere.fileno(), stream.fileno())


def _is_unread(stream: TextIO) -> bool:
    try:
        stream.flush()
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(events & select.POLLERR for _, events in poll.poll(0))
    except OSError:
        return True
