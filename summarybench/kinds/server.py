"""OpenAI-compatible servers under load: one pass over the whole sample is one timed round."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from summarybench.catalogue.models import CPU, EVERY_GPU, MODELS, Experiment, ModelSpec
from summarybench.core.inert_text import hide
from summarybench.core.numbers import decimal
from summarybench.core.option import Option
from summarybench.core.outcomes import InputError, RequestsFailedError
from summarybench.engines.server.client import SILENCE_SECONDS, checked_address
from summarybench.engines.server.opening import (
    LaunchCommand,
    Surroundings,
    catalogue_model,
    launch_command_of,
    launched,
    offered_model,
    served_by,
)
from summarybench.engines.server.served_model import ServedModel, ServerTarget
from summarybench.kinds.kind import Case, Kind, Marker, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.measure.load import (
    INTERACTIVE,
    SWEEP,
    Concurrency,
    Load,
    concurrencies,
    loads_of,
    objective_of,
    rates,
)
from summarybench.measure.sample import Sample
from summarybench.measure.served_record import fleet_record, rate_search_record, served_extra_info
from summarybench.measure.serving import measure_served
from summarybench.runs.kind_facts import KindFacts, Unit
from summarybench.runs.served_figures import FIGURES
from summarybench.runs.workload import Workload

LOADER = "server"
EMBEDDED_COMMAND = "transformers"
"""The preset that serves the embedded model where no server is named."""
USUAL_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
"""An environment variable's. Anything else may be a key that was given in its place, and is not repeated."""


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
        default="",
        metavar="NAME",
    ),
    Option(
        "--server-command",
        "start a server: a preset (vllm, sglang, llama.cpp, transformers) with arguments, or a whole command line",
        example="--server-command 'vllm --quantization fp8'",
        default_in_words="transformers serve with the embedded model",
        default="",
        metavar="COMMAND",
    ),
    Option(
        "--api-key-env",
        "the environment variable with the server's API key",
        example="--api-key-env OPENAI_API_KEY",
        default="",
        metavar="VARIABLE",
    ),
    Option(
        "--server-label",
        "names the server's set-up in experiments, and replaces its version in the workload: versions can be compared",
        example="--server-label fp8",
        default_in_words="the server's version",
        default="",
        metavar="NAME",
    ),
    Option(
        "--server-timeout",
        "a request fails if the server sends no part of its answer for so many seconds",
        example="--server-timeout 60",
        default_in_words="600",
        type=float,
        default=SILENCE_SECONDS,
        minimum=1,
        metavar="SECONDS",
    ),
    Option(
        "--server-device",
        "the device of a server on another machine: the name of its folder of baselines",
        example="--server-device nvidia-h200",
        default_in_words="this machine's",
        default="",
        metavar="SLUG",
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
    Option(
        "--rate",
        "requests per second that arrive at random (a Poisson process), each number an experiment",
        example="--rate 0.5,2",
        default_in_words="none",
        type=rates,
        default=(),
        metavar="LIST",
    ),
    Option(
        "--slo",
        "a service-level objective: interactive (TTFT 500 ms, 30 ms a token), server (2 s, 100 ms), or two limits in ms",
        example="--slo 800:50",
        default_in_words=INTERACTIVE.name,
        metavar="OBJECTIVE",
    ),
    Option(
        "--sweep",
        "also search the greatest rate of requests that keeps the objective",
        example="--sweep --slo server",
        default=False,
        action="store_true",
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
    reads_long_documents = True

    def cases(self) -> Sequence[Case]:
        return self.cases_with({option.key: option.default for option in OPTIONS})

    def remote_device(self, given: Mapping[str, Any]) -> str:
        return given["server_device"] or ""

    def cases_with(self, given: Mapping[str, Any]) -> Sequence[Case]:
        return cases_of(
            [each for model in served_models(given) for each in experiments_of(model, given, _loads(given, 1))]
        )

    def completed_options(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask a running server for its model, unless an option names it, and add the model to the catalogue.

        Raises InputError for options that contradict each other, and for a server that does not answer.
        """
        completed = dict(given) | {"server": _checked_addresses(given["server"])}
        completed["slo"] = given["slo"] or INTERACTIVE.name
        if completed["server"] and completed["server_command"]:
            raise InputError("--server and --server-command: give the address of a server, or the command to start one")
        objective_of(completed["slo"])
        api_key = _api_key(completed)
        if completed["server_command"]:
            launch_command_of(completed["server_command"])
        for key in ("server_label", "server_device"):
            _check_name(key, completed[key])
        if completed["server_device"] and not completed["server"]:
            raise InputError("--server-device is for --server: the device of a server that the suite starts is known")
        if completed["server"]:
            completed["server_model"] = completed["server_model"] or offered_model(completed["server"], api_key)
            completed["server_catalogue_model"] = catalogue_model(completed["server_model"], self.name)
        return completed

    def resolved_options(self, given: Mapping[str, Any], device: Any) -> dict[str, Any]:
        """The options of servers, empty for what was left out."""
        del device
        names = ("server_model", "server_command", "api_key_env", "server_label", "server_device")
        return {
            **{option.key: given[option.key] for option in OPTIONS},
            **{name: given[name] or "" for name in names},
            **{name: list(given[name]) for name in ("concurrency", "rate")},
            "slo": given["slo"] or INTERACTIVE.name,
            "sweep": bool(given["sweep"]),
        }

    def measure(self, toolbox: Toolbox) -> Measurement:
        """Send the whole sample to the server, several times.

        The finding is the record `served`. Raises as `Kind.measure`, and RequestsFailedError where a round has no answer.
        """
        model = open_served_model(toolbox)
        sample = toolbox.sample_for(model)
        load = _load_of(toolbox, len(sample.prompts))
        objective = objective_of(toolbox.options["slo"])
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
        extra_info = served_extra_info(model, sample.prompts, rounds, load, objective)
        _add_further_passes(toolbox, model, sample, load, extra_info)
        return toolbox.measurement(
            model,
            sample.with_documents(frozenset(record.document_id for record in measured.records)),
            measured,
            workload=_workload(toolbox, model, sample, load),
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


def experiments_of(model: ModelSpec, given: Mapping[str, Any], suffixes: Iterable[str]) -> Iterator[Experiment]:
    """One experiment for each suffix. A running server may be anywhere, and the embedded model runs on every device."""
    is_anywhere = bool(given["server"]) or not given["server_command"]
    label = f"-{given['server_label']}" if given["server_label"] else ""
    for suffix in suffixes:
        yield Experiment(
            model=model.name,
            loader=LOADER,
            families=EVERY_GPU | CPU if is_anywhere else model.families,
            on_request=frozenset() if is_anywhere else model.on_request,
            suffix=f"{label}{suffix}",
        )


def _loads(options: Mapping[str, Any], documents: int) -> dict[str, Load]:
    return loads_of(options["concurrency"], options["rate"], documents, is_swept=options["sweep"])


def _load_of(toolbox: Toolbox, documents: int) -> Load:
    """The load that the end of the experiment's name stands for; a label may come before it."""
    suffix = toolbox.experiment.suffix
    return next(load for end, load in _loads(toolbox.options, documents).items() if suffix.endswith(end))


def _workload(toolbox: Toolbox, model: ServedModel, sample: Sample, load: Load) -> Workload:
    """The workload with its load: a batch size for requests in flight, a setting for a rate."""
    if isinstance(load, Concurrency):
        return toolbox.workload(model, sample, batch_size=load.in_flight)
    return toolbox.workload(model, sample, settings={"arrivals_per_second": load.per_second})


def _add_further_passes(
    toolbox: Toolbox, model: ServedModel, sample: Sample, load: Load, extra_info: dict[str, Any]
) -> None:
    """Add what further passes show: the search of --sweep, and one server of a fleet alone.

    Requests that fail in these passes change nothing about the measurement that is finished: the terminal shows why they failed in
    the search, and the record says why the server alone could not be measured.
    """
    served, tokens, per_second = extra_info["served"], sample.max_new_tokens, extra_info["documents_per_second"]
    if toolbox.experiment.suffix.endswith(SWEEP):
        objective = objective_of(toolbox.options["slo"])
        toolbox.show("searching the greatest rate within the objective")
        search = rate_search_record(model, sample.prompts, tokens, per_second, objective)
        served["rate_search"] = search
        if failing := next((each for each in search["steps"] if each["first_failure"]), None):
            rate = f"{decimal(failing['arrivals_per_second'], 2)} requests/s"
            toolbox.say(f"{toolbox.experiment.name}: requests failed at {rate}: {failing['first_failure']}")
    if len(model.target.addresses) > 1:
        try:
            served["fleet"] = fleet_record(model, sample.prompts, load, tokens, per_second)
        except RequestsFailedError as error:
            served["fleet_failure"] = str(error)


def _checked_addresses(given: Sequence[str]) -> list[str]:
    """The addresses of a fleet. Raises InputError for one that is none, or is there twice."""
    addresses = [checked_address(each) for each in given]
    for address in addresses:
        if addresses.count(address) > 1:
            raise InputError(
                f"--server {address}: given {addresses.count(address)} times; name each server of a fleet once"
            )
    return addresses


def _check_name(key: str, name: str | None) -> None:
    """Raise InputError for a name that could not be a part of a test's id or of a path."""
    if name and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        option, example = f"--{key.replace('_', '-')}", "nvidia-h200" if key == "server_device" else "vllm-fp8"
        raise InputError(f"{option} {name!r}: give lower-case letters, digits, dots and dashes, such as {example}")


# Opening ---------------------------------------------------------------------------------------------------------


def open_served_model(toolbox: Toolbox) -> ServedModel:
    """The served model of this test, which stays open for the tests that follow. A server that has died is started again.

    Raises UnavailableError where a server does not start or does not answer.
    """
    opened = toolbox.kept_open(toolbox.experiment.model, lambda: _opened(toolbox), lambda model: model.is_running)
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
        silence_seconds=options["server_timeout"],
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
    """The key, which is neither stored nor shown: every output hides it from now on.

    Raises InputError where its variable is not set, or holds what no HTTP header can carry.
    """
    variable = options["api_key_env"]
    if not variable:
        return None
    key = os.environ.get(variable)
    if not key:
        if not USUAL_NAME.fullmatch(variable):
            raise InputError(
                "--api-key-env: the variable is not set or empty; give the name of a variable with the key, not the key itself"
            )
        raise InputError(f"--api-key-env {variable}: the variable is not set or empty; export it first")
    if not key.isprintable():
        raise InputError(
            f"--api-key-env {variable}: the key contains a line break or another character that cannot be sent; export it "
            "without"
        )
    hide(key)
    return key
