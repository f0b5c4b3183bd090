"""Runs one command, and ends it and all that it started when standard input closes: `python -m …keeper COMMAND…`.

The suite starts servers through this program. It holds the other end of the pipe, so that the server ends with it even if
it is killed. Descendants are adopted (PR_SET_CHILD_SUBREAPER), so that a worker of the server which outlives it or has left
its process group is found and ended too.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36
PATIENCE_SECONDS = 10.0
"""How long a server may take to end by itself, and its workers after that."""


def main(command: list[str]) -> int:
    """Run the command until it ends or standard input does; its exit code, or 0 where it was ended.

    As in a shell, the exit code of a command that a signal has ended is 128 + the signal's number.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # of the terminal, or a group's: the pipe alone says when to end
    with suppress(AttributeError, OSError):  # Linux has it
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        server = subprocess.Popen(  # noqa: S603  (the command that the person gave)
            command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_with_default_signals
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    while server.poll() is None:
        if select.select([sys.stdin], [], [], 0.2)[0] and not os.read(sys.stdin.fileno(), 1):
            break
    code = server.poll()
    _end(server)
    if code is None:
        return 0
    return code if code >= 0 else 128 - code


def _with_default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, then each descendant that is left, and kill those that remain.

    The server comes first because it ends its own workers. If they ended before it, it would take that for a crash, and
    SGLang would then spend seconds on a diagnosis. Each of the two steps takes PATIENCE_SECONDS at most.
    """
    import psutil

    with suppress(subprocess.TimeoutExpired):
        server.terminate()  # does nothing if it has ended
        server.wait(PATIENCE_SECONDS)
    found = psutil.Process().children(recursive=True)
    for each in found:
        with suppress(psutil.Error):
            each.terminate()
    psutil.wait_procs(found, timeout=PATIENCE_SECONDS)
    for each in psutil.Process().children(recursive=True):  # once more: any of them may have started another
        with suppress(psutil.Error):
            each.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
