"""A streaming client for one OpenAI-compatible server: the text, when its parts arrived, and the server's own counts.

The suite measures servers as they are: a request that fails is a failed request, and is not repeated. A key is sent to
the given address and to no other, so that redirects are refused.

The one request that is sent again is one that the server never took: it had closed the unused connection before the
request arrived (RFC 9112, section 9.5). `Completion.is_resent` says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from summarybench.core.numbers import trimmed
from summarybench.core.outcomes import InputError, SuiteError, first_line
from summarybench.engines.server.answers import (
    Answer,
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
    from aiohttp import ClientResponse, ClientSession, TraceConfig

Clock = Callable[[], float]
Message = Mapping[str, str]

CONNECT_SECONDS, SILENCE_SECONDS = 10.0, 600.0
"""How long connecting may take, and how long a server may send no part of its answer: it may have a queue."""
FACTS_SECONDS = 60.0
"""How long a server may take to say who it is."""
KEPT_CONNECTION_SECONDS = 4.0
"""How long an unused connection is kept: uvicorn, which serves most engines, closes it after 5 s."""
CLOSED_BEFORE_SECONDS = 1.0
"""A kept connection that ends so soon after a request was sent had been closed before the request arrived."""
MOST_BYTES_OF_AN_ANSWER = 1_048_576
"""The most that is read of an answer that is no stream."""
ENDPOINTS = ("/chat/completions", "/completions")


class ServerError(SuiteError):
    """A request that failed; the message is one line with what the server said.

    `status` is the HTTP status of an answer that is no success; None for every other failure.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


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

    Raises InputError for an address that is none. Every request raises ServerError where it fails. It fails, too, if the
    server sends no part of its answer for `silence_seconds`; comments and incomplete lines do not count.
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
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            auto_decompress=False,  # compressed answers are refused: a few bytes may unpack to gigabytes
            trace_configs=[_reuse_noted()],
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
        return (await self._get(f"{self.address}/models", Models)).data

    async def facts_at(self, path: str) -> dict[str, Any]:
        """The JSON object at an absolute path of the server, such as /version."""
        url = f"{self.address.removesuffix('/v1')}{path}"
        return await self._get(url, dict[str, Any])

    async def chat(self, model: str, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Answer a chat whose prompt the server renders with its own template."""
        return await self.send(chat_request(model, messages, sampling))

    async def complete(self, model: str, prompt: str | Sequence[int], sampling: Sampling) -> Completion:
        """Continue a prompt that is rendered already: text, or token ids."""
        return await self.send(completion_request(model, prompt, sampling))

    async def send(self, request: Request) -> Completion:
        """Send a request, and read its answer to the end."""
        url, content = f"{self.address}/{request.path}", msgspec.json.encode(request.body)
        answer = StreamedAnswer(start_seconds=self._clock(), most_tokens=int(request.body["max_tokens"]))
        async with _Translated(url, self._silence_seconds), asyncio.timeout(self._silence_seconds) as patience:
            response, is_resent = await self._post(url, content)
            async with response:
                await self._check(response)
                if response.content_type != "text/event-stream":
                    raise AnswerError(f"not a stream of events: its type is {shortened(response.content_type)}")
                await self._read(response, answer, patience)
            return answer.completion(is_resent=is_resent)

    async def _read(self, response: ClientResponse, answer: StreamedAnswer, patience: asyncio.Timeout) -> None:
        now = asyncio.get_running_loop().time
        events = EventDecoder(answer.most_bytes)
        async for arrived in response.content.iter_any():
            for data in events.feed(arrived):
                answer.take(data, self._clock())
                patience.reschedule(now() + self._silence_seconds)

    async def _post(self, url: str, content: bytes) -> tuple[ClientResponse, bool]:
        """The response to a request, and whether the request was sent again on another connection."""
        from aiohttp import ClientOSError, ServerDisconnectedError

        now = asyncio.get_running_loop().time
        is_resent = False
        while True:
            connection, sent = _Connection(), now()
            try:
                response = await self._session.post(
                    url, data=content, allow_redirects=False, trace_request_ctx=connection
                )
            except (ClientOSError, ServerDisconnectedError):
                if not connection.is_reused or now() - sent > CLOSED_BEFORE_SECONDS:
                    raise
                is_resent = True
            else:
                return response, is_resent

    async def _get(self, url: str, kind: type[Answer]) -> Answer:
        seconds = min(FACTS_SECONDS, self._silence_seconds)
        async with (
            _Translated(url, seconds),
            asyncio.timeout(seconds),
            self._session.get(url, allow_redirects=False) as response,
        ):
            await self._check(response)
            return decoded(await _bounded_text(response, MOST_BYTES_OF_AN_ANSWER), kind)

    async def _check(self, response: ClientResponse) -> None:
        """Raise AnswerError for a response that is compressed, or not a success."""
        if (coding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise AnswerError(
                f"the answer is compressed ({shortened(coding)}) though the request forbids it; switch off compression in the server"
            )
        if response.status == 200:
            return
        if 300 <= response.status < 400:
            raise AnswerError(
                f"redirected to another address, which is refused{_place(response)}; give the final address"
            )
        said = shortened(message_in(await _bounded_text(response, MOST_BYTES_OF_AN_ANSWER)))
        hint = "; does the address lack /v1?" if response.status == 404 and not self.address.endswith("/v1") else ""
        if wait := response.headers.get("Retry-After"):
            hint += f" (Retry-After: {shortened(wait)})"
        said = f"HTTP {response.status} {shortened(response.reason or '')}: {said}{hint}"
        raise AnswerError(said, status=response.status)


def _place(response: ClientResponse) -> str:
    """Where a redirect leads, without the user and the query, which may hold a secret."""
    from yarl import URL

    try:
        place = response.url.join(URL(response.headers.get("Location", "")))
        return f" ({shortened(str(place.with_user(None).with_query(None).with_fragment(None)))})"
    except ValueError:
        return ""


@dataclass(slots=True)
class _Connection:
    """Whether a request was sent on a connection that had carried another one before."""

    is_reused: bool = False


def _reuse_noted() -> TraceConfig:
    """Makes the HTTP library note in a request's `_Connection` that its connection is not a new one."""
    from aiohttp import TraceConfig

    async def note(session: ClientSession, context: Any, parameters: Any) -> None:
        del session, parameters
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.is_reused = True

    tracing = TraceConfig()
    tracing.on_connection_reuseconn.append(note)
    return tracing


class _Translated:
    """Turns what the HTTP library raises into one line that names the URL and what to look at."""

    def __init__(self, url: str, silence_seconds: float) -> None:
        self._url = url
        self._silence_seconds = silence_seconds

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import aiohttp

        status = None
        match error:
            case AnswerError():
                said, status = str(error), error.status
            case aiohttp.ClientConnectorCertificateError():
                said = (
                    f"its certificate is not trusted ({shortened(first_line(error.certificate_error))}); if its authority is "
                    "your own, name the authority's file in the environment variable SSL_CERT_FILE"
                )
            case aiohttp.ClientConnectorSSLError():
                said = f"no TLS connection ({shortened(first_line(error))}); should the address begin with http://?"
            case aiohttp.ConnectionTimeoutError() | aiohttp.ClientConnectorError():
                reason = first_line(error).replace(" ssl:default", "")  # aiohttp says so for http:// too
                said = f"no server answers ({shortened(reason)}); is it running, and is the address right?"
            case TimeoutError():
                said = f"silent for {trimmed(self._silence_seconds)} s, so the request counts as failed"
            case EventTooLargeError() | UnicodeDecodeError():
                said = f"not a stream of events: {first_line(error)}"
            case aiohttp.ClientError() | OSError():
                said = f"the connection broke ({type(error).__name__}: {shortened(first_line(error))}); has the server died?"
            case _:
                return
        raise ServerError(f"{self._url}: {said}", status=status) from None


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
    bare = re.split(r"[?#]", address)[0].rstrip("/")
    if found.query_string or found.fragment:
        raise InputError(f"--server {bare}: leave out what follows the path, from the ? or # on")  # it may be a key
    if found.scheme not in ("http", "https") or not found.host:
        raise InputError(f"--server {bare}: give http:// or https:// with a host, such as http://127.0.0.1:8000/v1")
    if "," in bare:
        raise InputError(f"--server {bare}: give --server once for each address")
    for endpoint in ENDPOINTS:
        if bare.endswith(endpoint):
            raise InputError(f"--server {bare}: leave out {endpoint}, which the suite adds")
    return str(found).rstrip("/")


async def _bounded_text(response: ClientResponse, limit: int) -> str:
    """The first bytes of an answer as text; what comes after the limit is not read."""
    found = bytearray()
    async for arrived in response.content.iter_any():
        found += arrived
        if len(found) > limit:
            break
    return bytes(found[:limit]).decode("utf-8", errors="replace")
