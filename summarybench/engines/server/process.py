"""A server that the suite starts: its command, its log, when it is ready, and its certain end."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from summarybench.core.numbers import decimal
from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.engines.server.answers import shortened

READY_SECONDS = 1_800.0
"""How long a server may load and compile before it answers."""
POLL_SECONDS, HEALTH_SECONDS = 0.5, 5.0
LOG_LINES = 5
END_SECONDS = 30.0
HOST = "127.0.0.1"
NO_PROGRAM = 127
"""The exit code of a command whose program could not be started, as in a shell."""
CAUSE = re.compile(r"(?:^|[\s(])(?:[A-Za-z_][\w.]*(?:Error|Exception)|[Ee]rror|ERROR|[Ff]atal|FATAL): ")
"""Begins the message of an error, of Python or of a program that refuses its options."""
CAUSE_ABOVE = "root cause above"
"""vLLM's last error refers to an earlier one with these words."""
SECRET = re.compile(r"--(api-key|hf-token|token|password|secret)(=|$)|\w*(KEY|TOKEN|SECRET|PASSWORD)=", re.IGNORECASE)
"""Words of a command line that are followed by a secret or hold one."""


class ServerProcess:
    """A running server, started from a command and ended with `end` or with this process.

    `address` is where its API is. Its output goes to `log`.
    """

    def __init__(self, command: list[str], *, port: int, log: Path, environment: Mapping[str, str]) -> None:
        self.address = f"http://{HOST}:{port}/v1"
        self.log = log
        self._command = command
        keeper = [sys.executable, "-m", "summarybench.engines.server.keeper", *command]
        with log.open("ab") as output:  # it may hold the log of a server that has died
            self._log_start = output.tell()
            self._keeper = subprocess.Popen(  # noqa: S603  (the command that the person gave)
                keeper, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=dict(environment)
            )

    def wait_until_ready(
        self,
        on_wait: Callable[[float], None] = lambda _: None,
        *,
        health_paths: Sequence[str] = ("/v1/models",),
        patience_seconds: float = READY_SECONDS,
    ) -> None:
        """Return once one of the paths answers with 200. `on_wait` is called with the seconds so far.

        Raises UnavailableError where it ends before that, or does not answer in time, with the last lines of its log.
        """
        start = time.monotonic()
        while True:
            waited = time.monotonic() - start
            if (code := self._keeper.poll()) is not None:
                raise UnavailableError(f"the server ended {_how(code)} before it was ready{self._last_words()}")
            if any(_answers(f"{self.address.removesuffix('/v1')}{path}") for path in health_paths):
                return
            if waited > patience_seconds:
                raise UnavailableError(
                    f"the server did not answer within {decimal(patience_seconds, 0)} s{self._last_words()}"
                )
            on_wait(waited)
            time.sleep(POLL_SECONDS)

    def why_dead(self, patience_seconds: float = 0.0) -> str:
        """One line if the server has ended by itself, or does so within `patience_seconds`; empty while it runs."""
        try:
            code = self._keeper.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            return ""
        return f"the server ended {_how(code)}{self._last_words()}"

    def peak_memory_bytes(self) -> int:
        """The sum of the largest resident sets of the server's processes: an upper bound of their peak together."""
        import psutil

        total = 0
        for each in psutil.Process(self._keeper.pid).children(recursive=True):
            with suppress(psutil.Error, OSError):
                status = Path(f"/proc/{each.pid}/status").read_text(encoding="utf-8")
                found = re.search(r"VmHWM:\s+(\d+) kB", status)
                total += int(found.group(1)) * 1024 if found else 0
        return total

    def end(self) -> None:
        """End the server and everything that it started."""
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        try:
            self._keeper.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()

    def _last_words(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            text = file.read().decode(errors="replace")
        return f"; its log ({self.log}) {last_words(text)}"


def last_words(log: str) -> str:
    """The last lines of a server's log, preceded by the line that names the cause if that is further up."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return "is empty"
    before, last = lines[:-LOG_LINES], lines[-LOG_LINES:]
    said = f"ends with: {' | '.join(map(shortened, last))}"
    cause = "" if any(map(_names_cause, last)) else next(filter(_names_cause, reversed(before)), "")
    return f"says: {shortened(cause)} | and {said}" if cause else said


def _names_cause(line: str) -> bool:
    return CAUSE.search(line) is not None and CAUSE_ABOVE not in line


def _how(code: int) -> str:
    """How a process has ended, from its exit code: 128 and a signal's number stand for that signal, as in a shell."""
    if code == NO_PROGRAM:
        return f"with exit code {code} (install its program, or give its path in --server-command)"
    try:
        return f"by {signal.Signals(code - 128).name}"
    except ValueError:
        return f"with exit code {code}"


def _answers(url: str) -> bool:
    """Whether the address answers with 200, asked without a proxy."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=HEALTH_SECONDS) as response:
            return bool(response.status == 200)
    except (OSError, HTTPException):  # not yet
        return False


@contextmanager
def started_server(
    template: str, values: Mapping[str, str], *, log: Path, environment: Mapping[str, str]
) -> Iterator[ServerProcess]:
    """A server from a command line with {port} and the names of `values`; ended with the block, whatever ends it."""
    port = free_port()
    command = command_of(template, {**values, "port": str(port)})
    server = ServerProcess(command, port=port, log=log, environment=environment)
    try:
        yield server
    finally:
        server.end()


def command_of(template: str, values: Mapping[str, str]) -> list[str]:
    """The words of a command line, with the values put in after splitting: a model's name is one word.

    Raises InputError for a command line that cannot be split, is empty, does not say where {port} goes, or hands over a
    secret.
    """
    words = words_of(template)
    if not any("{port}" in word for word in words):
        raise InputError(
            f"--server-command {template!r}: say with {{port}} where the port goes, such as 'vllm serve {{model}} --port {{port}}'"
        )
    for name, value in values.items():
        words = [word.replace(f"{{{name}}}", value) for word in words]
    return words


def words_of(command: str) -> list[str]:
    """The words of a command line. Raises InputError where it cannot be split, and where it hands over a secret."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"--server-command {command!r}: {error}") from None
    if secret := next((word.partition("=")[0] for word in words if SECRET.match(word)), ""):
        raise InputError(
            f"--server-command: leave out {secret} and its value, which would be stored; set it in the environment, which the "
            "server inherits"
        )
    return words


def free_port() -> int:
    """A port that is free now; another program may still take it before the server does."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])
