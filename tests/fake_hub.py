"""A hub on the loopback interface: one repository, with the answers of the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATED, SILENT = "org/gated", "org/silent"


class _Handler(BaseHTTPRequestHandler):
    repositories: dict[str, Path]
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.asked.append(path)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._describe("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main", is_tree="tree" in parts)
        elif "resolve" not in parts:
            self._refuse(404, "")
        else:
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _describe(self, repository: str, revision: str, *, is_tree: bool) -> None:
        if repository == SILENT:
            sleep(60)
        if repository == GATED:
            self._refuse(403, "GatedRepo")
        elif repository not in self.repositories:
            self._refuse(401, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        else:
            files = sorted(self.repositories[repository].iterdir())
            sizes = [{"path": each.name, "size": each.stat().st_size} for each in files]
            siblings = [{"rfilename": each["path"], "size": each["size"]} for each in sizes]
            tree = [{"type": "file", "oid": "0" * 40, **each} for each in sizes]
            self._send(
                json.dumps(tree if is_tree else {"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
            )

    def _file(self, repository: str, revision: str, name: str) -> None:
        path = self.repositories.get(repository, Path("/nowhere")) / name
        if revision not in ("main", COMMIT) or not path.is_file():
            self._refuse(404, "EntryNotFound")
        else:
            self._send(path.read_bytes())

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hash(body):x}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class _Gossip(BaseHTTPRequestHandler):
    """Answers every request with one status. The body repeats what the client sent, and adds a given text."""

    status: int
    says: str
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def _answer(self) -> None:
        self.asked.append(self.path)
        authorization = self.headers.get("Authorization", "")
        text = f"refused {authorization} at http://{self.headers['Host']}{self.path}: {self.says}"
        body = json.dumps({"error": text}).encode()
        self.send_response(self.status)
        if self.status == HTTPStatus.FOUND:
            self.send_header("Location", f"http://{self.says}@{self.headers['Host']}{self.path}")
        self.send_header("X-Error-Message", text)
        self.send_header("X-Request-Id", authorization)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def gossiping_hub(status: int, says: str) -> Iterator[tuple[int, list[str]]]:
    """A hub that answers every request with `status` and repeats every secret.

    Yields the port and the paths that were asked for. A redirect leads to the same path, with `says` as user info.
    """
    asked: list[str] = []
    with _serving(type("Handler", (_Gossip,), {"status": status, "says": says, "asked": asked})) as port:
        yield port, asked


@contextmanager
def fake_hub(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serve these folders as repositories. Yields the endpoint and the paths that were asked for."""
    asked: list[str] = []
    with _serving(type("Handler", (_Handler,), {"repositories": repositories, "asked": asked})) as port:
        yield f"http://127.0.0.1:{port}", asked


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
