"""The client against servers that break the protocol: one line each, in bounded time, and the key goes nowhere else."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import ssl
import subprocess
import time
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import msgspec
import pytest

from summarybench.engines.server import bare_stream, client
from summarybench.engines.server.bare_stream import BareStream
from summarybench.engines.server.client import Sampling, ServerClient, ServerError, chat_request

MESSAGES = [{"role": "user", "content": "Summarize this."}]
PATIENCE_SECONDS = 60.0
"""No test waits so long: a busy machine must not make a server seem silent."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
EVENTS = HEAD + b"\r\n"


def event(**fields):
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def part(text, finish_reason=None):
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}])


def usage(prompt, generated):
    return event(choices=[], usage={"prompt_tokens": prompt, "completion_tokens": generated})


WHOLE = part("Two") + part(" words", "stop") + usage(12, 2) + b"data: [DONE]\n\n"


OLLAMA = part("Two") + part(" words") + part("", "stop") + usage(12, 2) + b"data: [DONE]\n\n"
"""The reason comes in a part without text, and the counts in an event of their own (openai/openai.go)."""
TGI = (
    event(choices=[{"index": 0, "delta": {"role": "assistant", "content": "Two"}, "finish_reason": None}], usage=None)
    + event(choices=[{"index": 0, "delta": {"content": " words"}, "finish_reason": "eos_token"}], usage=None)
    + usage(12, 2)
).replace(b"data: ", b"data:")
"""The reason has a name of its own, and no space follows the colon."""


def kept(body):
    """A whole answer after which the connection stays open."""
    head = HEAD.replace(b"Connection: close", b"Content-Length: %d" % len(body))
    return head + b"\r\n" + body


class Hostile:
    """A server whose connections `serve` answers; it counts the requests that it has read, with heads and bodies."""

    def __init__(self, serve):
        self._serve = serve
        self.heads = []
        self.bodies = []
        self.address = ""

    async def request(self, reader):
        """Read one request; None where the client has closed the connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")), 0)
        self.bodies.append(await reader.readexactly(length))
        self.heads.append(head.decode())
        return head

    @asynccontextmanager
    async def running(self, host="127.0.0.1", tls=None):
        tasks = set()

        async def connected(reader, writer):
            tasks.add(asyncio.current_task())
            with suppress(ConnectionError, asyncio.CancelledError):
                await self._serve(self, reader, writer)
            writer.close()

        listening = await asyncio.start_server(connected, host, 0, ssl=tls)
        port = listening.sockets[0].getsockname()[1]
        self.address = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/v1"
        async with listening:
            yield self
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def answering(*pieces, pause=0.0, forever=None):
    """Serve each connection once with these pieces, and then one more of them every `pause` seconds."""

    async def serve(server, reader, writer):
        await server.request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        while forever is not None:
            writer.write(forever)
            await writer.drain()
            await asyncio.sleep(pause)

    return Hostile(serve)


def ask(server, *, times=1, gap=0.0, get=None, silence_seconds=PATIENCE_SECONDS, **options):
    """Ask so often, one request after the other; the answers."""

    async def run():
        async with (
            server.running(**{name: options.pop(name) for name in ("host", "tls") if name in options}),
            ServerClient(server.address, clock=time.perf_counter, silence_seconds=silence_seconds, **options) as client,
        ):
            if get:
                return await client.facts_at(get)
            found = []
            for number in range(times):
                await asyncio.sleep(gap if number else 0)
                found.append(await client.chat("a model", MESSAGES, Sampling(max_tokens=8)))
            return found

    return asyncio.run(run())


def why_failed(server, **options):
    with pytest.raises(ServerError) as caught:
        ask(server, **options)
    line = str(caught.value)
    assert line.startswith(server.address.removesuffix("/v1"))
    assert "\n" not in line
    assert len(line) < 500
    return line


SLOWLY = {"pause": 0.02}
LETTERS = [bytes([each]) for each in b"data: {" + b" " * 500]


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(answering(EVENTS, *LETTERS, **SLOWLY), id="line-one-byte-at-a-time"),
        pytest.param(answering(EVENTS, part("Two"), *LETTERS, **SLOWLY), id="after-a-part"),
        pytest.param(answering(HEAD, *LETTERS, **SLOWLY), id="head-one-byte-at-a-time"),
        pytest.param(answering(b"HTTP/1.1 500 No\r\n\r\n", *LETTERS, **SLOWLY), id="error-one-byte-at-a-time"),
        pytest.param(answering(EVENTS, forever=b": comment\r\n\r\n", **SLOWLY), id="comments-forever"),
        pytest.param(answering(EVENTS, forever=b"id: 7\n\n", **SLOWLY), id="ids-forever"),
        pytest.param(answering(forever=b"HTTP/1.1 100 Continue\r\n\r\n", **SLOWLY), id="continue-forever"),
    ],
)
def test_server_that_only_keeps_the_connection_busy_is_silent(server):
    line = why_failed(server, silence_seconds=0.5)
    assert line.endswith("silent for 0.5 s, so the request counts as failed")


def test_slow_server_may_take_longer_than_it_may_be_silent():
    slow = answering(EVENTS, *[part("x")] * 5, part("x", "length"), usage(12, 6), pause=0.35)
    (found,) = ask(slow, silence_seconds=1.5)
    assert found.text == "xxxxxx"
    assert found.end_seconds - found.start_seconds > 1.5


@pytest.mark.parametrize(
    ("server", "said"),
    [
        pytest.param(
            answering(EVENTS, forever=b"data: {}\n\n" * 50), "has more than the 98,304 bytes that", id="empty-events"
        ),
        pytest.param(
            answering(EVENTS, forever=part("x") * 50), "has more than the 98,304 bytes that", id="endless-text"
        ),
        pytest.param(
            answering(EVENTS, b"data: ", forever=b"x" * 1_000_000),
            "an event exceeded the limit of",
            id="line-without-end",
        ),
        pytest.param(
            answering(EVENTS, forever=b"data: xxxxxxxxxxxxxxxx\n" * 1_000),
            "an event exceeded the limit of",
            id="event-without-end",
        ),
        pytest.param(
            answering(HEAD, forever=b"X-More: header\r\n" * 1_000), "the connection broke", id="headers-without-end"
        ),
        pytest.param(
            answering(EVENTS, b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n'),
            "malformed answer",
            id="invalid-utf-8",
        ),
        pytest.param(
            answering(EVENTS, b"data: {}\ndata: {}\n\n"), "malformed answer", id="two-events-without-a-blank-line"
        ),
        pytest.param(
            answering(EVENTS, part("Two") + usage(12, 1)),
            "ended after 1 parts, before the answer did",
            id="reason-missing",
        ),
        pytest.param(
            answering(EVENTS, event(choices=[]), usage(12, 1)),
            "ended after 0 parts, before the answer did",
            id="no-choices",
        ),
        pytest.param(
            answering(EVENTS, part("Two", "stop"), usage(12, 9)),
            "counts 9 generated tokens, but was asked for at most 8",
            id="too-many-tokens",
        ),
        pytest.param(
            answering(EVENTS, part("Two", "stop"), usage(12, 0)),
            "counts 0 generated tokens for an answer that has text",
            id="no-tokens",
        ),
        pytest.param(
            answering(EVENTS, part("Two", "abort"), usage(12, 1)),
            "broke off its answer: its finish_reason is abort",
            id="aborted",
        ),
        pytest.param(
            answering(HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(WHOLE)),
            "is compressed (gzip)",
            id="compressed",
        ),
        pytest.param(
            answering(b"HTTP/1.1 429 Slow\r\nRetry-After: 3600\r\nContent-Length: 2\r\n\r\nno"),
            "HTTP 429 Slow: no",
            id="retry-after",
        ),
    ],
)
def test_broken_answer_is_one_line(server, said):
    assert said in why_failed(server)
    assert len(server.heads) == 1  # it is not asked again


def test_compressed_facts_are_refused_before_they_are_unpacked():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: GZIP\r\nConnection: close\r\n\r\n"
    bomb = gzip.compress(b"[" * 50_000_000)
    assert "is compressed (gzip)" in why_failed(answering(head, bomb), get="/version")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + WHOLE, id="http-1.0"),
        pytest.param(EVENTS + b": ping\r\n\r\n" + WHOLE.replace(b"\n", b"\r\n"), id="comment-and-crlf"),
        pytest.param(EVENTS + WHOLE.replace(b"data: {", b"event: x\ndata: {\ndata: "), id="data-in-two-lines"),
        pytest.param(EVENTS + event(choices=[], usage=None) + WHOLE, id="no-choices-first"),
        pytest.param(EVENTS + OLLAMA, id="as-ollama-ends"),
        pytest.param(EVENTS + TGI, id="as-tgi-writes"),
    ],
)
def test_unusual_but_valid_stream_is_read(answer):
    (found,) = ask(answering(answer))
    assert (found.text, found.generated_tokens, found.is_resent) == ("Two words", 2, False)


def test_request_that_the_server_refuses_is_not_repeated_and_the_next_one_is_answered():
    async def serve(server, reader, writer):
        while await server.request(reader):
            refusal = b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops"
            writer.write(refusal if len(server.heads) == 1 else kept(WHOLE))

    server = Hostile(serve)

    async def run():
        async with server.running(), ServerClient(server.address, clock=time.perf_counter) as client:
            with pytest.raises(ServerError, match="HTTP 500 Oops: oops"):
                await client.chat("a model", MESSAGES, Sampling(max_tokens=8))
            return await client.chat("a model", MESSAGES, Sampling(max_tokens=8))

    assert asyncio.run(run()).text == "Two words"
    assert len(server.heads) == 2


def closing_unused_connections(server_reads):
    """A server that closes a connection after one answer, without saying so; it may read the next request before that."""

    async def serve(server, reader, writer):
        await server.request(reader)
        writer.write(kept(WHOLE))
        if server_reads:
            await reader.readuntil(b"\r\n\r\n")
        else:
            await asyncio.sleep(0.05)

    return Hostile(serve)


@pytest.mark.parametrize("server_reads", [False, True])
def test_request_on_a_connection_that_was_closed_meanwhile_is_sent_again_and_counted(server_reads, monkeypatch):
    monkeypatch.setattr("summarybench.engines.server.client.CLOSED_BEFORE_SECONDS", PATIENCE_SECONDS)
    server = closing_unused_connections(server_reads)
    first, second = ask(server, times=2, gap=0.0 if server_reads else 0.2)
    assert (first.text, second.text) == ("Two words", "Two words")
    assert (first.is_resent, second.is_resent) == (False, server_reads)
    assert len(server.heads) == 2


def test_bare_loop_sends_again_on_a_connection_that_was_closed_meanwhile():
    async def run():
        async with closing_unused_connections(server_reads=False).running() as server:
            bare = BareStream(server.address, None)
            request = chat_request("a model", MESSAGES, Sampling(max_tokens=8))
            first = await asyncio.to_thread(bare.send, request)
            await asyncio.sleep(0.2)
            second = await asyncio.to_thread(bare.send, request)
            bare.close()
            return server, first, second

    server, first, second = asyncio.run(run())
    assert (first.generated_tokens, second.generated_tokens) == (2, 2)
    assert len(server.heads) == 2


def test_client_and_bare_loop_start_their_clocks_when_the_same_bytes_are_ready(monkeypatch):
    steps = []

    def noted(step, function):
        def call(*arguments, **options):
            steps.append(step)
            return function(*arguments, **options)

        return call

    encoded, clock = noted("encoded", json.dumps), noted("clock", time.perf_counter)
    monkeypatch.setattr(bare_stream, "json", SimpleNamespace(dumps=encoded, loads=json.loads))
    monkeypatch.setattr(bare_stream, "time", SimpleNamespace(perf_counter=clock))
    ours = SimpleNamespace(encode=noted("encoded", msgspec.json.encode))
    monkeypatch.setattr(client, "msgspec", SimpleNamespace(json=ours))

    async def run():
        async with answering(EVENTS, WHOLE).running() as server:
            request = chat_request("a model", [{"role": "user", "content": "Trinken Süßes?"}], Sampling(max_tokens=8))
            async with ServerClient(server.address, clock=clock) as connected:
                await connected.send(request)
            first, steps[:] = list(steps), []
            bare = BareStream(server.address, None)
            await asyncio.to_thread(bare.send, request)
            bare.close()
            return first, server.bodies

    first, bodies = asyncio.run(run())
    assert first[:2] == steps[:2] == ["encoded", "clock"]
    assert bodies[0] == bodies[1]


def test_bare_loop_does_not_repeat_what_fails_on_a_new_connection():
    async def serve(server, reader, writer):
        await server.request(reader)

    async def run():
        async with Hostile(serve).running() as server:
            bare = BareStream(server.address, None)
            with pytest.raises(ServerError, match="the bare loop failed: RemoteDisconnected"):
                await asyncio.to_thread(bare.send, chat_request("a model", MESSAGES, Sampling(max_tokens=8)))
            return server.heads

    assert len(asyncio.run(run())) == 1


def test_connection_that_breaks_after_a_while_is_a_failure_though_it_was_used_before(monkeypatch):
    monkeypatch.setattr("summarybench.engines.server.client.CLOSED_BEFORE_SECONDS", 0.1)

    async def serve(server, reader, writer):
        await server.request(reader)
        writer.write(kept(WHOLE))
        await server.request(reader)
        await asyncio.sleep(0.2)

    server = Hostile(serve)
    assert "the connection broke (ServerDisconnectedError: Server disconnected)" in why_failed(server, times=2)
    assert len(server.heads) == 2


def test_key_is_not_sent_where_a_redirect_leads():
    async def run():
        async with answering(EVENTS + WHOLE).running() as elsewhere:
            location = f"Location: {elsewhere.address}/chat/completions\r\n".encode()
            redirecting = answering(b"HTTP/1.1 307 Over there\r\nContent-Length: 0\r\n" + location + b"\r\n")
            async with (
                redirecting.running(),
                ServerClient(redirecting.address, clock=time.perf_counter, api_key="sk-secret") as client,
            ):
                with pytest.raises(ServerError, match="redirected to another address, which is refused"):
                    await client.chat("a model", MESSAGES, Sampling(max_tokens=8))
            return elsewhere.heads

    assert asyncio.run(run()) == []


def test_address_may_be_of_ip_version_6():
    (found,) = ask(answering(EVENTS + WHOLE), host="::1")
    assert found.text == "Two words"


def test_path_before_the_api_is_kept_and_a_missing_v1_is_suspected():
    refusing = answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    async def run(path):
        async with (
            refusing.running(),
            ServerClient(refusing.address.removesuffix("/v1") + path, clock=time.perf_counter) as client,
        ):
            with pytest.raises(ServerError) as caught:
                await client.models()
            with suppress(ServerError):
                await client.facts_at("/version")
            return str(caught.value)

    assert asyncio.run(run("/llm/v1/")).endswith("/llm/v1/models: HTTP 404 Not Found: {}")
    assert asyncio.run(run("/llm")).endswith("/llm/models: HTTP 404 Not Found: {}; does the address lack /v1?")
    assert [head.split()[1] for head in refusing.heads] == [
        "/llm/v1/models",
        "/llm/version",
        "/llm/models",
        "/llm/version",
    ]


@pytest.fixture(scope="module")
def own_certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that no authority has signed, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl, which makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    options = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", *options, *names, "-out", files[0], "-keyout", files[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def tls_of(files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


def test_certificate_of_no_known_authority_is_refused_before_anything_is_sent(own_certificate):
    server = answering(EVENTS + WHOLE)
    line = why_failed(server, tls=tls_of(own_certificate), api_key="sk-secret")
    assert "its certificate is not trusted" in line
    assert "self-signed certificate" in line
    assert server.heads == []


def test_https_address_of_a_server_without_tls_says_so():
    async def serve(server, reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def run():
        async with Hostile(serve).running() as server:
            address = server.address.replace("http:", "https:")
            async with ServerClient(address, clock=time.perf_counter) as client:
                await client.models()

    with pytest.raises(ServerError, match=r"no TLS connection \(.*\); should the address begin with http://"):
        asyncio.run(run())
