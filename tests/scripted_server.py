"""An OpenAI-compatible server that answers at once and misbehaves where its script says so.

`python -m tests.scripted_server PORT SCRIPT` runs it alone, and `serving` in a thread of a test. A script is a JSON object:

- `model`, `owned_by`, `version`: who it says it is, the version at `version_path`; `models_status` is the HTTP status of its
  list of models.
- `seconds_per_token`: how long a token takes; `seconds_to_first_token`: how long the first one does.
- `one_at_a_time`: requests wait for each other.
- `is_buffered`: the parts of an answer are sent together, as by a gateway that buffers.
- `faults`: by the number of the request (from 1), or "*" for all, how it is answered wrongly: an HTTP status, or a word
  of `FAULTS`. Requests for one token only find out who answers, and are not counted.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = (
    *("cut", "malformed", "silent", "drip", "die", "redirect"),
    *("huge", "hostile", "no usage", "overcount", "empty", "echo key"),
)
HOSTILE = "\x1b[2J</script><script>alert(1)</script>\u202e| a | `b` |\r\nx"


@dataclass
class Script:
    model: str = "my-org/My-Model"
    owned_by: str = "me"
    version: str = ""
    version_path: str = "/version"
    models_status: int = 200
    seconds_per_token: float = 0.0005
    seconds_to_first_token: float = 0.002
    one_at_a_time: bool = False
    is_buffered: bool = False
    faults: dict[str, Any] = field(default_factory=dict)
    chat_only: bool = True
    redirect_to: str = "http://127.0.0.1:9/v1"


class ScriptedServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, port: int, script: Script) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.script = script
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.counted = 0
        self.lock = threading.Lock()
        self.turn = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ScriptedServer

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        script = self.server.script
        self.server.requests.append((self.path, dict(self.headers), None))
        answers = {
            "/v1/models": {"data": [{"id": script.model, "owned_by": script.owned_by}]},
            "/health": {},
            **({script.version_path: {"version": script.version}} if script.version else {}),
        }
        if self.path == "/v1/models" and script.models_status != 200:
            self._answer(script.models_status, '{"detail": "no list"}')
            return
        self._answer(200 if self.path in answers else 404, json.dumps(answers.get(self.path, {})))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        if self.server.script.chat_only and "prompt" in body:
            self._answer(404, '{"detail": "Not Found"}')
            return
        fault = None
        with self.server.lock:
            if body["max_tokens"] > 1:
                self.server.counted += 1
                faults = self.server.script.faults
                fault = faults.get(str(self.server.counted), faults.get("*"))
        with self.server.turn if self.server.script.one_at_a_time else nullcontext():
            self._generate(body, fault)

    def _generate(self, body: dict[str, Any], fault: Any) -> None:
        if isinstance(fault, int):
            self._answer(fault, json.dumps({"error": {"message": f"scripted {fault}"}}))
            return
        if fault == "echo key":
            key = self.headers["Authorization"].removeprefix("Bearer ")
            self._answer(401, json.dumps({"error": {"message": f"no account has the key {key}"}}))
            return
        if fault == "redirect":
            self._answer(307, "", Location=self.server.script.redirect_to)
            return
        if fault == "die":
            os._exit(3)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        time.sleep(self.server.script.seconds_to_first_token)
        words, prompt_tokens = self._words(body)
        if fault == "empty":
            words = []
        for number, word in enumerate(words):
            if number:
                time.sleep(self.server.script.seconds_per_token)
            self._part(body, self._text(word, fault) if number == 0 else f" {word}")
            if number == 1 and self._misbehave(fault):
                return
        self._part(body, "", "length" if words else "stop")
        if fault != "no usage":
            generated = body["max_tokens"] + 1 if fault == "overcount" else len(words)
            self._event({"choices": [], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": generated}})
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _text(self, word: str, fault: Any) -> str:
        return HOSTILE if fault == "hostile" else "x" * 200_000 if fault == "huge" else word

    def _misbehave(self, fault: Any) -> bool:
        if fault == "malformed":
            self._chunk("data: {nonsense\n\n")
        if fault == "silent":
            time.sleep(60)
        if fault == "drip":
            for _ in range(240):
                self._chunk("d")
                time.sleep(0.25)
        if fault in ("cut", "malformed", "silent", "drip"):
            self.close_connection = True
            return True
        return False

    def _words(self, body: dict[str, Any]) -> tuple[list[str], int]:
        """The first words of the document as its summary, and how many tokens the prompt has."""
        if "prompt" in body:
            tokens = body["prompt"] if isinstance(body["prompt"], list) else body["prompt"].split()
            return [f"w{each}" for each in tokens[: body["max_tokens"]]], len(tokens)
        message = body["messages"][0]["content"].split()
        return message[8 : 8 + body["max_tokens"]], len(message) + 5

    def _part(self, body: dict[str, Any], text: str, finish_reason: str | None = None) -> None:
        content = {"text": text} if "prompt" in body else {"delta": {"content": text}}
        self._event({"choices": [{"index": 0, **content, "finish_reason": finish_reason}]})

    def _event(self, fields: dict[str, Any]) -> None:
        self._chunk(f"data: {json.dumps(fields)}\n\n")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        if self.server.script.is_buffered:
            self.held = getattr(self, "held", b"") + data
            data, self.held = (self.held, b"") if "[DONE]" in text else (b"", self.held)
        if data:  # an empty chunk would end the answer
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

    def _answer(self, status: int, text: str, **headers: str) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(**script: Any) -> Iterator[ScriptedServer]:
    """A server in a thread of this process, on a free port."""
    server = ScriptedServer(0, Script(**script))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    ScriptedServer(int(sys.argv[1]), Script(**json.loads(sys.argv[2]))).serve_forever()
