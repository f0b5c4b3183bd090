"""Continuous batching: all documents are submitted at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from summarybench.catalogue.models import GPUS_THAT_COMPILE, LOADERS, MODELS, Experiment, experiments
from summarybench.core.option import Option
from summarybench.documents.prompts import Prompt
from summarybench.engines.engine import ConcurrentEngine
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.page_engine import start_page_engine
from summarybench.engines.paged import start_engine
from summarybench.kinds.kind import Case, Kind, Marker, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.machine.device import Device
from summarybench.machine.families import FAMILIES
from summarybench.measure.continuous import as_extra_info, measure_at_once
from summarybench.measure.sample import Sample
from summarybench.runs import built_in_kinds
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS

LOADERS_AT_ONCE = ("fp16", "bf16", "4-bit", "as-stored", "fp16-compiled", "8-bit-compiled", "4-bit-compiled")
"""The loaders whose matrix products gain from many rows. Weights that are unpacked at each step do so too: for all
documents at once."""


class ContinuousKind(Kind):
    """One pass over the whole sample is one timed round."""

    facts = built_in_kinds.CONTINUOUS
    marker = Marker(
        name="continuous",
        description="all documents at once through continuous batching; runs when -m names it",
    )
    reads_long_documents = True
    options = (
        Option(
            "--rounds",
            "how often continuous batching is given all documents; a verdict needs 8",
            example="--rounds 8",
            default_in_words="8 on a GPU, 1 on a CPU",
            type=int,
            minimum=1,
            metavar="N",
        ),
    )

    def cases(self) -> Sequence[Case]:
        return cases_of([_all_at_once(each) for each in experiments() if _is_worth_batching(each)])

    def markers_of(self, experiment: Experiment) -> tuple[str, ...]:
        """The experiment's markers without `compiled`, which need not be named: -m continuous measures all ways."""
        return experiment.markers_but_compiled

    def resolved_options(self, given: Mapping[str, Any], device: Device) -> dict[str, Any]:
        """As many rounds as a verdict needs, where they take minutes."""
        return {"rounds": given.get("rounds") or (MINIMUM_COMMON_DOCUMENTS if device.affords_large_samples else 1)}

    def measure(self, toolbox: Toolbox) -> Measurement:
        """Summarize the whole sample at once, several times.

        Raises as `Kind.measure`, and RequestsFailedError where a document was not summarized.
        """
        loaded = toolbox.loaded_model()
        sample = toolbox.sample_for(loaded)
        return measure_all_at_once(
            toolbox,
            loaded,
            sample,
            lambda: self.start_engine(toolbox, loaded, prompts_at_once(sample.prompts), sample.max_new_tokens),
        )

    def start_engine(
        self, toolbox: Toolbox, loaded: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int
    ) -> ConcurrentEngine:
        """Start continuous batching with this model and these prompts."""
        return start_batching(toolbox, loaded, prompts, max_new_tokens)


def prompts_at_once(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts that are submitted together, and the longest one that can follow: what the engine's memory must hold."""
    found = []
    for prompt in prompts:
        found += [replace(prompt, token_ids=call.token_ids, reading=None) for call in prompt.first_calls]
    longest = max(prompts, key=lambda prompt: prompt.longest_call_tokens)
    if longest.reading:
        found.append(replace(longest, token_ids=(0,) * longest.longest_call_tokens, reading=None))
    return found


def start_batching(
    toolbox: Toolbox, loaded: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int
) -> ConcurrentEngine:
    """Start continuous batching: transformers' for eager loaders, this project's for compiled ones.

    The engine stays within the session's memory limit. Raises DeviceMemoryError where not even one document fits, and
    UnavailableError where the model is not supported.
    """
    start = start_page_engine if LOADERS[loaded.experiment.loader].is_compiled else start_engine
    return start(loaded, prompts, max_new_tokens, toolbox.device, may_refuse=toolbox.predicts_memory)


def measure_all_at_once(
    toolbox: Toolbox,
    loaded: LoadedModel,
    sample: Sample,
    start: Callable[[], ConcurrentEngine],
    extra_info: Mapping[str, Any] | None = None,
) -> Measurement:
    """Summarize the whole sample in each timed round, with the engine that `start` returns, and close it.

    `extra_info` has further keys of the calling kind. Raises as `ContinuousKind.measure`.
    """
    measured, engine, rounds = measure_at_once(
        toolbox.benchmark,
        loaded,
        sample.prompts,
        start=start,
        rounds=toolbox.options["rounds"],
        max_new_tokens=sample.max_new_tokens,
        instruments=toolbox.instruments(loaded),
        on_record=toolbox.recorder(loaded, len(sample.prompts)),
    )
    figures = as_extra_info(
        measured,
        rounds,
        engine.limits,
        weights_read_bytes=loaded.weights_read_bytes,
        cache_bytes_per_token=loaded.cache_bytes_per_token,
        copy_bandwidth=toolbox.copy_bandwidth,
    )
    return toolbox.measurement(
        loaded,
        sample,
        measured,
        workload=toolbox.workload(loaded, sample, batch_size=engine.limits.requests, settings=engine.settings),
        seconds=[each.seconds for each in rounds],
        extra_info={**figures, **(extra_info or {})},
    )


def _is_worth_batching(experiment: Experiment) -> bool:
    """Float32 only for the embedded model."""
    is_embedded = MODELS[experiment.model].is_embedded
    return experiment.loader in LOADERS_AT_ONCE or (experiment.loader == "default" and is_embedded)


def _all_at_once(experiment: Experiment) -> Experiment:
    """In 16 bits the weights leave a T4 too little memory for many documents."""
    is_16_bit = experiment.loader in ("fp16", "bf16")
    able = GPUS_THAT_COMPILE if LOADERS[experiment.loader].is_compiled else FAMILIES
    return replace(
        experiment,
        suffix="-continuous",
        families=(experiment.families & able) - ({"t4"} if is_16_bit else frozenset()),
        on_request=experiment.on_request & able,
    )
