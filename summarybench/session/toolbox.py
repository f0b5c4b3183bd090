"""The toolbox that a session gives to the kind of benchmark that measures a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from summarybench.analysis.quality import Quality, score
from summarybench.analysis.targets import targets_of
from summarybench.catalogue.floors import FLOORS
from summarybench.catalogue.models import MODELS, Experiment
from summarybench.core.session_seconds import SessionSeconds
from summarybench.documents.long_documents import WORDING
from summarybench.documents.prompts import template_digest
from summarybench.documents.strategy import Strategy
from summarybench.engines.engine import EngineFacts, JsonScalar, TextGenerator
from summarybench.engines.loaded_model import LoadedModel
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.measure.generation import GenerationRecord, Instruments, Measured, WarmUp, measure
from summarybench.measure.record import extra_info_of
from summarybench.measure.sample import Sample
from summarybench.runs.journal import Journal
from summarybench.runs.kind_facts import KindFacts
from summarybench.runs.profile_record import ProfileRecord
from summarybench.runs.run_file import Entry
from summarybench.runs.workload import Workload
from summarybench.session.kept_open import KeptOpen
from summarybench.session.probes import Probes
from summarybench.session.progress import Progress, Tally
from summarybench.session.sampling import Sampler

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SessionToolbox(Toolbox):
    """A toolbox with the instruments and the journal of one session.

    `made_once` holds the values of `once`, for all tests of the session. `compiled_before` is how many seconds earlier tests
    have spent on compiling the model that this test was given.
    """

    kind: KindFacts
    sampler: Sampler
    max_prompt_tokens: int
    probes: Probes
    journal: Journal
    progress: Progress
    seconds: SessionSeconds
    made_once: dict[str, Any]
    open_for_tests: KeptOpen
    compiled_before: float = 0.0
    profile: ProfileRecord | None = None

    def sample_for(self, loaded: EngineFacts) -> Sample:
        return self.sampler.sample_for(loaded.experiment.model, loaded.chat, self.experiment.long_documents)

    def instruments(self, loaded: EngineFacts) -> Instruments:
        settings = loaded.settings
        dtype = str(settings.get("compute_dtype", settings.get("dtype", self.device.compute_dtype)))
        return Instruments(
            device=self.device,
            clock=self.clock,
            monitor=self.monitor,
            probe_machine=lambda: self.probes.measure(dtype),
            sample_host=self.probes.host_sample,
            on_warm_up=self._on_warm_up(loaded),
        )

    def recorder(self, loaded: EngineFacts, documents: int) -> Callable[[GenerationRecord], None]:
        name = loaded.experiment.name
        done = Tally()

        def on_record(record: GenerationRecord) -> None:
            done.add(record)
            self.journal.append("document", {"nodeid": self.nodeid, "experiment": name, **asdict(record)})
            self.progress.document(name, done, documents)

        return on_record

    def measure(
        self, loaded: LoadedModel, sample: Sample, *, batch_size: int = 1, model: TextGenerator | None = None
    ) -> Measured:
        loaded.resize(min(batch_size, len(sample.prompts)))
        return measure(
            self.benchmark,
            loaded if model is None else model,
            sample.prompts,
            max_new_tokens=sample.max_new_tokens,
            instruments=self.instruments(loaded),
            on_record=self.recorder(loaded, len(sample.prompts)),
            batch_size=batch_size,
        )

    def workload(
        self,
        loaded: EngineFacts,
        sample: Sample,
        *,
        processes: int = 1,
        batch_size: int | None = None,
        settings: Mapping[str, JsonScalar] | None = None,
    ) -> Workload:
        experiment = loaded.experiment
        return Workload(
            model=experiment.model,
            revision=loaded.weights.revision,
            weights=loaded.weights.kind,
            loader=experiment.loader,
            loader_settings={**loaded.settings, **(settings or {})},
            prompt_template=template_digest(self._prompt_template(loaded, sample), self._instructions(sample)),
            document_source=sample.source.value,
            document_revision=sample.revision,
            max_prompt_tokens=self.max_prompt_tokens,
            max_new_tokens=sample.max_new_tokens,
            batch_size=batch_size or experiment.batch_size,
            processes=processes,
            language=sample.language.code,
            long_documents=self.experiment.long_documents.value,
        )

    def _instructions(self, sample: Sample) -> str:
        """The instruction, with the words that the prompts of long documents contain besides it."""
        words = WORDING[self.experiment.long_documents]
        return f"{sample.instruction}\n{words}" if words else sample.instruction

    def _prompt_template(self, loaded: EngineFacts, sample: Sample) -> str:
        """What makes a prompt: the chat template, and for a user's model the ids of the instruction rendered in it.

        The catalogue's models are left as they were, so that the workloads of stored runs stay valid.
        """
        template = loaded.chat.template
        if MODELS[loaded.experiment.model].own is None:
            return template
        return f"{template}\n{list(loaded.chat.chat_ids(sample.instruction))}"

    def measurement(
        self,
        loaded: EngineFacts,
        sample: Sample,
        measured: Measured,
        *,
        workload: Workload | None = None,
        seconds: Sequence[float] | None = None,
        extra_info: Mapping[str, Any] | None = None,
        finding: Any = None,
    ) -> Measurement:
        # The output of random weights means nothing, and a score would look as if it did.
        is_scored = loaded.weights.kind != "synthetic"
        quality = _score(measured, sample, self.experiment, self.profile) if is_scored else None
        workload = workload or self.workload(loaded, sample)
        compiled = loaded.compile_seconds
        general = extra_info_of(loaded, workload, measured, quality, self.copy_bandwidth, self.kind)
        entry = Entry.of(
            name=self.nodeid.rpartition("::")[2],
            extra_info={
                **general,
                "compile_seconds": None if compiled is None else compiled - self.compiled_before,
                "dropped_documents": dict(sample.dropped),
                **(extra_info or {}),
            },
            seconds=tuple(seconds or (records[0].round_seconds for records in measured.rounds)),
        )
        self.seconds.add_generating(sum(entry.seconds) / workload.processes)  # of this process
        return Measurement(nodeid=self.nodeid, measured=measured, quality=quality, entry=entry, finding=finding)

    @contextmanager
    def generating(self, loaded: EngineFacts, stage: str) -> Iterator[None]:
        with self.progress.stage(stage):
            start, newly_compiled = self.clock(), _compile_watch(loaded)
            try:
                yield
            finally:
                self.seconds.add_generating(self.clock() - start, newly_compiled())

    def say(self, line: str) -> None:
        self.progress.note(line)

    def kept_open(
        self,
        key: str,
        make: Callable[[], AbstractContextManager[T]],
        is_usable: Callable[[T], bool] = lambda _: True,
    ) -> T:
        with self.seconds.loading():
            return self.open_for_tests.get(key, make, is_usable)

    def show(self, text: str) -> None:
        self.progress.show(text)

    def once(self, key: str, make: Callable[[], T]) -> T:
        if key not in self.made_once:
            self.made_once[key] = make()
        value: T = self.made_once[key]
        return value

    def _on_warm_up(self, loaded: EngineFacts) -> Callable[[WarmUp], None]:
        newly_compiled = _compile_watch(loaded)

        def on_warm_up(warm_up: WarmUp) -> None:
            compile_seconds = newly_compiled()
            self.seconds.add_generating(warm_up.seconds, compile_seconds)
            seconds = warm_up.seconds - compile_seconds
            self.progress.warmed_up(
                loaded.experiment.name,
                warm_up.seconds,
                rounds=warm_up.rounds,
                expected_seconds=seconds / warm_up.warmed_rounds * warm_up.rounds if warm_up.warmed_rounds else None,
            )

        return on_warm_up


def _compile_watch(loaded: EngineFacts) -> Callable[[], float]:
    """A function that returns the seconds which the model has spent on compiling since the last call, or since now."""
    before = loaded.compile_seconds or 0.0

    def newly_compiled() -> float:
        nonlocal before
        earlier, before = before, loaded.compile_seconds or 0.0
        return before - earlier

    return newly_compiled


def _score(measured: Measured, sample: Sample, experiment: Experiment, profile: ProfileRecord | None) -> Quality:
    key = (experiment.model, experiment.loader, sample.source, sample.max_new_tokens)
    has_floor = sample.language.is_english and experiment.long_documents is Strategy.TRUNCATE
    found = score(measured.records, sample.documents, FLOORS.get(key) if has_floor else None, sample.language)
    characters = [len(record.summary.strip()) for record in measured.records]
    return replace(found, targets=targets_of(profile, found.scores, characters))
