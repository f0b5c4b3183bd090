"""Servers that the suite starts: ready when they answer, and gone with all their children whatever ends the suite."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time

import psutil
import pytest

from summarybench.core.outcomes import InputError, UnavailableError
from summarybench.engines.server.process import LOG_LINES, command_of, last_words, started_server
from tests.forked import ENVIRONMENT, ROOT

ANSWERS = """
import http.server, json, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
print("worker", worker.pid, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"data": []}')
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

ENDS_ITS_WORKER = """
import signal, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
def end(number, frame):
    time.sleep(0.5)
    print("running" if worker.poll() is None else "crashed", flush=True)
    worker.kill()
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("worker", worker.pid, flush=True)
signal.pause()
"""


def test_server_ends_its_own_worker(tmp_path):
    with start(ENDS_ITS_WORKER, tmp_path) as server:
        deadline = time.monotonic() + 20
        while not server.log.read_text().endswith("\n"):
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)
        worker = worker_in(server.log)
    assert server.log.read_text() == f"worker {worker}\nrunning\n"
    assert_gone(worker)


def test_signal_that_ended_the_server_is_named(tmp_path):
    with start("import os, signal; os.kill(os.getpid(), signal.SIGILL)", tmp_path) as server:
        with pytest.raises(
            UnavailableError, match=r"the server ended by SIGILL before it was ready; its log \(.*\) is empty"
        ):
            server.wait_until_ready()
        assert server.why_dead().startswith("the server ended by SIGILL; ")


def program(text):
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(text)} {{port}}"


def start(text, tmp_path):
    return started_server(program(text), {"model": "a model"}, log=tmp_path / "server.log", environment=ENVIRONMENT)


def worker_in(log):
    return int(log.read_text().split()[1])


def assert_gone(process):
    deadline = time.monotonic() + 20
    while psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the process is still there"
        time.sleep(0.05)


def test_server_is_ready_once_it_answers_and_gone_with_its_worker_after_the_block(tmp_path):
    waited = []
    with start(ANSWERS, tmp_path) as server:
        server.wait_until_ready(waited.append)
        assert server.why_dead() == ""
        worker = worker_in(server.log)
        assert psutil.pid_exists(worker)
        assert server.peak_memory_bytes() > 2_000_000  # two Pythons
    assert_gone(worker)
    assert waited == sorted(waited)


def test_server_that_ends_early_is_one_line_with_the_end_of_its_log(tmp_path):
    with start("import sys; print('no such model'); sys.exit(3)", tmp_path) as server:
        with pytest.raises(UnavailableError) as caught:
            server.wait_until_ready()
        assert str(caught.value) == (
            f"the server ended with exit code 3 before it was ready; its log ({server.log}) ends with: no such model"
        )
        assert server.why_dead().startswith("the server ended with exit code 3; ")


HELP = [f"  --option-{number}  What it does." for number in range(30)]


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (["Usage: serve [OPTIONS]", "Error: No such option '--dtpe'.", *HELP], "Error: No such option '--dtpe'."),
        (["serve: error: unrecognized arguments: --dtpe", *HELP], "serve: error: unrecognized arguments: --dtpe"),
        (["an early ValueError: one", "torch.OutOfMemoryError: two", *HELP], "torch.OutOfMemoryError: two"),
        (
            ["(Core) ERROR [core.py:9] ValueError: No room.", *HELP, "RuntimeError: It failed. See root cause above."],
            "(Core) ERROR [core.py:9] ValueError: No room.",
        ),
    ],
)
def test_line_that_names_the_cause_is_shown_although_help_follows_it(lines, cause):
    said = last_words("\n".join(lines))
    assert said.startswith(f"says: {cause} | and ends with: --option-")
    assert said.count("|") == LOG_LINES


@pytest.mark.parametrize(
    "lines", [HELP, [*HELP, "ValueError: No."], ["No Errors", *HELP], ["Error: one", *HELP, "Error: two"]]
)
def test_log_without_an_earlier_cause_has_its_last_lines_alone(lines):
    assert last_words("\n".join(lines)) == f"ends with: {' | '.join(line.strip() for line in lines[-LOG_LINES:])}"


def test_log_of_an_earlier_server_names_no_cause(tmp_path):
    (tmp_path / "server.log").write_text("Error: of a server before\n" + "it ends\n" * 9)
    with (
        start("import sys; print('no such model'); sys.exit(3)", tmp_path) as server,
        pytest.raises(UnavailableError, match=r"its log \(.*\) ends with: no such model$"),
    ):
        server.wait_until_ready()


def test_server_that_never_answers_is_given_up(tmp_path):
    with (
        start("import time; time.sleep(60)", tmp_path) as server,
        pytest.raises(UnavailableError, match=r"did not answer within 1 s; its log .* is empty"),
    ):
        server.wait_until_ready(patience_seconds=1)


def test_program_that_is_not_there_says_so(tmp_path):
    with (
        started_server("no-such-program {port}", {}, log=tmp_path / "log", environment=ENVIRONMENT) as server,
        pytest.raises(
            UnavailableError,
            match=r"exit code 127 \(install its program, .*: no-such-program: No such file or directory",
        ),
    ):
        server.wait_until_ready()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_server_and_its_worker_die_with_the_suite(tmp_path, number):
    suite = """
import sys, time
from pathlib import Path
from tests.engines.test_server_process import ANSWERS, start
with start(ANSWERS, Path(sys.argv[1])) as server:
    server.wait_until_ready()
    print("ready", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", suite, str(tmp_path)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    worker = worker_in(tmp_path / "server.log")
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert_gone(worker)


def test_model_is_one_word_whatever_is_in_its_name():
    assert command_of("vllm serve {model} --port {port}", {"model": "a b; rm -rf", "port": "8"}) == [
        "vllm",
        "serve",
        "a b; rm -rf",
        "--port",
        "8",
    ]


@pytest.mark.parametrize("template", ["", "vllm serve {model}", "vllm 'serve {port}"])
def test_command_without_a_port_or_with_an_open_quote_is_refused(template):
    with pytest.raises(InputError, match="--server-command"):
        command_of(template, {"model": "m", "port": "1"})


@pytest.mark.parametrize(
    ("secret", "named"), [("--api-key sk-1", "--api-key"), ("--token=hf_1", "--token"), ("HF_TOKEN=hf_1", "HF_TOKEN")]
)
def test_secret_in_a_command_is_refused_and_not_repeated(secret, named):
    with pytest.raises(InputError) as caught:
        command_of(f"env serve {{model}} --port {{port}} {secret}", {})
    assert named in str(caught.value)
    assert "sk-1" not in str(caught.value)
    assert "hf_1" not in str(caught.value)


def test_tokenizers_and_limits_of_tokens_are_no_secrets():
    command = "vllm serve m --port {port} --tokenizer t --max-num-batched-tokens 8 --tokenizer-mode=auto"
    assert command_of(command, {"port": "1"})[-1] == "--tokenizer-mode=auto"
