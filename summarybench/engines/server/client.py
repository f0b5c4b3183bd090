"""A streaming client for one OpenAI-compatible server: the text, when its parts arrived, and the server's own counts.

The suite measures servers as they are: nothing is retried, and a request that fails is a failed request. A key is sent to
the given address and to no other, so that redirects are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from summarybench.core.numbers import trimmed
from summarybench.core.outcomes import InputError, SuiteError, first_line
from summarybench.engines.server.answers import (
    AnswerError,
    Completion,
    Model,
    Models,
    StreamedAnswer,
    decoded,
    message_in,
    shortened,
)
from summarybench.engines.server.events import EventDecoder, EventTooLargeError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

Clock = Callable[[], float]
Message = Mapping[str, str]

CONNECT_SECONDS, SILENCE_SECONDS = 10.0, 600.0
"""How long connecting may take, and how long a server may be silent before the request has failed: it may have a queue."""
KEPT_CONNECTION_SECONDS = 4.0
"""How long an unused connection is kept: uvicorn, which serves most engines, closes it after 5 s."""
BYTES_PER_TOKEN = 4_096
"""The most that a server may send for each requested token, its JSON included; ten times what servers were seen to send."""
MOST_BYTES_OF_AN_ANSWER = 1_048_576
"""The most that is read of an answer that is no stream."""


class ServerError(SuiteError):
    """A request that failed; the message is one line with what the server said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the server is asked to generate: greedily unless a field says otherwise.

    `extra` is sent along as it is; vLLM's `ignore_eos` is an example.
    """

    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_body(self) -> dict[str, Any]:
        return {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed, **self.extra}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request for a streamed answer: the path below the address, and the JSON body."""

    path: str
    body: dict[str, Any]


def chat_request(model: str, messages: Sequence[Message], sampling: Sampling) -> Request:
    return _streamed("chat/completions", {"model": model, "messages": list(messages)}, sampling)


def completion_request(model: str, prompt: str | Sequence[int], sampling: Sampling) -> Request:
    return _streamed(
        "completions", {"model": model, "prompt": prompt if isinstance(prompt, str) else list(prompt)}, sampling
    )


def _streamed(path: str, fields: dict[str, Any], sampling: Sampling) -> Request:
    body = {**fields, **sampling.as_body(), "stream": True, "stream_options": {"include_usage": True}}
    return Request(path=path, body=body)


class ServerClient:
    """A client for the API below `address`, such as http://127.0.0.1:8000/v1. To be used as an async context manager.

    Raises InputError for an address that is none. Every request raises ServerError where it fails.
    """

    def __init__(
        self,
        address: str,
        *,
        clock: Clock,
        api_key: str | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.address = checked_address(address)
        self._clock = clock
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._silence_seconds = silence_seconds
        self._session: ClientSession

    def __repr__(self) -> str:
        return f"ServerClient({self.address!r})"

    async def __aenter__(self) -> Self:
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

        self._session = ClientSession(
            headers=self._headers,
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self._silence_seconds),
            # No limit: the load decides how many requests are in flight.
            connector=TCPConnector(limit=0, keepalive_timeout=KEPT_CONNECTION_SECONDS),
            cookie_jar=DummyCookieJar(),
            trust_env=False,  # a proxy or a .netrc of the environment would be measured too, or be sent the key
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def models(self) -> list[Model]:
        """The models that the server offers."""
        text = await self._get("models")
        async with self._translated("models"):
            return decoded(text, Models).data

    async def facts_at(self, path: str) -> dict[str, Any]:
        """The JSON object at an absolute path of the server, such as /version."""
        try:
            found = json.loads(await self._get(path, beside_api=True))
        except (ValueError, RecursionError) as error:
            raise ServerError(f"{self.address}{path}: malformed answer ({error})") from None
        return found if isinstance(found, dict) else {}

    async def chat(self, model: str, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer a chat whose prompt the server renders with its own template."""
        return await self.send(chat_request(model, messages, sampling))

    async def complete(self, model: str, prompt: str | Sequence[int], sampling: Sampling) -> Completion:
        """Continue a prompt that is rendered already: text, or token ids."""
        return await self.send(completion_request(model, prompt, sampling))

    async def send(self, request: Request) -> Completion:
        """Send a request, and read its answer to the end."""
        return await self._stream(request.path, request.body)

    async def _get(self, path: str, *, beside_api: bool = False) -> str:
        url = f"{self.address.removesuffix('/v1')}{path}" if beside_api else f"{self.address}/{path}"
        async with self._translated(path), self._session.get(url, allow_redirects=False) as response:
            text = await _bounded_text(response, MOST_BYTES_OF_AN_ANSWER)
            self._check_status(path, response, text)
        return text

    async def _stream(self, path: str, body: dict[str, Any]) -> Completion:
        tokens = int(body["max_tokens"])
        content = msgspec.json.encode(body)
        answer = StreamedAnswer(start_seconds=self._clock(), most_bytes=BYTES_PER_TOKEN * (tokens + 16))
        async with (
            self._translated(path),
            self._session.post(f"{self.address}/{path}", data=content, allow_redirects=False) as response,
        ):
            if response.status != 200:
                self._check_status(path, response, await _bounded_text(response, MOST_BYTES_OF_AN_ANSWER))
            if response.content_type != "text/event-stream":
                raise AnswerError(f"not a stream of events: its type is {shortened(response.content_type)}")
            events = EventDecoder(answer.most_bytes)
            async for arrived in response.content.iter_any():
                for data in events.feed(arrived):
                    answer.take(data, self._clock())
            return answer.completion()

    def _check_status(self, path: str, response: ClientResponse, text: str) -> None:
        if response.status == 200:
            return
        if 300 <= response.status < 400:
            raise ServerError(
                f"{self.address}/{path}: redirected to another address, which is refused; give the final address"
            )
        said = shortened(message_in(text))
        raise ServerError(f"{self.address}/{path}: HTTP {response.status} {shortened(response.reason or '')}: {said}")

    def _translated(self, path: str) -> _Translated:
        return _Translated(f"{self.address}/{path}", self._silence_seconds)


class _Translated:
    """Turns what the HTTP library raises into one line that names the address and what to look at."""

    def __init__(self, address: str, silence_seconds: float) -> None:
        self._address = address
        self._silence_seconds = silence_seconds

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import aiohttp

        match error:
            case AnswerError():
                said = str(error)
            case aiohttp.ConnectionTimeoutError() | aiohttp.ClientConnectorError():
                said = f"no server answers ({shortened(first_line(error))}); is it running, and is the address right?"
            case TimeoutError():
                said = f"silent for {trimmed(self._silence_seconds)} s, so the request counts as failed"
            case EventTooLargeError() | UnicodeDecodeError():
                said = f"not a stream of events: {first_line(error)}"
            case aiohttp.ClientError() | OSError():
                said = f"the connection broke ({type(error).__name__}: {shortened(first_line(error))}); has the server died?"
            case _:
                return
        raise ServerError(f"{self._address}: {said}") from None


def checked_address(address: str) -> str:
    """The address without a slash at its end.

    Raises InputError unless it is http:// or https:// with a host, without a user, a query or a fragment.
    """
    from yarl import URL

    try:
        found = URL(address)
    except ValueError as error:
        raise InputError(f"--server: not an address ({error}); give one such as http://127.0.0.1:8000/v1") from None
    if found.user or found.password:
        raise InputError(
            "--server: leave the user and the password out of the address; --api-key-env names a key's variable"
        )
    if found.scheme not in ("http", "https") or not found.host or found.query_string or found.fragment:
        raise InputError(f"--server {address}: give http:// or https:// with a host, such as http://127.0.0.1:8000/v1")
    return str(found).rstrip("/")


async def _bounded_text(response: ClientResponse, limit: int) -> str:
    """The first bytes of an answer as text; what comes after the limit is not read."""
    found = bytearray()
    async for arrived in response.content.iter_any():
        found += arrived
        if len(found) > limit:
            break
    return bytes(found[:limit]).decode("utf-8", errors="replace")
