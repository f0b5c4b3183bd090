"""Opens a served model: starts its server if necessary, and asks who answers."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from summarybench.catalogue.models import MODELS, Experiment, ModelSpec, add_model
from summarybench.catalogue.servers import SERVERS, ServerPreset
from summarybench.core.outcomes import InputError, SuiteError, UnavailableError
from summarybench.documents.prompts import Prompt, build_prompt
from summarybench.documents.sources import embedded_documents
from summarybench.engines.chat import open_chat
from summarybench.engines.embedded import converted_folder, embedded_gguf_file
from summarybench.engines.engine import ChatFormat
from summarybench.engines.server.answers import shortened
from summarybench.engines.server.client import ServerClient, ServerError
from summarybench.engines.server.process import ServerProcess, started_server, words_of
from summarybench.engines.server.served_model import (
    ServedModel,
    ServerConnections,
    ServerIdentity,
    ServerTarget,
    WordChat,
    identify,
    listed_models,
    only_model,
)
from summarybench.engines.synthetic import synthetic_revision, synthetic_shape_folder
from summarybench.engines.weights import Weights
from summarybench.machine.clock import Clock
from summarybench.machine.device import slugify
from summarybench.machine.telemetry import Monitor

IDENTITY_PROMPT_TOKENS = 256
GGUF = "{gguf}"
OWN_GGUF = re.compile(r"(?<!\S)(-m|--model|-hfr?|--hf-repo)(?=[\s=])")
"""The options of llama-server that name the model's file, or the repository on the hub that has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchCommand:
    """How to start a server: a whole command line, or that of a preset with further arguments.

    `text` is what the user gave. The preset is None for a command line of the user's own.
    """

    text: str
    preset: ServerPreset | None

    def template(self, *, synthetic: bool) -> str:
        """The command line with its placeholders. A GGUF file that the arguments name replaces the preset's."""
        if self.preset is None:
            return self.text
        command = (self.preset.synthetic_command if synthetic else "") or self.preset.command
        arguments = self.text.partition(" ")[2]
        if OWN_GGUF.search(arguments):
            command = command.replace(f"--model {GGUF} ", "")
        return f"{command} {arguments}".strip()


def launch_command_of(text: str) -> LaunchCommand:
    """The command that --server-command gives.

    Its first word may name a preset. Raises InputError for a line that is neither a preset's nor says where {port} goes, and
    for one that hands over a secret.
    """
    words = words_of(text)  # before anything is stored: they may hold a secret
    name = words[0] if words else ""
    presets = {each.name: each for each in SERVERS.values() if each.command}
    if name in presets and "{port}" not in text:
        return LaunchCommand(text=text, preset=presets[name])
    if "{port}" not in text:
        raise InputError(
            f"--server-command {text!r}: begin with one of {', '.join(presets)}, or give a whole command line that says with "
            "{port} where the port goes, such as 'vllm serve {model} --port {port}'"
        )
    return LaunchCommand(text=text, preset=None)


def offered_model(addresses: Sequence[str], api_key: str | None) -> str:
    """The id of the only model that these servers offer.

    Raises InputError where one does not answer, or offers other models.
    """

    async def ask(address: str) -> str:
        async with ServerClient(address, clock=lambda: 0.0, api_key=api_key) as client:
            return only_model([each.id for each in await listed_models(client)], address)

    try:
        found = [asyncio.run(ask(each)) for each in addresses]
    except ServerError as error:
        raise InputError(f"--server {error}") from None
    for address, model in zip(addresses, found, strict=True):
        if model != found[0]:
            raise InputError(
                f"--server {address}: offers {shortened(model)}, but {addresses[0]} offers {shortened(found[0])}; one fleet "
                "serves one model"
            )
    return found[0]


def catalogue_model(model_id: str, marker: str) -> str:
    """The catalogue's name for a server's model. A model that it does not know is added for this session.

    Its tests have the marker. A model is known by its name, its repository, or the last part of it; the embedded model also
    by its folder, wherever the server has that.
    """

    def last(name: str) -> str:
        return name.rstrip("/").rpartition("/")[2].lower()

    name = slugify(last(model_id)) or "model"
    for each in MODELS.values():
        if model_id == each.repository or last(model_id) == last(each.repository) or name == each.name:
            return each.name
        if each.is_embedded and last(model_id) == converted_folder().name:
            return each.name
    add_model(ModelSpec(name=name, repository=model_id, revision="", marker=marker, architecture="", licence_url=""))
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What opening a served model needs of the session.

    `dtype` is the type of numbers that the device multiplies fastest. `find_weights` finds or makes the experiment's
    weights; `is_synthetic` says that they are random. `on_wait` is called with the seconds that a server has been starting.
    """

    clock: Clock
    monitor: Monitor
    find_weights: Callable[[], Weights]
    is_synthetic: bool
    dtype: str
    log: Path
    environment: Mapping[str, str]
    on_wait: Callable[[float], None]


@contextmanager
def served_by(target: ServerTarget, experiment: Experiment, around: Surroundings) -> Iterator[ServedModel]:
    """The model behind servers that run already.

    Raises UnavailableError where one does not answer, and InputError where they serve different models.
    """
    weights, chat = _tokenizer_of(target, experiment, around)
    with ServerConnections(target, around.clock.of_host) as connections:
        identity = identify(target, connections, chat, lambda: _identity_prompt(chat))
        yield ServedModel(
            experiment=experiment,
            weights=replace(weights, revision=identity.model_id) if weights.kind == "server" else weights,
            chat=chat,
            identity=identity,
            target=target,
            connections=connections,
        )


@contextmanager
def launched(
    command: LaunchCommand, target: ServerTarget, experiment: Experiment, around: Surroundings
) -> Iterator[ServedModel]:
    """The model behind a server that is started now, and ended with the block.

    `target` has no addresses yet. Raises UnavailableError where the server does not start, or does not answer.
    """
    template = command.template(synthetic=around.is_synthetic)
    weights = _weights_for(template, experiment, around)
    values = {
        "model": weights.location,
        "shape": weights.location,
        "python": sys.executable,
        "dtype": around.dtype,
        **({"gguf": str(gguf_file_of(weights))} if GGUF in template else {}),
    }
    before = around.monitor.read()
    start = around.clock()
    with ExitStack() as stack:
        process = stack.enter_context(started_server(template, values, log=around.log, environment=around.environment))
        health = (command.preset.health_path,) if command.preset else ("/health", "/v1/models")
        process.wait_until_ready(around.on_wait, health_paths=health)
        load_seconds = around.clock() - start
        model_id = target.model_id
        if command.preset and command.preset.model_id and not model_id:
            model_id = command.preset.model_id.replace("{model}", weights.location)
        target = replace(target, addresses=(process.address,), preset=command.preset, model_id=model_id)
        chat = open_chat(weights)
        connections = stack.enter_context(ServerConnections(target, around.clock.of_host))
        identity = _identified(process, lambda: identify(target, connections, chat, lambda: _identity_prompt(chat)))
        yield ServedModel(
            experiment=experiment,
            weights=weights,
            chat=chat,
            identity=identity,
            target=target,
            connections=connections,
            load_seconds=load_seconds,
            process=process,
            command=command.text,
            dtype=around.dtype if "{dtype}" in template else None,
            before_launch=before,
        )


def gguf_file_of(weights: Weights) -> Path:
    """The GGUF file of the embedded model, or the only one in the model's folder.

    Raises UnavailableError where there is none, or more than one.
    """
    if weights.kind == "embedded":
        return embedded_gguf_file()
    found = sorted(Path(weights.location).glob("*.gguf"))
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise UnavailableError(
            f"llama.cpp reads one GGUF file, and {weights.location} has {names}; name one, such as --server-command "
            "'llama.cpp --model FILE.gguf'"
        )
    return found[0]


def _identified(process: ServerProcess, identify_server: Callable[[], ServerIdentity]) -> ServerIdentity:
    """The identity. A server that has died meanwhile is the reason that is reported."""
    try:
        return identify_server()
    except UnavailableError as error:
        raise UnavailableError(process.why_dead() or str(error)) from None


def _weights_for(template: str, experiment: Experiment, around: Surroundings) -> Weights:
    """The weights that the command loads: without {model} in it, only their shape."""
    if not around.is_synthetic or "{model}" in template:
        return around.find_weights()
    return _shape_of(experiment)


def _shape_of(experiment: Experiment) -> Weights:
    spec = MODELS[experiment.model]
    folder = synthetic_shape_folder(spec)
    return Weights(kind="synthetic", revision=synthetic_revision(spec), location=str(folder))


def _tokenizer_of(target: ServerTarget, experiment: Experiment, around: Surroundings) -> tuple[Weights, ChatFormat]:
    """Weights and tokenizer of a model on servers that run already.

    Without a tokenizer here, the server renders prompts, and words stand for tokens where prompts are cut.
    """
    if around.is_synthetic:
        weights = _shape_of(experiment)
        return weights, open_chat(weights)
    served = Weights(kind="server", revision=target.model_id, location="a server")
    if not MODELS[experiment.model].architecture:
        return served, WordChat()
    try:
        weights = around.find_weights()
        return replace(served, location=weights.location), open_chat(weights)
    except (OSError, SuiteError):  # the hub does not give it here
        return served, WordChat()


def _identity_prompt(chat: ChatFormat) -> Prompt:
    return build_prompt(embedded_documents().documents[0], chat, IDENTITY_PROMPT_TOKENS)
