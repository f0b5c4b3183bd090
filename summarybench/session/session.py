"""One session: what is measured, with which documents, into which folder.

`opening` makes it and `closing` ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from summarybench.analysis.comparison import Comparison
from summarybench.catalogue.models import MODELS, Experiment
from summarybench.core.outcomes import DeviceLostError, ProcessLostError
from summarybench.core.processes import Process
from summarybench.core.session_seconds import SessionSeconds
from summarybench.engines.fitting import Forecast
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.loading import load
from summarybench.engines.not_loaded import NotLoaded
from summarybench.engines.weights import Weights, find_weights
from summarybench.kinds.kind import Kind
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.machine.clock import Clock
from summarybench.machine.device import Device
from summarybench.machine.device_lock import DeviceLock
from summarybench.machine.peers import Peers
from summarybench.machine.telemetry import Monitor
from summarybench.measure.generation import Benchmark
from summarybench.runs.baselines import Baselines
from summarybench.runs.run_folder import Results
from summarybench.session.comparing import Comparer
from summarybench.session.config import Config
from summarybench.session.kept_open import KeptOpen
from summarybench.session.memory import MemoryForecasts
from summarybench.session.models import Lender, LoadModel, loaded_or_raise
from summarybench.session.outcomes import Outcomes
from summarybench.session.probes import Probes
from summarybench.session.progress import Progress
from summarybench.session.sampling import Sampler
from summarybench.session.toolbox import SessionToolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResources:
    """What one test brings along.

    `found` is its model, None for a test of a kind that loads its models itself.
    """

    __test__ = False

    benchmark: Benchmark
    clock: Clock
    probes: Probes
    load_model: LoadModel
    found: LoadedModel | NotLoaded | None = None


@dataclass(kw_only=True, eq=False)
class Session:
    """An open session.

    It has a results folder and a journal unless another process of the run reports. `lock` keeps other sessions
    informed that the device is in use; None in a process that does not report.
    """

    config: Config
    process: Process
    progress: Progress
    seconds: SessionSeconds
    baselines: Baselines
    sampler: Sampler
    forecasts: MemoryForecasts
    monitor: Monitor
    results: Results
    lock: DeviceLock | None
    outcomes: Outcomes
    comparer: Comparer
    _peers: Peers | None = field(default=None, init=False)
    _lost: str = field(default="", init=False)
    _made_once: dict[str, Any] = field(default_factory=dict, init=False)
    _kept_open: KeptOpen = field(default_factory=KeptOpen, init=False)
    _scratch: TemporaryDirectory[str] | None = field(default=None, init=False)

    @property
    def device(self) -> Device:
        return self.config.device

    @property
    def is_new_gpu(self) -> bool:
        """Whether no run of this GPU was stored when the session began."""
        return not self.device.is_host and not self.baselines.runs

    # Measuring ---------------------------------------------------------------------------------------------------

    def load(self, experiment: Experiment, clock: Clock) -> LoadedModel | NotLoaded:
        """The experiment's model on the device, or why it could not be loaded."""
        return load(
            experiment,
            lambda: self._find_weights(experiment),
            self.device,
            clock,
            longest_sequence=lambda chat: self.sampler.longest_sequence_for(experiment.model, chat),
            predict=self.config.settings.predict_memory,
        )

    def _find_weights(self, experiment: Experiment) -> Weights:
        settings = self.config.settings
        return find_weights(MODELS[experiment.model], settings.model_paths, synthetic=settings.synthetic_weights)

    def toolbox(self, kind: Kind, nodeid: str, experiment: Experiment, resources: TestResources) -> Toolbox:
        """What the kind measures this test with."""
        return SessionToolbox(
            nodeid=nodeid,
            experiment=experiment,
            loaded_model=_loaded_model(nodeid, resources.found, experiment),
            lend=Lender(
                load_model=resources.load_model, device=self.device, progress=self.progress, seconds=self.seconds
            ),
            benchmark=resources.benchmark,
            device=self.device,
            clock=resources.clock,
            options=self.config.kind_options,
            predicts_memory=self.config.settings.predict_memory,
            copy_bandwidth=resources.probes.copy_bandwidth,
            peers=self.peers,
            scratch=self._scratch_folder,
            kind=kind.facts,
            sampler=self.sampler,
            max_prompt_tokens=self.config.max_prompt_tokens,
            monitor=self.monitor,
            probes=resources.probes,
            journal=self.results.journal,
            progress=self.progress,
            seconds=self.seconds,
            made_once=self._made_once,
            open_for_tests=self._kept_open,
            compiled_before=_compile_seconds_of(resources.found),
            profile=None if self.config.settings.profile is None else self.config.settings.profile.as_record(),
            find_weights=lambda: self._find_weights(experiment),
            synthetic_weights=self.config.settings.synthetic_weights,
            log_folder=lambda: self.results.folder if self.process.reports else self._scratch_folder(),
        )

    def compare(self, measurement: Measurement, kind: Kind) -> Comparison:
        """The verdict against the baseline, journalled with the measurement.

        Raises as `Comparer.compare`.
        """
        return self.comparer.compare(measurement, kind)

    def memory_forecast(self, experiment: Experiment) -> Forecast:
        """Whether the experiment was expected to fit.

        The forecast is for the longest prompt of its sample, where that is known.
        """
        return self.forecasts.of(experiment, self.sampler.longest_sequence_of(experiment.model))

    def was_measured_before(self, nodeid: str) -> bool:
        """Whether a stored run of this device has this test.

        Its weights and its token limit must be this session's.
        """
        return any(
            (found.extra_info["weights"] == "synthetic") == self.config.settings.synthetic_weights
            and found.extra_info["max_new_tokens"] == self.config.max_new_tokens
            for found in self.baselines.entries(nodeid.rpartition("::")[2])
        )

    def _scratch_folder(self) -> Path:
        if self._scratch is None:
            self._scratch = TemporaryDirectory(prefix="summarybench-")
        return Path(self._scratch.name)

    # Other processes, and what ends the session early -----------------------------------------------------------

    @property
    def peers(self) -> Peers | None:
        """The other processes of the run, once `join` has connected them.

        It is None in a run of one process.
        """
        return self._peers

    def join(self) -> None:
        """Meet the other processes of the run, where there are any.

        Raises ProcessLostError where they do not come.
        """
        if self._peers is None and not self.process.is_alone:
            self._peers = Peers(self.process, self.device)

    @property
    def lost(self) -> str:
        """Why no further test can be measured; empty while tests can."""
        return self._lost

    def note_error(self, error: BaseException | None, experiment: Experiment) -> None:
        """Remember an error after which no further test can be measured."""
        if isinstance(error, DeviceLostError):
            self._lost = f"not run: the GPU was lost in {experiment.name}"
        if isinstance(error, ProcessLostError):
            self._lost = "not run: another process was lost"

    def close_what_is_kept_open(self) -> None:
        """Close what the last test's kind has kept open for its tests."""
        self._kept_open.close()

    def close(self) -> None:
        """Unlock the device and the results folder, and remove temporary files."""
        self.close_what_is_kept_open()
        self.results.close()
        if self.lock is not None:
            self.lock.close()
        if self._scratch is not None:
            self._scratch.cleanup()


def _compile_seconds_of(found: LoadedModel | NotLoaded | None) -> float:
    return 0.0 if found is None or isinstance(found, NotLoaded) else found.compile_seconds or 0.0


def _loaded_model(
    nodeid: str, found: LoadedModel | NotLoaded | None, experiment: Experiment
) -> Callable[[], LoadedModel]:
    def loaded_model() -> LoadedModel:
        if found is None:
            raise RuntimeError(f"{nodeid} has no model: pass the loaded_model fixture to `measure`")
        loaded, strategy = loaded_or_raise(found), experiment.long_documents
        if loaded.experiment.long_documents is strategy:
            return loaded
        return loaded.as_experiment(replace(loaded.experiment, long_documents=strategy))

    return loaded_model
