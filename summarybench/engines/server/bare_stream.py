"""A bare streaming loop on the standard library: what a request costs without the suite's client."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from summarybench.core.outcomes import first_line
from summarybench.engines.server.client import SILENCE_SECONDS, Request, ServerError


@dataclass(frozen=True, slots=True, kw_only=True)
class BareAnswer:
    """One answered request. Seconds are of `time.perf_counter`."""

    generated_tokens: int
    start_seconds: float
    first_token_seconds: float
    end_seconds: float


class BareStream:
    """One connection to the server at this address. Close it with `close`.

    A request fails once the server has been silent for `silence_seconds`.
    """

    def __init__(self, address: str, api_key: str | None, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        parts = urlsplit(address)
        connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = connect(parts.hostname or "", parts.port, timeout=silence_seconds)
        self._path = parts.path
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def send(self, request: Request) -> BareAnswer:
        """Send a request and read its answer. Raises ServerError where that fails."""
        try:
            return self._send(request)
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
            self._connection.close()
            raise ServerError(f"the bare loop failed: {type(error).__name__}: {first_line(error)}") from None

    def close(self) -> None:
        self._connection.close()

    def _send(self, request: Request) -> BareAnswer:
        # The bytes that the suite's client sends, and made before the clock starts, as the client makes them.
        body = json.dumps(request.body, ensure_ascii=False, separators=(",", ":")).encode()
        start = time.perf_counter()
        response = self._post(request.path, body)
        if response.status != 200:
            raise ServerError(f"the bare loop failed: HTTP {response.status}")
        first, end, tokens = 0.0, start, 0
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            end = time.perf_counter()
            if not first and _is_generated(json.loads(line[6:])):
                first = end
            if b'"usage"' in line and (usage := json.loads(line[6:]).get("usage")):
                tokens = int(usage["completion_tokens"])
        return BareAnswer(
            generated_tokens=max(tokens, 1),
            start_seconds=start,
            first_token_seconds=first or end,
            end_seconds=end,
        )

    def _post(self, path: str, body: bytes) -> http.client.HTTPResponse:
        """The response to a request, sent again where the server had closed the connection after an earlier one."""
        for is_kept in (self._connection.sock is not None, False):
            try:
                self._connection.request("POST", f"{self._path}/{path}", body, self._headers)
                return self._connection.getresponse()
            except ConnectionError:
                if not is_kept:
                    raise
                self._connection.close()
        raise AssertionError("the second try returns or raises")


def _is_generated(chunk: dict[str, Any]) -> bool:
    """As the suite's client decides which part is the first token's."""
    return any(
        (each.get("delta") or {}).get("content")
        or each.get("text")
        or ("text" in each and not each.get("finish_reason"))
        for each in chunk.get("choices") or []
    )
