"""OpenAI-compatible servers under load: one pass over the whole sample is one timed round."""

from __future__ import annotations

import asyncio
import os
import re
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from summarybench.catalogue.models import CPU, EVERY_GPU, MODELS, Experiment, ModelSpec, add_model
from summarybench.core.numbers import decimal
from summarybench.core.option import Option
from summarybench.core.outcomes import InputError
from summarybench.engines.server.client import ServerClient, ServerError, checked_address, shortened
from summarybench.engines.server.opening import (
    LaunchCommand,
    Surroundings,
    launch_command_of,
    launched,
    served_by,
)
from summarybench.engines.server.served_model import ServedModel, ServerTarget
from summarybench.kinds.kind import Case, Kind, Marker, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.machine.device import slugify
from summarybench.measure.load import Concurrency
from summarybench.measure.serving import measure_served, served_extra_info
from summarybench.runs.kind_facts import KindFacts, KindFigure, Unit

LOADER = "server"
ALL_AT_ONCE = "all"
EMBEDDED_COMMAND = "transformers"
"""The preset that serves the embedded model where no server is named."""


def _milliseconds(key: str, name: str, short: str, meaning: str) -> tuple[KindFigure, ...]:
    """The 50th, 90th and 99th percentile of seconds that are recorded under this key."""
    return tuple(
        KindFigure(
            key=f"served.{key}.p{percent}",
            name=f"{name}, {percent}th percentile",
            heading=f"{short} p{percent} ms",
            short=f"{short}\np{percent} ms",
            unit="ms",
            format=".1f",
            divisor=0.001,
            higher_is_better=False,
            meaning=f"{meaning} The {percent}th percentile over all requests, as the client sees it.",
        )
        for percent in (50, 90, 99)
    )


FIGURES = (
    KindFigure(
        key="documents_per_second",
        name="Documents per second of a server",
        heading="documents/s",
        short="docs\n/s",
        unit="",
        format=".2f",
        higher_is_better=True,
        meaning="Documents that were summarized ÷ seconds from a round's first request to its last answer.",
    ),
    *_milliseconds(
        "time_to_first_token_seconds",
        "Time to first token of a server",
        "TTFT",
        "Milliseconds from sending a request until its first token arrives.",
    ),
    *_milliseconds(
        "seconds_per_output_token",
        "Time per output token",
        "TPOT",
        "Milliseconds per token after the first, as the mean of each request.",
    ),
    *_milliseconds(
        "end_to_end_seconds",
        "End-to-end latency",
        "E2E",
        "Milliseconds from sending a request until its answer is complete.",
    ),
    KindFigure(
        key="served.failed_requests",
        name="Failed requests",
        heading="failed",
        unit="",
        format="d",
        higher_is_better=False,
        meaning="Requests that a server did not answer. A single one fails the test.",
    ),
)


def concurrencies(text: str) -> tuple[int | str, ...]:
    """The numbers of requests in flight that --concurrency asks for; `all` is the whole sample.

    Raises ArgumentTypeError for anything else.
    """
    found: list[int | str] = []
    for word in text.split(","):
        if word.strip() == ALL_AT_ONCE:
            found.append(ALL_AT_ONCE)
        elif word.strip().isdigit() and int(word) >= 1:
            found.append(int(word))
        else:
            raise ArgumentTypeError(
                f"{word!r}: give numbers of at least 1 or '{ALL_AT_ONCE}', such as 1,8,{ALL_AT_ONCE}"
            )
    return tuple(dict.fromkeys(found))


OPTIONS = (
    Option(
        "--server",
        "measure the model behind an OpenAI-compatible server; several for a fleet that shares the documents",
        example="--server http://127.0.0.1:8000/v1",
        default_in_words="a server is started",
        default=[],
        metavar="URL",
        action="append",
    ),
    Option(
        "--server-model",
        "the model's name in requests",
        example="--server-model meta-llama/Llama-2-7b-chat-hf",
        default_in_words="the only one that the server offers",
        metavar="NAME",
    ),
    Option(
        "--server-command",
        "start a server: a preset (vllm, sglang, llama.cpp, transformers) with arguments, or a whole command line",
        example="--server-command 'vllm --quantization fp8'",
        default_in_words="transformers serve with the embedded model",
        metavar="COMMAND",
    ),
    Option(
        "--api-key-env",
        "the environment variable with the server's API key",
        example="--api-key-env OPENAI_API_KEY",
        metavar="VARIABLE",
    ),
    Option(
        "--server-label",
        "names the server's set-up in experiments, and replaces its version in the workload: versions can be compared",
        example="--server-label fp8",
        default_in_words="the server's version",
        metavar="NAME",
    ),
    Option(
        "--concurrency",
        "how many requests are in flight, each number an experiment; 'all' sends all documents at once",
        example="--concurrency 1,2,4",
        default_in_words="1,4,all",
        type=concurrencies,
        default=concurrencies("1,4,all"),
        metavar="LIST",
    ),
)


class ServerKind(Kind):
    """Each number of requests in flight is an experiment."""

    facts = KindFacts(name="server", unit=Unit.ROUND, title="server", place=5, figures=FIGURES)
    marker = Marker(
        name="server",
        description="OpenAI-compatible servers, --server or --server-command; runs when -m names it",
    )
    options = OPTIONS

    def cases(self) -> Sequence[Case]:
        return self.cases_with({option.key: option.default for option in OPTIONS})

    def cases_with(self, given: Mapping[str, Any]) -> Sequence[Case]:
        return cases_of([each for model in served_models(given) for each in _experiments(model, given)])

    def completed_options(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask a running server for its model, unless an option names it, and add the model to the catalogue.

        Raises InputError for options that contradict each other, and for a server that does not answer.
        """
        completed = dict(given) | {"server": [checked_address(each) for each in given["server"]]}
        if completed["server"] and completed["server_command"]:
            raise InputError("--server and --server-command: give the address of a server, or the command to start one")
        if completed["server_command"] is not None:
            launch_command_of(completed["server_command"])
        if label := completed["server_label"]:
            _check_label(label)
        if completed["server"]:
            completed["server_model"] = completed["server_model"] or _offered_model(completed)
            completed["server_catalogue_model"] = _catalogue_model(completed["server_model"])
        return completed

    def resolved_options(self, given: Mapping[str, Any], device: Any) -> dict[str, Any]:
        del device
        return {**{option.key: given.get(option.key) for option in OPTIONS}, "concurrency": list(given["concurrency"])}

    def measure(self, toolbox: Toolbox) -> Measurement:
        """Send the whole sample to the server, several times.

        The finding is the record `served`. Raises as `Kind.measure`, and RequestsFailedError where a round has no answer.
        """
        model = open_served_model(toolbox)
        sample = toolbox.sample_for(model)
        load = _load_of(toolbox.experiment, len(sample.prompts), toolbox.options)
        measured, rounds = measure_served(
            toolbox.benchmark,
            model,
            sample.prompts,
            load,
            max_new_tokens=sample.max_new_tokens,
            rounds=toolbox.options["rounds"],
            instruments=toolbox.instruments(model),
            on_record=toolbox.recorder(model, len(sample.prompts)),
        )
        extra_info = served_extra_info(model, sample.prompts, rounds, load)
        return toolbox.measurement(
            model,
            sample.with_documents(frozenset(record.document_id for record in measured.records)),
            measured,
            workload=toolbox.workload(model, sample, batch_size=load.in_flight),
            seconds=[each.seconds for each in rounds],
            extra_info=extra_info,
            finding=extra_info["served"],
        )


# Which models and loads ------------------------------------------------------------------------------------------


def served_models(given: Mapping[str, Any]) -> list[ModelSpec]:
    """The models that these options can measure: the running server's, those that can be served, or the embedded one."""
    if given["server"]:
        return [MODELS[given["server_catalogue_model"]]]
    if given["server_command"]:
        return [each for each in MODELS.values() if each.teacher is None]
    return [each for each in MODELS.values() if each.is_embedded]


def _experiments(model: ModelSpec, given: Mapping[str, Any]) -> Iterator[Experiment]:
    """A running server may be anywhere, and the embedded model runs on every device."""
    is_anywhere = bool(given["server"]) or not given["server_command"]
    label = f"-{given['server_label']}" if given["server_label"] else ""
    for in_flight in given["concurrency"]:
        yield Experiment(
            model=model.name,
            loader=LOADER,
            families=EVERY_GPU | CPU if is_anywhere else model.families,
            on_request=frozenset() if is_anywhere else model.on_request,
            suffix=f"{label}{_suffix(in_flight)}",
        )


def _suffix(in_flight: int | str) -> str:
    return "-all-at-once" if in_flight == ALL_AT_ONCE else f"-concurrency{in_flight}"


def _load_of(experiment: Experiment, documents: int, options: Mapping[str, Any]) -> Concurrency:
    in_flight = next(each for each in options["concurrency"] if experiment.suffix.endswith(_suffix(each)))
    return Concurrency(in_flight=documents if in_flight == ALL_AT_ONCE else in_flight)


def _check_label(label: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", label):
        raise InputError(
            f"--server-label {label!r}: give lower-case letters, digits, dots and dashes, such as vllm-fp8"
        )


def _offered_model(options: Mapping[str, Any]) -> str:
    """The only model that the first server offers. Raises InputError where it does not answer or offers others too."""
    address = options["server"][0]

    async def ask() -> list[str]:
        async with ServerClient(address, clock=lambda: 0.0, api_key=_api_key(options)) as client:
            return [each.id for each in await client.models()]

    try:
        offered = asyncio.run(ask())
    except ServerError as error:
        raise InputError(f"--server {error}") from None
    if len(offered) != 1:
        names = ", ".join(shortened(each) for each in offered[:5]) or "none"
        raise InputError(f"--server {address}: offers {len(offered)} models ({names}); name one with --server-model")
    return offered[0]


def _catalogue_model(model_id: str) -> str:
    """The catalogue's model with this name on a server. A model that it does not know is added for this session."""

    def last(name: str) -> str:
        return name.rstrip("/").rpartition("/")[2].lower()

    for each in MODELS.values():
        if model_id in (each.name, each.repository) or last(model_id) == last(each.repository):
            return each.name
    name = slugify(last(model_id)) or "model"
    add_model(
        ModelSpec(
            name=name, repository=model_id, revision="", marker=ServerKind.facts.name, architecture="", licence_url=""
        )
    )
    return name


# Opening ---------------------------------------------------------------------------------------------------------


def open_served_model(toolbox: Toolbox) -> ServedModel:
    """The served model of this test, which stays open for the tests that follow.

    Raises UnavailableError where a server does not start or does not answer.
    """
    opened = toolbox.kept_open(toolbox.experiment.model, lambda: _opened(toolbox))
    return replace(opened, experiment=toolbox.experiment)


@contextmanager
def _opened(toolbox: Toolbox) -> Iterator[ServedModel]:
    options, experiment = toolbox.options, toolbox.experiment
    target = ServerTarget(
        addresses=tuple(options["server"]),
        model_id=options["server_model"] or "",
        api_key=_api_key(options),
        label=options["server_label"] or "",
        is_full_length=toolbox.synthetic_weights,
    )
    around = Surroundings(
        clock=toolbox.clock,
        monitor=toolbox.monitor,
        find_weights=toolbox.find_weights,
        is_synthetic=toolbox.synthetic_weights,
        dtype=toolbox.device.compute_dtype,
        log=toolbox.log_folder() / f"server-{experiment.model}.log",
        environment=os.environ,
        on_wait=lambda seconds: toolbox.show(f"waiting for the server, {decimal(seconds, 0)} s"),
    )
    if target.addresses:
        with served_by(target, experiment, around) as model:
            yield model
    else:
        command: LaunchCommand = launch_command_of(options["server_command"] or EMBEDDED_COMMAND)
        with launched(command, target, experiment, around) as model:
            yield model


def _api_key(options: Mapping[str, Any]) -> str | None:
    """The key, which is neither stored nor shown. Raises InputError where its variable is not set."""
    variable = options["api_key_env"]
    if not variable:
        return None
    if not os.environ.get(variable):
        raise InputError(f"--api-key-env {variable}: the variable is not set or empty; export it first")
    return os.environ[variable]
