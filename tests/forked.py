"""Sessions that fork off a process which has imported their libraries: importing is most of what a short one takes.

`forked_python` hands back an executable for where sys.executable stands. It lets the server of this process fork, hands its
standard streams, folder, environment and signals on, and ends as the fork does. What it is not made for, it leaves to Python.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import random
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from _pytest import main as pytest_main

LIBRARIES = (
    "_pytest.assertion.rewrite", "jinja2", "numpy.random", "pandas", "psutil", "pyarrow.parquet", "pytest",
    "rich.console", "rich.progress", "rich.table", "rouge_score.tokenize", "scipy.optimize", "scipy.stats",
)  # fmt: skip
"""What sessions import. Pytest would rewrite none of them."""
OWN_MODULES = (
    "summarybench.report.markdown", "summarybench.report.terminal", "summarybench.report.view",
    "summarybench.session.closing", "summarybench.session.launch", "summarybench.session.opening",
    "summarybench.session.plan",
)  # fmt: skip
"""The library's modules that a session imports, and with them nearly all of the library. They keep no state of a process."""
MODEL_LIBRARIES = (
    *LIBRARIES, "accelerate", "bitsandbytes", "tokenizers", "torch", "torch._dynamo", "transformers",
    "transformers.generation.utils", "transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama",
    "transformers.tokenization_utils_tokenizers",
)  # fmt: skip
"""What sessions with real models import, too: it takes several seconds. Sessions with fakes have a server without them."""

ROOT = Path(__file__).parent.parent


ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
    "PYTHONPATH": str(ROOT),
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    **({"OMP_NUM_THREADS": "1"} if "PYTEST_XDIST_WORKER" in os.environ else {}),  # others have the other cores
    "COLUMNS": "200",
}
"""Of every session: no GPU, whatever this machine has, and no hub; a worker of xdist must not pass on that it is one.

The libraries are imported in it: what is asked for in another one takes a Python of its own. It is as it was before any
library was imported, since some set variables.
"""

Asked = tuple[list[str], str, dict[str, str], list[int]]
"""Arguments, folder, environment and the signals that it ignores."""

SIGNALS = (int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGHUP))
TELL_PROCESS = "FORKED_TELL_PROCESS"
"""The variable with the file descriptor that the process id of the fork is written to."""

STUB = """#!{python} -IS
import os, socket, sys
words = sys.argv[1:]
is_buffered = words[:1] != ["-u"]  # as torchrun starts them
if words[not is_buffered:][:1] != ["-m"]:
    os.execv({python!r}, [{python!r}, *words])
import json, signal
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
told = os.environ.pop({tell_process!r}, None)
ignored = [number for number in {signals!r} if signal.getsignal(number) is signal.SIG_IGN]
request = json.dumps([words, os.getcwd(), dict(os.environ), ignored]).encode()
socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
server.sendall(request)
answers = server.makefile()
process = int(answers.readline())
if told:
    os.write(int(told), str(process).encode())
    os.close(int(told))
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(process, number))
code = int(answers.readline() or 1)
if code < 0:
    if -code != signal.SIGKILL:  # whose handling nothing can set
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def forked_python(*, with_models: bool = False) -> str:
    """`_forked_python`, of which there is one for each kind, however a caller says it."""
    return _forked_python(with_models=with_models)


@cache
def _forked_python(*, with_models: bool) -> str:
    """The executable. Its server imports the libraries in this process's environment, and ends with it.

    `with_models` is for what loads real models. It needs Linux's file descriptors of processes; elsewhere it is Python.
    """
    if not hasattr(os, "pidfd_open"):
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="forked-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    stub, address = folder / "python", folder / "socket"
    values = {"python": sys.executable, "address": str(address), "signals": SIGNALS, "tell_process": TELL_PROCESS}
    stub.write_text(STUB.format(**values))
    stub.chmod(0o700)
    command = [sys.executable, "-m", "tests.forked", str(address), str(stub), *(["with models"] if with_models else [])]
    server = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(server.communicate)  # the end of its standard input ends it
    if server.stdout is None or server.stdout.readline() != b"ready\n":
        raise RuntimeError("the server that sessions fork off did not start")
    return str(stub)


class ForkedProcess(subprocess.Popen[str]):
    """A session in a fork whose process id is known, so that signals reach it at once and none is lost on the way.

    `forked_id` is that process id; `pid` is of the process that waits for it. Its exit code is the fork's, or minus the
    signal that ended it.
    """

    def __init__(self, command: list[str], *, env: dict[str, str], **options: Any) -> None:
        read, write = os.pipe()
        command = [forked_python(), *command[1:]]
        super().__init__(command, env={**env, TELL_PROCESS: str(write)}, pass_fds=[write], text=True, **options)
        os.close(write)
        with os.fdopen(read) as said:
            self.forked_id = int(said.read() or self.pid)  # where nothing forks, nothing is said

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended since it was polled
                os.kill(self.forked_id, sig)


class Server:
    """Forks for each that asks, tells it the process and then its exit code, and kills what nobody waits for any more."""

    def __init__(self, address: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        self._selector = selectors.DefaultSelector()
        self._running: dict[socket.socket, int] = {}
        self._is_over = False

    def serve(self) -> Asked | None:
        """In each fork what it is asked to run; in the server None, once the process that started it is gone."""
        self._watch(sys.stdin, self._end)
        self._watch(self._listener, self._fork)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not self._is_over:
            for key, _ in self._selector.select():
                if asked := key.data():
                    return asked
        return None

    def _watch(self, file: Any, on_event: Callable[[], Asked | None]) -> None:
        self._selector.register(file, selectors.EVENT_READ, on_event)

    def _fork(self) -> Asked | None:
        connection, _ = self._listener.accept()
        asked, streams = _receive(connection)
        process = os.fork()
        if not process:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            self._selector.close()
            os.closerange(3, 1024)
            return asked
        for stream in streams:
            os.close(stream)
        connection.sendall(f"{process}\n".encode())
        self._running[connection] = process
        ended = os.pidfd_open(process)
        self._watch(ended, partial(self._tell_end, ended, process, connection))
        self._watch(connection, partial(self._kill, connection))
        return None

    def _tell_end(self, ended: int, process: int, connection: socket.socket) -> None:
        self._selector.unregister(ended)
        os.close(ended)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if self._running.pop(connection, None):
            self._selector.unregister(connection)
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(f"{code}\n".encode())
        connection.close()

    def _kill(self, connection: socket.socket) -> None:
        """Whoever asked is gone; so may be what was asked for, of which both came to be known at once."""
        if process := self._running.pop(connection, None):
            self._selector.unregister(connection)
            os.kill(process, signal.SIGKILL)

    def _end(self) -> None:
        for process in self._running.values():
            os.kill(process, signal.SIGKILL)
        self._is_over = True


def _receive(connection: socket.socket) -> tuple[Asked, list[int]]:
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    left, parts = int.from_bytes(head, "big"), []
    while left:
        parts.append(connection.recv(left))
        left -= len(parts[-1])
    asked: Asked = json.loads(b"".join(parts))
    return asked, streams


def _keep_frozen() -> None:
    """Let garbage collections visit only the objects of a session's tests, never those that the server has frozen.

    After the suite's own `gc.unfreeze` they would visit all of it, so neither that nor `gc.freeze` does anything. Instead,
    what the session has imported and collected is frozen before its tests run: it is most of what there is.
    """
    freeze, run_tests = gc.freeze, pytest_main.pytest_runtestloop
    gc.freeze = gc.unfreeze = lambda: None

    def pytest_runtestloop(session: Any) -> Any:
        freeze()
        return run_tests(session)

    pytest_main.pytest_runtestloop = pytest_runtestloop


def main() -> None:
    address, stub, *with_models = sys.argv[1:]
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # as the suite does before it imports it
    for name in (*(MODEL_LIBRARIES if with_models else LIBRARIES), *OWN_MODULES):
        importlib.import_module(name)
    # A model library imports it, it is a pytest plugin too, and pytest would warn that it can no longer rewrite it.
    for name in [each for each in sys.modules if each.partition(".")[0] == "anyio"]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()  # or each fork's collections would visit, and so copy, all that was imported
    asked = Server(address).serve()
    if asked is None:
        shutil.rmtree(Path(address).parent, ignore_errors=True)  # whoever made it may have been killed
        return
    words, folder, environment, ignored = asked
    if words[0] == "-u":
        sys.stdout.reconfigure(write_through=True)
        del words[0]
    _, module, *arguments = words
    for number in SIGNALS:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else usual)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    _keep_frozen()
    random.seed()
    sys.modules["numpy.random"].seed()
    sys.executable = stub
    sys.path[0] = folder
    sys.argv = [module, *arguments]
    sys.modules.pop("tests", None)
    code: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    # As the interpreter ends, but for taking all modules apart, which takes seconds.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
