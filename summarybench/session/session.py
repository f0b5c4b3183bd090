"""One session of the suite: its folder, its journal, and what is asked of the other modules on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from summarybench.analysis.comparison import Comparison, Judge
from summarybench.analysis.confirmation import FirstPasses, read_first_passes
from summarybench.analysis.noise import read_spread
from summarybench.analysis.quality import Quality, score
from summarybench.analysis.teacher_change import TeacherChange, beside_teacher
from summarybench.catalogue.floors import FLOORS
from summarybench.catalogue.models import LOADERS, MODELS, REFERENCE_LOADER, Experiment
from summarybench.core.invocation import this_invocation
from summarybench.core.outcomes import (
    NOT_RUN,
    BrokenOutputError,
    InputError,
    JudgementError,
    Outcome,
    TestOutcome,
    Verdict,
    first_line,
    outcome_as_record,
    outcome_of_record,
    with_confirmed_slowdown,
)
from summarybench.core.processes import ALONE, Process
from summarybench.core.session_seconds import SessionSeconds
from summarybench.documents.sources import Prompt, template_digest
from summarybench.engines.fitting import Forecast
from summarybench.engines.loading import JsonScalar, LoadedModel, NotLoaded, load
from summarybench.engines.paged import Engine, StartEngine, start_engine
from summarybench.engines.weights import find_weights
from summarybench.machine.clock import Clock
from summarybench.machine.device import Device
from summarybench.machine.device_lock import DeviceLock
from summarybench.machine.peers import LOADING_PATIENCE_SECONDS, Peers
from summarybench.machine.probes import Controls
from summarybench.machine.telemetry import Monitor, problem
from summarybench.measure.batching import find_largest_batch, hold_in_memory, rows_of_even_batches
from summarybench.measure.continuous import as_extra_info, measure_at_once
from summarybench.measure.fidelity import (
    EagerSide,
    Fidelity,
    Lend,
    Noted,
    Reference,
    agreement_of,
    eager_side,
    logit_error,
    make_reference,
    quality_beside,
)
from summarybench.measure.generation import (
    Benchmark,
    ChatModel,
    GenerationRecord,
    Instruments,
    Measured,
    WarmUp,
    measure,
    telling_faults,
)
from summarybench.measure.overhead import Overhead, compare_with_bare_loop
from summarybench.measure.record import extra_info_of
from summarybench.measure.scaling import Scaling, measure_scaling
from summarybench.report.html import write_report
from summarybench.runs.baselines import (
    ANCHOR,
    Baselines,
    StoredRun,
    find_anchor,
    find_baseline,
    pick_run,
    read_baselines,
    refuse_second_anchor,
    save_baseline,
    why_unfit,
)
from summarybench.runs.journal import SELECTED, Record
from summarybench.runs.resume import EarlierRun, carried_records, check_same_conditions, read_earlier_run
from summarybench.runs.run_file import Entry, entries_of, run_text
from summarybench.runs.run_folder import Results, SilentResults, shown
from summarybench.runs.workload import Workload, differences
from summarybench.session.memory import MemoryForecasts
from summarybench.session.progress import Progress
from summarybench.session.sampling import Sample, Sampler
from summarybench.session.settings import Settings
from summarybench.session.students import Student

MEMORY_DOCUMENTS = 3
"""Enough for the memory's peak, which the longest prompt makes: the others are there to show that they do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summaries:
    """What one test measured: raw facts, their quality (None for synthetic weights), and the entry that the comparison reads."""

    nodeid: str
    measured: Measured
    quality: Quality | None
    entry: Entry


class Suite:
    """Opened once, when the tests are selected and before anything heavy is imported; everything measured goes through it.

    `seconds` count from the session's start where it is handed in.

    Opening raises InputError for documents, baselines or a results folder that cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        device: Device,
        *,
        machine_info: Mapping[str, Any],
        commit_info: Mapping[str, Any],
        progress: Progress,
        process: Process = ALONE,
        seconds: SessionSeconds | None = None,
    ) -> None:
        self.settings = settings
        self.seconds = seconds or SessionSeconds()
        self.process = process
        self.peers: Peers | None = None
        self.device = device
        self.progress = progress
        self.machine_info = dict(machine_info)
        self.outcomes: dict[str, TestOutcome] = {}
        self.figures: dict[str, Mapping[str, Any]] = {}  # `extra_info` of what this session has measured, by nodeid
        self.carried: dict[str, TestOutcome] = {}
        self.baselines: Baselines = read_baselines(settings.baselines_dir / device.slug)
        self.is_new_gpu = device.is_gpu and not self.baselines.runs
        self.is_saved = False
        self._picked: StoredRun | None = (
            pick_run(self.baselines, settings.compare_with) if settings.compare_with else None
        )
        self.sampler = Sampler(settings, device, progress)
        self._forecasts = MemoryForecasts(settings, device)
        self.monitor: Monitor = device.monitor()
        self.monitor.note_before_context()
        self.copy_bandwidth: float | None = None
        self.measure_controls: Callable[[str], Controls] = lambda _: {}
        self.pulse: Callable[[], float | None] = lambda: None
        self.lost = ""
        self.results: Results
        if settings.save_as and (device.stands_in or device.is_limited):
            raise InputError(
                "--benchmark-save with --gpu-family or --memory-limit: such a device is not itself and never makes a baseline"
            )
        if settings.save_as == ANCHOR:
            refuse_second_anchor(self.baselines.folder)
        self._judge = Judge(
            environment=self.machine_info,
            spread=read_spread(self.baselines.folder, is_gpu=device.is_gpu),
            tolerance=settings.tolerance,
            slug=device.slug,
        )
        self._first_passes = FirstPasses()
        self._references: dict[str, Reference] = {}
        self._commit_info = dict(commit_info)

    def open(self, selected: Mapping[str, Experiment], skipped: Mapping[str, Experiment] | None = None) -> None:
        """Check what the selected experiments (by nodeid) will need, then make the results folder and begin the journal.

        `skipped` are selected too, and need nothing: their tests are marked as for another device.
        With --resume it begins with what the earlier run finished of them: `carried` has those outcomes by nodeid.
        """
        for model in {experiment.model for experiment in selected.values()}:
            self.sampler.check(model)
        with self.progress.stage("reading the model folders"):  # once; a digest that is remembered takes no time
            settings = self.settings.workload_on(self.device)
        session: Record = {
            "machine_info": self.machine_info,
            "commit_info": self._commit_info,
            "datetime": datetime.now(UTC).isoformat(),
            "version": _plugin_version(),
            "device": self.device.as_record(),
            "settings": settings,
            SELECTED: {nodeid: each.name for nodeid, each in {**selected, **(skipped or {})}.items()},
        }
        if choices := self.settings.choices_on(self.device):
            session["choices"] = choices
            self.progress.say(choices)
        records: list[tuple[str, Record]] = []
        if (path := self.settings.resume or self.settings.confirm) is not None:
            earlier = read_earlier_run(path)
            check_same_conditions(earlier, machine_info=self.machine_info, settings=session["settings"])
            key = "resumed_from" if self.settings.resume else "confirms"
            session |= {key: earlier.origin, "dropped_lines": earlier.journal.dropped_lines}
            records = self._carry(earlier, selected)
        if not self.process.reports:
            self.results = SilentResults()
            return
        self.results = Results(self.settings.results_dir, self.device.slug)
        self.results.begin(session, records)
        if self.settings.folder_file is not None:
            self.results.name_folder_in(self.settings.folder_file)
        self.lock = DeviceLock(self.device, self.results.folder)
        self.progress.warn(self.lock.warning)

    def _carry(self, earlier: EarlierRun, selected: Mapping[str, Experiment]) -> list[tuple[str, Record]]:
        """What is taken over: of a run that is resumed what it finished, of one that is confirmed all but its suspects."""
        if self.settings.confirm:
            self._first_passes = read_first_passes(earlier, every=self.settings.passes > 1)
            taken = {
                nodeid: each for nodeid, each in earlier.outcomes.items() if nodeid not in self._first_passes.entries
            }
        else:
            taken = earlier.finished
        self.carried = {nodeid: each for nodeid, each in taken.items() if nodeid in selected}
        self.outcomes = dict(self.carried)
        return list(carried_records(earlier, carry=self.carried, again=selected.keys() - self.carried.keys()))

    # Measuring ---------------------------------------------------------------------------------------------------

    def load(self, experiment: Experiment, clock: Clock) -> LoadedModel | NotLoaded:
        """The experiment's model on the device, or why it is not."""
        settings = self.settings
        return load(
            experiment,
            lambda: find_weights(MODELS[experiment.model], settings.model_paths, synthetic=settings.synthetic_weights),
            self.device,
            clock,
            longest_sequence=lambda chat: self.sampler.sample_for(experiment.model, chat).longest_sequence,
            predict=settings.predict_memory,
        )

    def summarize(self, benchmark: Benchmark, loaded: LoadedModel, nodeid: str, clock: Clock) -> Summaries:
        """Time the summary of every document of the sample, and score exactly those summaries.

        Raises UnavailableError where the documents cannot be had, DeviceMemoryError where memory runs out and
        DeviceInvalidError where the device is lost.
        """
        sample = self.sampler.sample_for(loaded.experiment.model, loaded.chat)
        return self._summarize_sample(benchmark, loaded, sample, nodeid, clock)

    def summarize_in_batches(
        self, benchmark: Benchmark, loaded: LoadedModel, experiment: Experiment, nodeid: str, clock: Clock
    ) -> Summaries:
        """Time the summaries of the sample's documents in batches, and score exactly those. Raises as `summarize`.

        Raises BatchTooLargeError where memory does not suffice, as predicted.
        """
        sample = self.sampler.sample_for(experiment.model, loaded.chat)
        rows = min(experiment.batch_size, len(sample.prompts))
        loaded.fit_rows(rows)
        prediction = loaded.memory_for(sample.longest_sequence, rows)
        with hold_in_memory(experiment, prediction, self.device, predict=self.settings.predict_memory):
            return self._summarize_sample(
                benchmark, loaded.as_experiment(experiment, prediction), sample, nodeid, clock, experiment.batch_size
            )

    def summarize_fastest(self, benchmark: Benchmark, loaded: LoadedModel, nodeid: str, clock: Clock) -> Summaries:
        """Time the summaries of the sample in as few even batches as are sensible. Raises as `summarize_in_batches`."""
        sample = self.sampler.sample_for(loaded.experiment.model, loaded.chat)
        rows = rows_of_even_batches(loaded, sample.longest_sequence, len(sample.prompts), self.device)
        experiment = replace(loaded.experiment, batch_size=rows)
        return self.summarize_in_batches(benchmark, loaded, experiment, nodeid, clock)

    def find_largest_batch(
        self, benchmark: Benchmark, loaded: LoadedModel, experiment: Experiment, nodeid: str, clock: Clock
    ) -> Comparison:
        """Find the largest safe batch, summarize the sample in batches of that size, and compare it with the baseline's."""
        sample = self.sampler.sample_for(experiment.model, loaded.chat)
        with self.progress.stage(f"finding the largest batch of {loaded.experiment.name}"):
            start = clock()
            found = find_largest_batch(loaded, sample.prompts, sample.max_new_tokens, self.device)
            self.seconds.add_generating(clock() - start, loaded.compile_seconds)
        prediction = loaded.memory_for(sample.longest_sequence, min(found.rows, len(sample.prompts)))
        summaries = self._summarize_sample(
            benchmark,
            loaded.as_experiment(experiment, prediction),
            sample,
            nodeid,
            clock,
            found.rows,
            **found.as_extra_info(),
        )
        return self.compare(summaries)

    def measure_memory(self, benchmark: Benchmark, loaded: LoadedModel, nodeid: str, clock: Clock) -> int:
        """The most bytes in use while the longest prompt and a few others are summarized. Raises as `summarize`."""
        sample = self.sampler.sample_for(loaded.experiment.model, loaded.chat).around_the_longest(MEMORY_DOCUMENTS)
        summaries = self._summarize_sample(benchmark, loaded, sample, nodeid, clock)
        self.compare(summaries)
        return summaries.measured.peak_memory_bytes

    def _summarize_sample(
        self,
        benchmark: Benchmark,
        loaded: LoadedModel,
        sample: Sample,
        nodeid: str,
        clock: Clock,
        batch_size: int = 1,
        **more: Any,
    ) -> Summaries:
        measured = self._measure(benchmark, loaded, loaded, sample, nodeid, clock, batch_size)
        return self._summaries(loaded, sample, measured, nodeid, **more)

    def _measure(
        self,
        benchmark: Benchmark,
        model: ChatModel,
        loaded: LoadedModel,
        sample: Sample,
        nodeid: str,
        clock: Clock,
        batch_size: int = 1,
    ) -> Measured:
        """`model` is `loaded`, or stands before it."""
        loaded.fit_rows(min(batch_size, len(sample.prompts)))
        return measure(
            benchmark,
            model,
            sample.prompts,
            max_new_tokens=sample.max_new_tokens,
            instruments=self._instruments(loaded, clock),
            on_record=self._recorder(nodeid, loaded.experiment, len(sample.prompts)),
            batch_size=batch_size,
        )

    def summarize_at_once(
        self, benchmark: Benchmark, loaded: LoadedModel, nodeid: str, clock: Clock, start: StartEngine
    ) -> Summaries:
        """Time the summaries of the whole sample, submitted at once. Raises as `summarize`, and RequestsFailedError."""
        sample = self.sampler.sample_for(loaded.experiment.model, loaded.chat)
        measured, engine, rounds = measure_at_once(
            benchmark,
            loaded,
            sample.prompts,
            start=lambda: start(loaded, sample.prompts, sample.max_new_tokens),
            rounds=self.settings.kind_options_on(self.device)["rounds"],
            max_new_tokens=sample.max_new_tokens,
            instruments=self._instruments(loaded, clock),
            on_record=self._recorder(nodeid, loaded.experiment, len(sample.prompts)),
        )
        facts = as_extra_info(
            measured,
            rounds,
            engine.limits,
            weights_read_bytes=loaded.weights_read_bytes,
            copy_bandwidth=self.copy_bandwidth,
        )
        return self._summaries(
            loaded,
            sample,
            measured,
            nodeid,
            workload=self._workload(loaded, sample, batch_size=engine.limits.requests, settings=engine.settings),
            seconds=[each.seconds for each in rounds],
            **facts,
        )

    def start_engine(self, loaded: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int) -> Engine:
        """Continuous batching with this model, within the session's memory limit."""
        return start_engine(loaded, prompts, max_new_tokens, self.device, may_refuse=self.settings.predict_memory)

    def join(self) -> None:
        """Meet the other processes of the run, where there are any. Raises ProcessLostError where they do not come."""
        if self.peers is None and not self.process.is_alone:
            self.peers = Peers(self.process, self.device)

    def summarize_together(
        self, benchmark: Benchmark, load: Callable[[], LoadedModel], nodeid: str, clock: Clock
    ) -> tuple[Summaries, Scaling]:
        """Time the summaries of the sample in all processes at once, and score them: the same result in each of them.

        `load` hands on the model, or raises why there is none. Raises as `summarize`, and where it fails in one process, in
        all of them; ProcessLostError where one is gone, and JudgementError where they do not do the same work.
        """
        peers = self.peers
        if peers is None:
            raise RuntimeError("one process has nobody to measure with: this test should have been skipped")
        with peers.attentive():
            peers.together(f"{nodeid}, loaded", lambda: bool(load()), patience_seconds=lambda: LOADING_PATIENCE_SECONDS)
            loaded = load()
            sample = self.sampler.sample_for(loaded.experiment.model, loaded.chat)
            workload = self._workload(loaded, sample, processes=self.process.count)
            self._check_same_work(peers.share(f"{nodeid}, workload", (self.device.name, workload.as_dict())))
            measured, scaling = measure_scaling(
                benchmark,
                loaded,
                sample.prompts,
                nodeid=nodeid,
                peers=peers,
                max_new_tokens=sample.max_new_tokens,
                instruments=self._instruments(loaded, clock),
                on_record=self._recorder(nodeid, loaded.experiment, len(sample.prompts)),
            )
        measured_ids = {record.document_id for record in measured.records}
        used = replace(sample, documents=tuple(each for each in sample.documents if each.id in measured_ids))
        summaries = self._summaries(loaded, used, measured, nodeid, workload=workload, **scaling.as_extra_info())
        return summaries, scaling

    def _check_same_work(self, found: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        first_device, first = found[0]
        for rank, (device, workload) in enumerate(found):
            named = [f"on a {device}"] if device != first_device else []
            if named := [*named, *differences(workload, first)]:
                raise JudgementError(
                    f"process {rank} does not do what process 0 does on its {first_device}: {'; '.join(named)}; "
                    "a figure of both would be of neither"
                )

    def compare_with_bare_loop(self, benchmark: Benchmark, loaded: LoadedModel, nodeid: str, clock: Clock) -> Overhead:
        """How the harness's tokens per second compare with a bare loop's. Raises as `summarize`."""
        sample = self.sampler.sample_for(loaded.experiment.model, loaded.chat)
        overhead, measured = compare_with_bare_loop(
            benchmark,
            loaded,
            sample.prompts,
            max_new_tokens=sample.max_new_tokens,
            instruments=self._instruments(loaded, clock),
            on_record=self._recorder(nodeid, loaded.experiment, len(sample.prompts)),
        )
        self.compare(self._summaries(loaded, sample, measured, nodeid, overhead=overhead.as_extra_info()))
        return overhead

    def measure_fidelity(
        self, benchmark: Benchmark, experiment: Experiment, lend: Lend, folder: Path, nodeid: str, clock: Clock
    ) -> Fidelity:
        """A compiled loader beside its eager twin and float32, whose logits are kept in `folder`. Raises as `summarize`,
        and JudgementError where there is no room there or a logit is no number.
        """

        def of_reference(loaded: LoadedModel) -> Reference:
            sample = self.sampler.sample_for(experiment.model, loaded.chat)
            with telling_faults(self.device):
                return make_reference(loaded, sample.prompts, sample.max_new_tokens, folder / experiment.model)

        def of_eager(loaded: LoadedModel) -> EagerSide:
            sample = self.sampler.sample_for(experiment.model, loaded.chat)
            with telling_faults(self.device):
                return eager_side(loaded, twin, sample.prompts, sample.max_new_tokens, reference)

        if experiment.model not in self._references:
            self._references[experiment.model] = lend(experiment.loaded_as(REFERENCE_LOADER), of_reference)
        reference, twin = self._references[experiment.model], LOADERS[experiment.loader].eager_twin
        eager = lend(experiment.loaded_as(twin), of_eager)
        return lend(experiment, lambda loaded: self._compiled_side(benchmark, loaded, reference, eager, nodeid, clock))

    def _compiled_side(
        self,
        benchmark: Benchmark,
        loaded: LoadedModel,
        reference: Reference,
        eager: EagerSide,
        nodeid: str,
        clock: Clock,
    ) -> Fidelity:
        sample, noted = self.sampler.sample_for(loaded.experiment.model, loaded.chat), Noted(loaded)
        measured = self._measure(benchmark, noted, loaded, sample, nodeid, clock)
        with telling_faults(self.device):
            error = logit_error(loaded, sample.prompts, reference)
        found = Fidelity(
            eager=eager,
            logit_error=error,
            forced_tokens=reference.tokens,
            agreement=agreement_of(noted.summaries, eager.summaries),
            quality=quality_beside([record.summary for record in measured.records], eager, sample.documents),
        )
        self.compare(self._summaries(loaded, sample, measured, nodeid, fidelity=found.as_extra_info()))
        return found

    def _instruments(self, loaded: LoadedModel, clock: Clock) -> Instruments:
        dtype = str(loaded.settings.get("compute_dtype", loaded.settings["dtype"]))
        return Instruments(
            device=self.device,
            clock=clock,
            monitor=self.monitor,
            controls=lambda: self.measure_controls(dtype),
            pulse=self.pulse,
            on_warm_up=self._on_warm_up(loaded),
        )

    def _on_warm_up(self, loaded: LoadedModel) -> Callable[[WarmUp], None]:
        compiled_before = loaded.compile_seconds or 0.0

        def say(warm_up: WarmUp) -> None:
            seconds = warm_up.seconds - ((loaded.compile_seconds or 0.0) - compiled_before)
            self.progress.warmed_up(
                loaded.experiment.name,
                warm_up.seconds,
                rounds=warm_up.rounds,
                expected_seconds=seconds / warm_up.warmed_rounds * warm_up.rounds if warm_up.warmed_rounds else None,
            )

        return say

    def _summaries(
        self,
        loaded: LoadedModel,
        sample: Sample,
        measured: Measured,
        nodeid: str,
        *,
        workload: Workload | None = None,
        seconds: Sequence[float] | None = None,
        **more: Any,
    ) -> Summaries:
        """`seconds` are the rounds' where those are not of a document or a batch each."""
        experiment = loaded.experiment
        # Random weights say nothing: a score of it would look like one.
        quality = None if loaded.weights.kind == "synthetic" else self._score(measured, sample, experiment)
        workload = workload or self._workload(loaded, sample)
        entry = Entry.of(
            name=nodeid.rpartition("::")[2],
            extra_info={**extra_info_of(loaded, workload, measured, quality, self.copy_bandwidth), **more},
            seconds=tuple(seconds or (records[0].round_seconds for records in measured.rounds)),
        )
        self.seconds.add_generating(measured.warm_up_seconds + sum(entry.seconds), loaded.compile_seconds)
        return Summaries(nodeid=nodeid, measured=measured, quality=quality, entry=entry)

    def _workload(
        self,
        loaded: LoadedModel,
        sample: Sample,
        *,
        processes: int = 1,
        batch_size: int | None = None,
        settings: Mapping[str, JsonScalar] | None = None,
    ) -> Workload:
        """`settings` go beside the loader's; `batch_size` is the experiment's unless it is given."""
        experiment = loaded.experiment
        return Workload(
            model=experiment.model,
            revision=loaded.weights.revision,
            weights=loaded.weights.kind,
            loader=experiment.loader,
            loader_settings={**loaded.settings, **(settings or {})},
            prompt_template=template_digest(loaded.chat.template),
            document_source=sample.source.value,
            document_revision=sample.revision,
            max_prompt_tokens=self.settings.prompt_tokens_on(self.device),
            max_new_tokens=sample.max_new_tokens,
            batch_size=batch_size or experiment.batch_size,
            processes=processes,
        )

    def _score(self, measured: Measured, sample: Sample, experiment: Experiment) -> Quality:
        floor = FLOORS.get((experiment.model, experiment.loader, sample.source, sample.max_new_tokens))
        return score(measured.records, sample.documents, floor)

    def _recorder(self, nodeid: str, experiment: Experiment, total: int) -> Callable[[GenerationRecord], None]:
        records: list[GenerationRecord] = []

        def on_record(record: GenerationRecord) -> None:
            records.append(record)
            self.results.journal.append("document", {"nodeid": nodeid, "experiment": experiment.name, **asdict(record)})
            self.progress.document(experiment.name, records, total)

        return on_record

    def compare(self, summaries: Summaries) -> Comparison:
        """The verdict against the baseline; the experiment is journalled with it, before anything is asserted.

        Raises BrokenOutputError if most summaries are empty or repeating. Every kind of benchmark that scores text comes
        through here, so none can forget to ask.
        """
        entry, first = summaries.entry, self._first_passes.entries.get(summaries.nodeid)
        fault = problem(summaries.measured.telemetry)
        if fault:
            comparison = Comparison(verdict=Verdict.INVALID, detail=fault)
        else:
            passes = (entry,) if first is None else (first, entry)
            comparison = self._first_passes.hold(self._judge.compare(passes, *self._stored(entry)))
        student = self.settings.students.get(entry.extra_info["model"])
        of_teacher = self._beside_teacher(entry, student)
        comparison = replace(
            comparison,
            is_required=self.settings.require_baseline,
            teacher_quality=of_teacher.quality if of_teacher else None,
        )
        facts = {
            **entry.extra_info,
            **_baseline_efficiency(entry, comparison),
            **comparison.as_extra_info(),
            **self._first_passes.as_extra_info(summaries.nodeid),
        }
        if student:
            facts |= {
                "teacher": student.teacher,
                "student_provenance": dict(student.provenance),
                "teacher_change": of_teacher.as_extra_info() if of_teacher else None,
            }
        self.results.journal.append("experiment", _benchmark_fields(entry, summaries.nodeid, facts))
        self.figures[summaries.nodeid] = facts
        if entry.broken_output:
            raise BrokenOutputError(entry.broken_output)
        return comparison

    def _beside_teacher(self, entry: Entry, student: Student | None) -> TeacherChange | None:
        if student is None:
            return None
        return beside_teacher(entry, student.teacher, entries_of(self.results.run), self.settings.student_margin)

    def _stored(self, entry: Entry) -> tuple[tuple[StoredRun, ...], StoredRun | None]:
        """The runs to compare with, and the anchor."""
        runs = self.baselines.runs
        picked = (self._picked,) if self._picked else find_baseline(entry, runs, self.settings.baseline_runs)
        return picked, find_anchor(entry, runs)

    def memory_forecast(self, experiment: Experiment) -> Forecast:
        """Whether the experiment was to be expected to fit, from the longest prompt of its sample where that is known."""
        return self._forecasts.of(experiment, self.sampler.longest_sequence_of(experiment.model))

    def was_measured_before(self, nodeid: str) -> bool:
        """Whether a stored run of this device holds this test with these weights and token limit."""
        return any(
            (found.extra_info["weights"] == "synthetic") == self.settings.synthetic_weights
            and found.extra_info["max_new_tokens"] == self.settings.new_tokens_on(self.device)
            for found in self.baselines.entries(nodeid.rpartition("::")[2])
        )

    # The end -----------------------------------------------------------------------------------------------------

    def note_outcome(self, outcome: TestOutcome) -> None:
        self.results.journal.append("outcome", outcome_as_record(outcome))
        self.outcomes[outcome.nodeid] = outcome
        self.results.write_run()

    def settle(self) -> bool:
        """Take the outcomes from the journal, and return whether the run was cut short: a selected test never ran to its end.

        The journal has the last word: an interrupt may have come between its record and this object's.
        """
        self.results.write_run()
        self.outcomes = {record["nodeid"]: outcome_of_record(record) for record in self.results.run["outcomes"]}
        return any(each.detail == NOT_RUN for nodeid, each in self.outcomes.items() if nodeid not in self.carried)

    def fail_what_holm_rejects(self) -> None:
        """Once all comparisons are in: a slowdown that was held against the strictest level may fail at its own."""
        for nodeid, is_of_machine in self._first_passes.rejected(self.results.run["benchmarks"]).items():
            outcome = self.outcomes.get(nodeid)
            if outcome is not None and (outcome.outcome is Outcome.PASSED or outcome.quality_only):
                detail = "REGRESSED: confirmed once all comparisons of the session were in (Holm)"
                self.note_outcome(with_confirmed_slowdown(outcome, detail, is_of_machine=is_of_machine))

    def finish(self, *, was_cut_short: bool) -> Iterator[str]:
        """Write what a run leaves behind, and yield a line for each. Raises InputError where the disk refuses."""
        self.results.journal.append("session_seconds", self.seconds.as_record())
        self.results.write_run()
        yield f"run: {shown(self.results.folder / 'run.json')}"
        models = {benchmark["extra_info"]["model"] for benchmark in self.results.run["benchmarks"]}
        self.results.write_documents(self.sampler.documents(models))
        yield from self._write_report()
        if self.settings.save_as:
            yield self._save(was_cut_short=was_cut_short)
        if self.settings.json_path is not None:
            self.results.write(self.settings.json_path, run_text(self.results.run))
            yield f"run copied to {self.settings.json_path}"

    def _write_report(self) -> Iterator[str]:
        """The page, which the session's last line names; a line where there is none."""
        try:
            write_report(self.results.folder, self.baselines)
        except Exception as error:  # whatever it is, a page is not worth losing what comes after it
            again = this_invocation().command("report", shown(self.results.folder))
            yield f"no report.html: {type(error).__name__}: {first_line(error)}; `{again}` tries again"

    def _save(self, *, was_cut_short: bool) -> str:
        if self.settings.passes > 1 and not self.settings.confirm and self._has_comparisons:
            return "not saved yet: the second pass decides"
        why = "the session was cut short" if was_cut_short else why_unfit(self.results.run)
        if why:
            return f"not saved as a baseline ({why}); only a clean run becomes one"
        stored = save_baseline(self.baselines.folder, str(self.settings.save_as), self.results.run)
        self.is_saved = True
        return f"baseline saved: {shown(stored)}"

    @property
    def _has_comparisons(self) -> bool:
        return any(benchmark["extra_info"]["change"] for benchmark in self.results.run["benchmarks"])


def _baseline_efficiency(entry: Entry, comparison: Comparison) -> dict[str, float | None]:
    """Where several processes measured: what they made of it in the newest run that this one is compared with."""
    if "scaling_efficiency" not in entry.extra_info:
        return {}
    before = comparison.baseline.entry(entry.name) if comparison.change and comparison.baseline else None
    return {"baseline_scaling_efficiency": before.extra_info.get("scaling_efficiency") if before else None}


def _benchmark_fields(entry: Entry, nodeid: str, extra_info: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a pytest-benchmark entry, apart from `stats`."""
    return {
        "group": None,
        "name": entry.name,
        "fullname": nodeid,
        "params": {"loaded_model": entry.experiment},
        "param": entry.experiment,
        "extra_info": dict(extra_info),
        "options": {"disable_gc": True, "timer": "perf_counter", "warmup": True},
    }


def _plugin_version() -> str:
    import pytest_benchmark

    return str(pytest_benchmark.__version__)
