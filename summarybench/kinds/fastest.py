"""The fastest way to run each precision on a device.

Decoding is compiled where the device can compile. A trial chooses between large batches, single documents and all documents at
once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from summarybench.catalogue.models import GPUS_THAT_COMPILE, LOADERS, MODELS, Experiment, experiments
from summarybench.core.numbers import decimal
from summarybench.core.option import Option
from summarybench.engines.engine import ConcurrentEngine, note_nothing
from summarybench.engines.loaded_model import LoadedModel
from summarybench.kinds.batching import measure_in_batches
from summarybench.kinds.continuous import LOADERS_AT_ONCE, measure_all_at_once, start_batching
from summarybench.kinds.kind import Case, Kind, Marker, cases_of
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.measure.batching import even_batch_size
from summarybench.measure.continuous import WARM_UP_TOKENS
from summarybench.measure.sample import Sample
from summarybench.runs import built_in_kinds
from summarybench.runs.kind_facts import Unit
from summarybench.runs.kind_records import Trial

SINGLE_DOCUMENTS, ALL_AT_ONCE = "single documents", "all documents at once"
TRIAL_TOKENS = 16
"""New tokens of a document in a trial on a CPU, where all of them would take minutes."""


class FastestKind(Kind):
    """One batch is one timed round, or one pass over the sample where a trial chose continuous batching."""

    facts = built_in_kinds.FASTEST
    marker = Marker(
        name="fastest",
        description=(
            "each precision in batches or all at once, compiled where the device compiles; run when -m names it, or with --fastest"
        ),
    )
    flag = "fastest"
    options = (
        Option(
            "--fastest",
            "measure each precision in its fastest way instead of in single documents: compiled where the device supports it, "
            "and in large batches or all documents at once, whichever a trial finds faster",
            example="--fastest",
            is_everyday=True,
            action="store_true",
        ),
    )

    def cases(self) -> Sequence[Case]:
        precisions = (each for each in experiments() if not LOADERS[each.loader].is_compiled)
        return cases_of([way for each in precisions for way in _fastest_ways(each)])

    def markers_of(self, experiment: Experiment) -> tuple[str, ...]:
        """The experiment's markers without `compiled`.

        Compiled loaders need not be named here: where a device compiles, they are the fastest.
        """
        return experiment.markers_but_compiled

    def measure(self, toolbox: Toolbox) -> Measurement:
        """Try batches of even size, single documents and all documents at once, and measure what was fastest.

        Raises as `Kind.measure`.
        """
        loaded = toolbox.loaded_model()
        sample = toolbox.sample_for(loaded)
        trial = self._try_batch_sizes(toolbox, loaded, sample)
        if loaded.experiment.loader not in LOADERS_AT_ONCE:
            return self._measure_batches(toolbox, loaded, trial)
        with toolbox.generating(loaded, f"{loaded.experiment.name}: preparing continuous batching"):
            engine = self.start_engine(toolbox, loaded, sample)
        with ExitStack() as stack:
            stack.callback(engine.close)

            def hand_over() -> ConcurrentEngine:
                stack.pop_all()
                return engine

            trial["at_once_documents_per_second"] = self._try_at_once(toolbox, loaded, sample, engine)
            if fastest_way(trial) == ALL_AT_ONCE:
                toolbox.say(f"{loaded.experiment.name}: {in_words(trial)}")
                in_rounds = {"kind": replace(self.facts, unit=Unit.ROUND).as_record(), "batch_document_ids": None}
                return measure_all_at_once(toolbox, loaded, sample, hand_over, {**in_rounds, "trial": trial})
        return self._measure_batches(toolbox, loaded, trial)

    def _try_batch_sizes(self, toolbox: Toolbox, loaded: LoadedModel, sample: Sample) -> Trial:
        """Batches of even size; on a CPU, where a batch can be slower, single documents too.

        A loader with one way only is not tried.
        """
        batch_size = even_batch_size(loaded, sample.longest_sequence, len(sample.prompts), toolbox.device)
        trial: Trial = {"batch_size": batch_size}
        has_singles = batch_size > 1 and not toolbox.device.affords_large_samples
        if has_singles or loaded.experiment.loader in LOADERS_AT_ONCE:
            trial["batches_documents_per_second"] = self._try_batches(toolbox, loaded, sample, batch_size)
        if has_singles:
            trial["singles_documents_per_second"] = self._try_batches(toolbox, loaded, sample, 1)
        return trial

    @staticmethod
    def _measure_batches(toolbox: Toolbox, loaded: LoadedModel, trial: Trial) -> Measurement:
        toolbox.say(f"{loaded.experiment.name}: {in_words(trial)}")
        batch_size = 1 if fastest_way(trial) == SINGLE_DOCUMENTS else trial["batch_size"]
        was_tried = "batches_documents_per_second" in trial
        extra_info = {"trial": trial} if was_tried else None
        return measure_in_batches(toolbox, loaded, replace(loaded.experiment, batch_size=batch_size), extra_info)

    def start_engine(self, toolbox: Toolbox, loaded: LoadedModel, sample: Sample) -> ConcurrentEngine:
        """Start continuous batching with this model and sample."""
        return start_batching(toolbox, loaded, sample.prompts, sample.max_new_tokens)

    @staticmethod
    def _try_batches(toolbox: Toolbox, loaded: LoadedModel, sample: Sample, batch_size: int) -> float:
        """Documents per second of the batch in the middle of the sample by length, after a first one that warms up."""
        longest_first = sorted((prompt.token_ids for prompt in sample.prompts), key=len, reverse=True)
        middle = max(len(longest_first) - batch_size, 0) // 2
        batch = longest_first[middle : middle + batch_size]
        loaded.resize(batch_size)
        with toolbox.generating(loaded, f"{loaded.experiment.name}: trying batches of {batch_size}"):
            for _ in range(2):
                prepared = loaded.prepare(batch)
                start = toolbox.clock()
                loaded.generate(prepared, trial_tokens(toolbox, sample), note_nothing)
                seconds = toolbox.clock() - start
        loaded.resize(0)
        toolbox.device.release_memory()
        return len(batch) / seconds

    @staticmethod
    def _try_at_once(toolbox: Toolbox, loaded: LoadedModel, sample: Sample, engine: ConcurrentEngine) -> float:
        """Documents per second of one pass over the sample, after a short one that warms up."""
        prompts = [prompt.token_ids for prompt in sample.prompts]
        with toolbox.generating(loaded, f"{loaded.experiment.name}: trying all documents at once"):
            engine.run(prompts, WARM_UP_TOKENS)
            start = toolbox.clock()
            engine.run(prompts, trial_tokens(toolbox, sample))
            seconds = toolbox.clock() - start
        return len(prompts) / seconds


def fastest_way(trial: Trial) -> str:
    """The way that gave most documents per second; batches where nothing else was tried."""
    speeds = _speeds(trial)
    return max(speeds, key=lambda way: speeds[way])


def in_words(trial: Trial) -> str:
    """What is measured, and how fast each way was in the trial."""
    speeds = _speeds(trial)
    chosen = f"measured with {fastest_way(trial)}"
    if len(speeds) == 1:
        return f"{chosen}, the only way that this loader supports"
    first, *others = (f"{way} {decimal(speed, 2)}" for way, speed in speeds.items())
    *between, last = others
    way, _, speed = first.rpartition(" ")
    return f"{chosen}; in a trial, {', '.join([f'{way} gave {speed} documents/s', *between])}, and {last}"


def _speeds(trial: Trial) -> dict[str, float]:
    """Documents per second by way, those that were tried. Batches are always among them, and come first."""
    found = {f"batches of {trial['batch_size']}": trial.get("batches_documents_per_second", 0.0)}
    if (singles := trial.get("singles_documents_per_second")) is not None:
        found[SINGLE_DOCUMENTS] = singles
    if (at_once := trial.get("at_once_documents_per_second")) is not None:
        found[ALL_AT_ONCE] = at_once
    return found


def trial_tokens(toolbox: Toolbox, sample: Sample) -> int:
    """New tokens of a document in a trial: all of them where that takes seconds, a few on a CPU."""
    return sample.max_new_tokens if toolbox.device.affords_large_samples else min(TRIAL_TOKENS, sample.max_new_tokens)


def _fastest_ways(experiment: Experiment) -> Iterator[Experiment]:
    """The compiled loader on GPUs that compile, the usual loader elsewhere.

    A precision without a compiled loader, or a model that none can run, has its usual one on all devices.
    """
    compiled = f"{experiment.loader}-compiled"
    compiles = compiled in LOADERS and not MODELS[experiment.model].obstacle_to_compiling
    compiling = GPUS_THAT_COMPILE if compiles else frozenset[str]()
    for loader, families, on_request in (
        (compiled, experiment.families & compiling, experiment.on_request & compiling),
        (experiment.loader, experiment.families - compiling, experiment.on_request - compiling),
    ):
        if families | on_request:
            yield replace(experiment, loader=loader, families=families, on_request=on_request, suffix="-fastest")
