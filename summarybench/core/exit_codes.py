"""How a command ends: from what it raised to its exit code and to the one line that says why."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from summarybench.core.outcomes import (
    DeviceInvalidError,
    ExitCode,
    InputError,
    MachineSlowerError,
    QualityError,
    SuiteError,
    UnavailableError,
)

WRONG_INPUT = 4
"""As pytest's: arguments, a file or a stored run cannot be used."""
INTERRUPTED = 128 + signal.SIGINT
"""What a shell reports for a command that Ctrl-C ended."""
OUTPUT_CLOSED = 128 + signal.SIGPIPE
"""What a shell reports for a command whose reader has gone, such as the first one of `... | head`."""


def exit_code_of(error: SuiteError) -> int:
    """The exit code of a command that ended with this error; sessions give the same errors the same codes."""
    match error:
        case InputError():
            return WRONG_INPUT
        case QualityError():
            return ExitCode.QUALITY
        case UnavailableError() | DeviceInvalidError() | MachineSlowerError():
            return ExitCode.NO_VERDICT
        case _:
            return ExitCode.FAILED


def run_to_exit_code(command: Callable[[], int], *, reports: bool = True) -> int:
    """Run a command and return its exit code; one line on standard error says what ended it early.

    A process that does not report, because another one of the same command does, ends without that line. Errors that
    are not SuiteErrors are faults of the program and keep their traceback.
    """
    try:
        code = _run(command, reports=reports)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_unwritten_output()
        return OUTPUT_CLOSED


def _run(command: Callable[[], int], *, reports: bool) -> int:
    try:
        return int(command())
    except SuiteError as error:
        code, line = exit_code_of(error), f"ERROR: {error}"
    except KeyboardInterrupt as interruption:
        code, line = INTERRUPTED, str(interruption) or "interrupted"
    except SystemExit as ended:  # argparse ends the process after --help
        code, line = (ended.code or 0, "") if isinstance(ended.code, int | None) else (ExitCode.FAILED, str(ended.code))
    if reports and line and sys.stderr is not None:
        sys.stderr.write(f"{line}\n")
    return code


def _discard_unwritten_output() -> None:
    """Let Python's own last flush succeed: it would complain about the closed pipe once more."""
    with Path(os.devnull).open("w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                with contextlib.suppress(OSError):  # a stream that is no file has nothing to be redirected
                    os.dup2(nowhere.fileno(), stream.fileno())
