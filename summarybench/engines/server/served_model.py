"""A model behind one or more OpenAI-compatible servers: who they are, and how they are asked for a summary."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

from summarybench.catalogue.models import Experiment
from summarybench.catalogue.servers import UNKNOWN_SERVER, PromptStyle, ServerPreset, recognized_server
from summarybench.core.outcomes import InputError, UnavailableError, first_line
from summarybench.documents.prompts import Prompt
from summarybench.engines.engine import ChatFormat, JsonScalar
from summarybench.engines.server.answers import Completion, Model, shortened
from summarybench.engines.server.client import (
    SILENCE_SECONDS,
    Clock,
    Request,
    Sampling,
    ServerClient,
    ServerError,
    chat_request,
    completion_request,
)
from summarybench.engines.server.process import ServerProcess
from summarybench.engines.weights import Weights
from summarybench.machine.probes import EVERY_PROBE, OF_THE_HOST
from summarybench.machine.telemetry import Reading

Result = TypeVar("Result")

UNKNOWN_VERSION = "unknown"
NO_LIST = frozenset({404, 500, 501})
"""HTTP statuses of servers without a list of models. `transformers serve` answers 500 if it has no Hugging Face cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTarget:
    """Which servers are measured, and what is known about them before they are asked.

    `model_id` is the name of the model in requests, empty to take the only one that the servers offer. `label` replaces
    the version in the workload, so that versions can be compared. With `is_full_length`, a model with random weights is
    kept generating up to the limit. A request fails after `silence_seconds` in which the server sends nothing.
    """

    addresses: tuple[str, ...]
    preset: ServerPreset | None = None
    model_id: str = ""
    api_key: str | None = field(default=None, repr=False)
    label: str = ""
    is_full_length: bool = False
    silence_seconds: float = SILENCE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """What answers: the engine's name and version, the model's id in requests, and who renders prompts."""

    preset: ServerPreset
    version: str
    model_id: str
    prompt: PromptStyle

    @property
    def engine(self) -> str:
        return self.preset.name


class RendersText(Protocol):
    """A tokenizer that can hand over a prompt as text."""

    def text_for_tokenizing(self, message: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class WordChat:
    """Stands for the tokenizer of a model that only its server has: a word counts as a token.

    Prompts are limited by words, and the server renders them.
    """

    context_tokens: int = 1_000_000
    template: str = "the server's"

    def document_offsets(self, text: str) -> Sequence[tuple[int, int]]:
        return [found.span() for found in re.finditer(r"\S+", text)]

    def chat_ids(self, message: str) -> Sequence[int]:
        return range(len(message.split()))


class ServerConnections:
    """Open clients for some servers, used from synchronous code: one event loop for all of their requests."""

    def __init__(self, target: ServerTarget, clock: Clock) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.clients = [
            ServerClient(each, clock=clock, api_key=target.api_key, silence_seconds=target.silence_seconds)
            for each in target.addresses
        ]

    def __enter__(self) -> Self:
        for each in self.clients:
            self.run(self._stack.enter_async_context(each))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._stack.aclose())
        self._runner.close()

    def run(self, work: Awaitable[Result]) -> Result:
        """Wait for requests to end. Raises what they raise."""

        async def done() -> Result:
            return await work

        try:
            return self._runner.run(done())
        except ExceptionGroup as errors:  # a fault of the program in one of several requests
            raise errors.exceptions[0] from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model that servers run, as `EngineFacts` describe it. What only the server knows is None.

    `process` is the server that the suite has started, if it has; `command` its command line as the user gave it,
    `dtype` the type of numbers that it asks for, if it does, and `before_launch` the telemetry of the device before that.
    """

    experiment: Experiment
    weights: Weights
    chat: ChatFormat
    identity: ServerIdentity
    target: ServerTarget
    connections: ServerConnections
    load_seconds: float = 0.0
    process: ServerProcess | None = None
    command: str = ""
    dtype: str | None = None
    before_launch: Reading | None = None

    @property
    def settings(self) -> Mapping[str, JsonScalar]:
        """Settings for the workload."""
        return {
            "engine": self.identity.engine,
            "engine_version": self.target.label or self.identity.version,
            "served_model": self.weights.revision,
            **({"weights_file": file} if (file := Path(self.identity.model_id).name).endswith(".gguf") else {}),
            "prompt": self.identity.prompt.value,
            **({"dtype": self.dtype} if self.dtype else {}),
            "temperature": 0.0,
            "seed": 0,
            **({"full_length": True} if self.target.is_full_length else {}),
            **({"servers": len(self.target.addresses)} if len(self.target.addresses) > 1 else {}),
        }

    @property
    def is_running(self) -> bool:
        """False if the suite has started the server, and it has ended."""
        return not (self.process and self.process.why_dead())

    @property
    def compile_seconds(self) -> float | None:
        return None

    @property
    def tuned_kernels(self) -> str | None:
        return None

    @property
    def speed_probes(self) -> Sequence[str]:
        """Every probe for a server on this machine; only those of the client's host for a server anywhere."""
        return EVERY_PROBE if self.process else OF_THE_HOST

    @property
    def weights_bytes(self) -> int | None:
        return None

    @property
    def weights_read_bytes(self) -> int | None:
        return None

    @property
    def cache_bytes_per_token(self) -> int | None:
        return None

    @property
    def load_peak_memory_bytes(self) -> int | None:
        return None

    @property
    def predicted_memory_bytes(self) -> int | None:
        return None

    async def answer(self, prompt: Prompt, max_new_tokens: int, *, server: int = 0, salt: str = "") -> Completion:
        """Summarize one document on the server with this number. Raises ServerError where it fails."""
        client = self.connections.clients[server % len(self.connections.clients)]
        return await client.send(self.request(prompt, max_new_tokens, salt=salt))

    def request(self, prompt: Prompt, max_new_tokens: int, *, salt: str = "") -> Request:
        """The request for a summary of one document. Raises ServerError where the prompt cannot be sent as text."""
        sampling = _sampling(self.identity.preset, max_new_tokens, salt, is_full_length=self.target.is_full_length)
        return _request(self.identity, self.chat, prompt, sampling)

    def counts_prompt_as_we_do(self, prompt: Prompt, completion: Completion) -> bool | None:
        """Whether the server counts as many prompt tokens as our tokenizer; None without a tokenizer."""
        if isinstance(self.chat, WordChat):
            return None
        return completion.prompt_tokens == len(prompt.token_ids)


def fresh_salt() -> str:
    """A random word for `request`, so that a prompt cache cannot reuse an earlier pass, of this session or another one."""
    return token_hex(8)


def identify(
    target: ServerTarget, connections: ServerConnections, chat: ChatFormat, prompt: Callable[[], Prompt]
) -> ServerIdentity:
    """Ask the servers who they are, and which way of prompting works, with a prompt of one new token.

    Raises InputError where they offer several models and none is chosen, or where they differ from each other, and
    UnavailableError where one does not answer.
    """
    try:
        found = [connections.run(_identity(target, client)) for client in connections.clients]
        first = found[0]
        for client, other in zip(connections.clients, found, strict=True):
            if other != first:
                raise InputError(
                    f"--server {client.address}: runs {other.engine} {other.version} with {other.model_id}, but "
                    f"{connections.clients[0].address} runs {first.engine} {first.version} with {first.model_id}; "
                    "one fleet serves one model with one engine"
                )
        return connections.run(_with_working_prompt(first, connections.clients[0], chat, prompt()))
    except ServerError as error:
        raise UnavailableError(first_line(error)) from None


async def _identity(target: ServerTarget, client: ServerClient) -> ServerIdentity:
    if target.preset is not None and target.model_id:
        preset, model_id = target.preset, target.model_id
    else:
        models = await _models(client, may_be_missing=bool(target.model_id))
        preset = target.preset or recognized_server(frozenset(each.owned_by for each in models))
        model_id = target.model_id or only_model([each.id for each in models], client.address)
        if models and model_id not in [each.id for each in models]:
            raise InputError(
                f"--server {client.address}: does not offer {shortened(model_id)}, but {_names_of(models)}; one fleet serves "
                "one model, and --server-model names it"
            )
    return ServerIdentity(
        preset=preset,
        version=await _version(preset, client),
        model_id=model_id,
        prompt=PromptStyle(preset.prompt),
    )


async def _models(client: ServerClient, *, may_be_missing: bool) -> list[Model]:
    """The models that are offered. With `may_be_missing` none where the server does not list them."""
    try:
        return await listed_models(client)
    except ServerError:
        if not may_be_missing:
            raise
        return []


async def listed_models(client: ServerClient) -> list[Model]:
    """The models that the server lists. Raises ServerError, with the remedy if the server has no list or fails to make it."""
    try:
        return await client.models()
    except ServerError as error:
        has_no_list = error.status in NO_LIST and client.address.endswith("/v1")
        hint = "; the server does not list its models, so name one with --server-model" if has_no_list else ""
        raise ServerError(f"{error}{hint}", status=error.status) from None


def _names_of(models: Sequence[Model]) -> str:
    return ", ".join(shortened(each.id) for each in models[:5]) or "none"


def only_model(offered: Sequence[str], address: str) -> str:
    """The model that is offered. Raises InputError unless it is one alone."""
    if len(offered) != 1:
        names = ", ".join(shortened(each) for each in offered[:5]) or "none"
        raise InputError(f"--server {address}: offers {len(offered)} models ({names}); name one with --server-model")
    return offered[0]


async def _version(preset: ServerPreset, client: ServerClient) -> str:
    if preset.version_package:
        try:
            return version(preset.version_package)
        except PackageNotFoundError:
            return UNKNOWN_VERSION
    for path in preset.version_paths:
        with suppress(ServerError):  # another version may have it at the next path
            if found := (await client.facts_at(path)).get(preset.version_key):
                return shortened(str(found))
    return UNKNOWN_VERSION


async def _with_working_prompt(
    identity: ServerIdentity, client: ServerClient, chat: ChatFormat, prompt: Prompt
) -> ServerIdentity:
    """The identity with the first way of prompting that the server accepts, from the preset's to the server's own.

    The suite's own rendering counts only if the server reads it as the same number of tokens.
    """
    styles = [PromptStyle.CHAT]
    if not isinstance(chat, WordChat):
        usual = [identity.prompt, PromptStyle.TEXT] if identity.preset is not UNKNOWN_SERVER else [PromptStyle.TEXT]
        styles = [*dict.fromkeys(usual), PromptStyle.CHAT]
    for style in styles:
        tried = _replaced(identity, style)
        try:
            answer = await client.send(_request(tried, chat, prompt, _sampling(identity.preset, 1, "identity")))
        except ServerError:
            if style is PromptStyle.CHAT:
                raise
            continue
        if style is PromptStyle.CHAT or answer.prompt_tokens == len(prompt.token_ids):
            return tried
    raise AssertionError("the last way of prompting returns or raises")


def _replaced(identity: ServerIdentity, style: PromptStyle) -> ServerIdentity:
    return ServerIdentity(preset=identity.preset, version=identity.version, model_id=identity.model_id, prompt=style)


def _request(identity: ServerIdentity, chat: ChatFormat, prompt: Prompt, sampling: Sampling) -> Request:
    match identity.prompt:
        case PromptStyle.TOKENS:
            return completion_request(identity.model_id, prompt.token_ids, sampling)
        case PromptStyle.TEXT:
            text = cast(RendersText, chat).text_for_tokenizing(prompt.message)
            if text is None:
                raise ServerError(
                    f"document {prompt.document.id} has no text that the server would read as our prompt's tokens"
                )
            return completion_request(identity.model_id, text, sampling)
        case PromptStyle.CHAT:
            return chat_request(identity.model_id, [{"role": "user", "content": prompt.message}], sampling)


def _sampling(preset: ServerPreset, tokens: int, salt: str, *, is_full_length: bool = False) -> Sampling:
    fields = {**preset.every_request, **(preset.full_length if is_full_length else {})}
    return Sampling(max_tokens=tokens, extra={name: _filled(value, tokens, salt) for name, value in fields.items()})


def _filled(value: Any, tokens: int, salt: str) -> Any:
    if not isinstance(value, str):
        return value
    return value.replace("{tokens}", str(tokens)).replace("{salt}", salt)
