"""`summarybench bench`: a first pass, and what it suspects once more in a fresh process, before it fails."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from summarybench.analysis.confirmation import is_measured_again
from summarybench.core.interrupts import SIGNALS
from summarybench.core.invocation import StartedBy, this_invocation
from summarybench.core.outcomes import ExitCode, InputError, SuiteError
from summarybench.core.processes import end_with, ending_with_this_process
from summarybench.runs.run_file import Run, read_run
from summarybench.runs.run_folder import environment_with, read_folder_file, shown
from summarybench.session.launch import pytest_command, pytest_environment

DECIDED = frozenset({ExitCode.CLEAN, ExitCode.FAILED, ExitCode.QUALITY, ExitCode.NO_VERDICT})
"""The exit codes of a session that came to its end and measured something."""
INTERRUPTED_SESSION = 2
"""Pytest's own code for Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All arguments go to pytest, --help among them."""


def run(options: argparse.Namespace) -> int:
    """Measure once, and what seems to have regressed once more; the exit code is that of the last session.

    Raises InputError where no temporary folder can be used.
    """
    if this_invocation().started_by is StartedBy.MAKE:
        end_with(os.getppid())  # make itself hands on nothing when it is killed
    try:
        return _run_passes(options.for_pytest)
    except KeyboardInterrupt:
        print("interrupted once the session had ended; nothing else is begun", file=sys.stderr)
        return INTERRUPTED_SESSION


def _run_passes(for_pytest: list[str]) -> int:
    own = _own_options(for_pytest)
    code, first = _measure_once(for_pytest)
    if code not in DECIDED or first is None or own.confirm:
        return code
    confirm = this_invocation().benchmarks(*_without_resume(for_pytest), "--confirm", shown(first))
    try:
        again = suspects(read_run(first / "run.json"), every=own.passes == "2")
    except SuiteError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        print(f"interrupted before the second pass; measure it with: {confirm}", file=sys.stderr)
        return INTERRUPTED_SESSION
    if not again:
        return code
    print(f"\nonce more in a fresh process, before it is decided: {', '.join(again)}\n", flush=True)
    return run_benchmarks([*_without_resume(for_pytest), "--confirm", str(first)])


def _measure_once(for_pytest: Sequence[str]) -> tuple[int, Path | None]:
    """The first session's exit code and results folder; None where it had none."""
    try:
        own = tempfile.TemporaryDirectory(prefix="first-pass-", ignore_cleanup_errors=True)
    except OSError as error:
        raise InputError(f"no temporary folder can be used ({error}); name a writable one in TMPDIR") from error
    with own as folder:
        # The session names its folder itself: results/latest may point to another run by then, which began meanwhile.
        folder_file = Path(folder) / "folder"
        return run_benchmarks(for_pytest, folder_file), read_folder_file(folder_file)


def _own_options(for_pytest: Sequence[str]) -> argparse.Namespace:
    """Those of pytest's options that the passes depend on; what is wrong with their values is for pytest to say."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--passes", nargs="?")
    parser.add_argument("--confirm", nargs="?", const=".")
    return parser.parse_known_args(for_pytest)[0]


def _without_resume(for_pytest: Sequence[str]) -> list[str]:
    """What a first pass took over of a run that was cut short is in its own folder."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume")
    return parser.parse_known_args(for_pytest)[1]


def suspects(run: Run, *, every: bool) -> list[str]:
    """The experiments that a run found REGRESSED; with `every`, all that it compared."""
    infos = (benchmark["extra_info"] for benchmark in run["benchmarks"])
    return [info["experiment"] for info in infos if is_measured_again(info, every=every)]


def run_benchmarks(arguments: Sequence[str], folder_file: Path | None = None) -> int:
    """One session of the benchmarks in a process of its own; its exit code, or what a signal makes of it in a shell.

    The session writes the path of its results folder into `folder_file`, where one is given.

    Signals are handed on: they may reach this process alone. A terminal sends Ctrl-C to both, and the session takes two in
    quick succession for one. If this process is killed, SIGTERM ends the session. So that nothing else is begun after a
    signal, raises SystemExit for SIGTERM and SIGHUP, and KeyboardInterrupt for a Ctrl-C that came too late for the session.
    """
    process: subprocess.Popen[bytes] | None = None
    received: list[int] = []

    def note(number: int, _: object) -> None:
        received.append(number)
        if process is not None:
            process.send_signal(number)

    earlier = {each: signal.signal(each, note) for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN}
    try:
        process = subprocess.Popen(
            pytest_command(arguments),
            env=pytest_environment(environment_with(folder_file)),
            preexec_fn=ending_with_this_process(),
        )
        for number in received:  # while it was being started
            process.send_signal(number)
        code = process.wait()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    for number in received:
        if number != signal.SIGINT:
            raise SystemExit(128 + number)
    if received and code in DECIDED:
        raise KeyboardInterrupt
    return code if code >= 0 else 128 - code
