"""What a kind of benchmark measures with: the session gives each test one toolbox."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from summarybench.analysis.quality import Quality
from summarybench.catalogue.models import Experiment
from summarybench.engines.engine import EngineFacts, JsonScalar, TextGenerator
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.weights import Weights
from summarybench.machine.clock import Clock
from summarybench.machine.device import Device
from summarybench.machine.peers import Peers
from summarybench.machine.telemetry import Monitor
from summarybench.measure.fidelity import Lend
from summarybench.measure.generation import Benchmark, GenerationRecord, Instruments, Measured
from summarybench.measure.sample import Sample
from summarybench.runs.run_file import Entry
from summarybench.runs.workload import Workload

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one test measured.

    `quality` is None for synthetic weights: their output is noise. `entry` is what the run file keeps and what a comparison
    reads. `finding` is the result that only this kind has, for the benchmark test to assert on; None for most kinds.
    """

    nodeid: str
    measured: Measured
    quality: Quality | None
    entry: Entry
    finding: Any = None


@dataclass(frozen=True, kw_only=True)
class Toolbox(ABC):
    """What the session offers to a kind that measures one test.

    `experiment` is the one to measure. `loaded_model` returns its model, or raises the outcome that kept it from being
    loaded. `lend` loads another model for the time of one call, for a kind that measures several models after each other.
    `benchmark` is pytest-benchmark's fixture, `clock` the session's only clock. `options` has the options of all kinds,
    resolved for this device. `copy_bandwidth` is the device's in bytes per second, None where it was not measured. `peers`
    are the other processes of the run, None in a run of one process. `scratch` returns a folder for data that memory cannot
    hold; it is removed at the end of the session. `monitor` reads the device's telemetry. `find_weights` finds or makes the
    weights of the experiment's model, and `synthetic_weights` says that they are random. `log_folder` keeps log files with
    the results.
    """

    nodeid: str
    experiment: Experiment
    loaded_model: Callable[[], LoadedModel]
    lend: Lend
    benchmark: Benchmark
    device: Device
    clock: Clock
    options: Mapping[str, Any]
    predicts_memory: bool
    copy_bandwidth: float | None
    peers: Peers | None
    scratch: Callable[[], Path]
    monitor: Monitor
    find_weights: Callable[[], Weights]
    synthetic_weights: bool
    log_folder: Callable[[], Path]

    @abstractmethod
    def sample_for(self, loaded: EngineFacts) -> Sample:
        """The documents and prompts of this model; the same ones for all its loaders.

        Raises UnavailableError where the documents could not be downloaded.
        """

    @abstractmethod
    def instruments(self, loaded: EngineFacts) -> Instruments:
        """Clock, telemetry and machine probes for measuring this model."""

    @abstractmethod
    def recorder(self, loaded: EngineFacts, documents: int) -> Callable[[GenerationRecord], None]:
        """A function that journals a measured document and updates the progress.

        The progress counts up to this number of documents.
        """

    @abstractmethod
    def measure(
        self, loaded: LoadedModel, sample: Sample, *, batch_size: int = 1, model: TextGenerator | None = None
    ) -> Measured:
        """Summarize the sample, one timed round for each batch, and journal each document.

        `model` generates in place of `loaded`, such as a wrapper around it. Raises DeviceMemoryError where memory runs out
        and DeviceLostError where the device is lost.
        """

    @abstractmethod
    def workload(
        self,
        loaded: EngineFacts,
        sample: Sample,
        *,
        processes: int = 1,
        batch_size: int | None = None,
        settings: Mapping[str, JsonScalar] | None = None,
    ) -> Workload:
        """What must be equal for two measurements to be comparable.

        `settings` are added to the loader's. `batch_size` is the experiment's unless it is given.
        """

    @abstractmethod
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
        """Score the summaries and build the entry of the run file.

        `seconds` are those of the rounds, where a round is neither a document nor a batch. `extra_info` has the keys that
        only this kind writes; they replace general keys of the same name.
        """

    @abstractmethod
    def generating(self, loaded: EngineFacts, stage: str) -> AbstractContextManager[None]:
        """Show a stage in which the model generates outside of timed rounds.

        Its seconds count as generating time of the session.
        """

    @abstractmethod
    def say(self, line: str) -> None:
        """Show a line that stays on the terminal."""

    @abstractmethod
    def kept_open(
        self,
        key: str,
        make: Callable[[], AbstractContextManager[T]],
        is_usable: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Enter `make()`, and keep it open for the tests that follow with the same key, as long as it is usable.

        It is closed before another one is opened, and after the last test of the kind.
        """

    @abstractmethod
    def show(self, text: str) -> None:
        """Show how far a step is that takes long, on a terminal only."""

    @abstractmethod
    def once(self, key: str, make: Callable[[], T]) -> T:
        """Return `make()`, called once in a session for each key.

        Later calls with the same key return the same value.
        """
