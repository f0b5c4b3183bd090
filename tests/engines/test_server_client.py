"""The streaming client against a scripted server: what it measures, and what each kind of misbehaviour becomes."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import asynccontextmanager, suppress

import pytest

from summarybench.core.outcomes import InputError
from summarybench.engines.server.client import Sampling, ServerClient, ServerError

MESSAGES = [{"role": "user", "content": "Summarize this."}]
EVENTS = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNKED = EVENTS.replace("Connection: close", "Transfer-Encoding: chunked")


def event(**fields):
    return f"data: {json.dumps(fields)}\n\n"


def part(text, finish_reason=None):
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}])


USAGE = event(choices=[], usage={"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14})
DONE = "data: [DONE]\n\n"
WHOLE = (part("Two"), part(" words", "stop"), USAGE, DONE)


@asynccontextmanager
async def server(*answer, requests=None, hangs=False):
    """A server on loopback that sends these parts, one after the other, to every request, and closes the connection."""
    running = set()

    async def serve(reader, writer):
        running.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lengths = [line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length")]
            body = await reader.readexactly(int(lengths[0]) if lengths else 0)
            if requests is not None:
                requests.append((head, json.loads(body) if body else None))
            for each in answer:
                writer.write(each.encode())
                await writer.drain()
                await asyncio.sleep(0.01)  # so that parts arrive apart
            if hangs:
                await asyncio.sleep(30)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def ask(*answer, act=None, clock=None, **options):
    """Ask a server that answers so once; the completion, or what `act` gives with the client."""
    ticks = itertools.count()
    given = {name: options.pop(name) for name in ("requests", "hangs") if name in options}

    async def run():
        async with (
            server(*answer, **given) as address,
            ServerClient(address, clock=clock or (lambda: float(next(ticks))), **options) as client,
        ):
            if act:
                return await act(client)
            return await client.chat("a model", MESSAGES, Sampling(max_tokens=8))

    return asyncio.run(run())


def test_answer_has_its_text_the_arrival_of_each_part_and_the_servers_counts():
    found = ask(EVENTS, *WHOLE)
    assert (found.text, found.finish_reason) == ("Two words", "stop")
    assert (found.prompt_tokens, found.generated_tokens) == (12, 2)
    # One reading before the request, and one for each event.
    assert (found.start_seconds, found.token_seconds, found.end_seconds) == (0.0, (1.0, 2.0), 4.0)
    assert found.first_token_seconds == 1.0


def test_request_is_greedy_streams_and_asks_for_the_counts():
    requests = []
    ask(EVENTS, *WHOLE, requests=requests)
    ((head, body),) = requests
    assert head.startswith("POST /v1/chat/completions HTTP/1.1")
    assert body == {
        "model": "a model",
        "messages": MESSAGES,
        "max_tokens": 8,
        "temperature": 0.0,
        "seed": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_rendered_prompt_is_continued_by_completions():
    requests = []
    answer = (event(choices=[{"text": "So", "finish_reason": "length"}]), USAGE, DONE)
    found = ask(
        EVENTS, *answer, requests=requests,
        act=lambda client: client.complete("a model", "<user> x", Sampling(max_tokens=2, extra={"ignore_eos": True})),
    )  # fmt: skip
    assert (found.text, found.finish_reason) == ("So", "length")
    assert requests[0][0].startswith("POST /v1/completions HTTP/1.1")
    assert (requests[0][1]["prompt"], requests[0][1]["ignore_eos"]) == ("<user> x", True)


def test_empty_answer_is_an_answer():
    found = ask(EVENTS, part("", "stop"), USAGE, DONE)
    assert (found.text, found.token_seconds) == ("", ())
    assert found.first_token_seconds == found.end_seconds


def test_stream_without_done_is_whole_once_it_has_its_reason_and_counts():
    assert ask(EVENTS, part("Two", "stop"), USAGE).text == "Two"


def test_tokens_without_text_count_in_a_completion_and_not_before_a_chat():
    silent = event(choices=[{"text": "", "finish_reason": None}])
    last = event(choices=[{"text": "", "finish_reason": "length"}])
    complete = {"act": lambda client: client.complete("a model", [1, 2], Sampling(max_tokens=2))}
    assert ask(EVENTS, silent, silent, last, USAGE, DONE, **complete).token_seconds == (1.0, 2.0)
    role = event(choices=[{"delta": {"role": "assistant", "content": ""}}])
    assert ask(EVENTS, role, part("Two", "stop"), USAGE, DONE).token_seconds == (2.0,)


def test_prompt_of_token_ids_is_sent_as_they_are_and_cached_tokens_are_read():
    requests = []
    usage = event(
        choices=[], usage={"prompt_tokens": 2, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}}
    )
    found = ask(
        EVENTS, event(choices=[{"text": "So", "finish_reason": "stop"}]), usage, DONE, requests=requests,
        act=lambda client: client.complete("a model", (7, 8), Sampling(max_tokens=1)),
    )  # fmt: skip
    assert requests[0][1]["prompt"] == [7, 8]
    assert found.cached_tokens == 1


def test_facts_are_read_beside_the_api():
    requests = []
    body = json.dumps({"version": "0.24.0"})
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    found = ask(head, body, requests=requests, act=lambda client: client.facts_at("/version"))
    assert (found, requests[0][0].split()[1]) == ({"version": "0.24.0"}, "/version")


def test_models_are_listed():
    answer = json.dumps({"object": "list", "data": [{"id": "a"}, {"id": "b", "owned_by": "c"}]})
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
    found = ask(head, answer, act=lambda client: client.models())
    assert [(each.id, each.owned_by) for each in found] == [("a", ""), ("b", "c")]


def refused(status, body="", headers=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\nConnection: close\r\n{headers}\r\n{body}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param((refused("404 Not Found", '{"error": {"message": "no model"}}'),), "HTTP 404 Not Found: no model", id="openai-error"),
        pytest.param((refused("500 Internal Server Error", "<html>oops</html>"),), "HTTP 500 Internal Server Error: <html>oops", id="html"),
        pytest.param((refused("429 Too Many Requests", '{"detail": "slow down"}'),), "HTTP 429 Too Many Requests: slow down", id="detail"),
        pytest.param((refused("302 Found", headers="Location: http://elsewhere/\r\n"),), "redirected to another address", id="redirect"),
        pytest.param((EVENTS, part("Two")), "the stream ended after 1 parts, before the answer did", id="cut"),
        pytest.param((EVENTS, part("Two", "stop"), DONE), "the server does not count tokens", id="no-usage"),
        pytest.param((EVENTS, "data: {nonsense\n\n"), "malformed answer", id="not-json"),
        pytest.param((EVENTS, "data: [1]\n\n"), "malformed answer", id="not-an-object"),
        pytest.param((EVENTS, event(choices=[7])), "malformed answer", id="wrong-choice"),
        pytest.param((EVENTS, event(usage={"prompt_tokens": -1, "completion_tokens": 1})), "malformed answer", id="negative-count"),
        pytest.param((EVENTS, "data: " + "[" * 20_000 + "\n\n"), "malformed answer", id="deep"),
        pytest.param((EVENTS, event(error={"message": "CUDA out of memory"})), ": CUDA out of memory", id="error-in-stream"),
        pytest.param((EVENTS, part("x" * 200_000)), "exceeded the", id="huge-part"),
        pytest.param((EVENTS, *[part("x" * 20_000)] * 12), "more than the 98,304 bytes that its", id="huge-answer"),
        pytest.param((refused("200 OK", "hello"),), "not a stream of events", id="no-stream"),
        pytest.param(("",), "the connection broke", id="closed"),
        pytest.param((CHUNKED, "5\r\nda"), "the connection broke", id="broken-chunk"),
    ],
)  # fmt: skip
def test_misbehaviour_is_one_line_with_the_address(answer, said):
    with pytest.raises(ServerError) as caught:
        ask(*answer)
    line = str(caught.value)
    assert line.startswith("http://127.0.0.1:")
    assert said in line
    assert "\n" not in line
    assert len(line) < 500


def test_silent_server_fails_after_the_time_given():
    with pytest.raises(ServerError, match=r"silent for 0\.2 s"):
        ask(EVENTS, part("Two"), hangs=True, silence_seconds=0.2)


def test_no_server_says_so():
    async def run():
        async with ServerClient("http://127.0.0.1:9/v1", clock=lambda: 0.0) as client:
            await client.models()

    with pytest.raises(ServerError, match=r"http://127\.0\.0\.1:9/v1/models: no server answers") as caught:
        asyncio.run(run())
    assert "ssl" not in str(caught.value)


def test_hostile_text_of_an_error_is_escaped_and_short():
    with pytest.raises(ServerError) as caught:
        ask(refused("400 Bad Request", "\x1b[2J\u202etxt\n" + "y" * 5_000))
    line = str(caught.value)
    assert r"\x1b[2J\u202etxt\n" in line
    assert line.endswith("…")


def test_key_is_sent_and_neither_shown_nor_in_an_error():
    requests = []
    ask(EVENTS, *WHOLE, requests=requests, api_key="sk-secret")
    assert "authorization: bearer sk-secret" in requests[0][0].lower()
    client = ServerClient("http://127.0.0.1:9/v1", clock=lambda: 0.0, api_key="sk-secret")
    assert "secret" not in repr(client)
    with pytest.raises(ServerError) as caught:
        ask(refused("401 Unauthorized", "no"), api_key="sk-secret")
    assert "secret" not in str(caught.value)


def test_environment_adds_neither_a_proxy_nor_a_password(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password from-netrc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    requests = []
    ask(EVENTS, *WHOLE, requests=requests)
    assert "authorization" not in requests[0][0].lower()


@pytest.mark.parametrize(
    "address", ["", "localhost:8000", "ftp://host/v1", "http://", "http://host/v1?x=1", "http://host/#a", "http://[::1"]
)
def test_address_that_is_none_is_refused(address):
    with pytest.raises(InputError, match="--server"):
        ServerClient(address, clock=lambda: 0.0)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://host/v1/chat/completions", "http://host/v1/chat/completions: leave out /chat/completions, which"),
        ("http://host/v1/completions/", "http://host/v1/completions: leave out /completions, which"),
        ("http://a/v1,http://b/v1", "http://a/v1,http://b/v1: give --server once for each address"),
        ("http://host/v1?key=hunter2", "http://host/v1: leave out what follows the path"),
        ("http://host/v1#hunter2", "http://host/v1: leave out what follows the path"),
        ("host/v1?key=hunter2", "host/v1: leave out what follows the path"),
    ],
)
def test_address_with_too_much_says_what_to_leave_out(address, said):
    with pytest.raises(InputError) as caught:
        ServerClient(address, clock=lambda: 0.0)
    assert str(caught.value).startswith(f"--server {said}")
    assert "hunter2" not in str(caught.value)


def test_redirect_names_its_place_without_secrets():
    with pytest.raises(ServerError) as caught:
        ask(refused("308 Moved", headers="Location: https://me:hunter2@elsewhere/v1/?token=hunter2#x\r\n"))
    assert str(caught.value).endswith("which is refused (https://elsewhere/v1/); give the final address")


def test_time_after_which_to_ask_again_is_named():
    with pytest.raises(ServerError, match=r"HTTP 429 Too Many Requests: slow down \(Retry-After: 7\)$"):
        ask(refused("429 Too Many Requests", "slow down", headers="Retry-After: 7\r\n"))


def test_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(InputError) as caught:
        ServerClient("https://me:hunter2@host/v1", clock=lambda: 0.0)
    assert "hunter2" not in str(caught.value)
    assert "--api-key-env" in str(caught.value)
