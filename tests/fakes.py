"""A model without weights, a clock without time and a GPU without silicon, for sessions that take no seconds."""

from __future__ import annotations

import gc
import json
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any, ClassVar

import pytest

from summarybench.catalogue.models import Experiment
from summarybench.core.outcomes import Outcome
from summarybench.engines.engine import OnFirstToken
from summarybench.engines.memory_model import MemoryPrediction
from summarybench.engines.not_loaded import NotLoaded
from summarybench.engines.weights import Weights
from summarybench.machine import detection
from summarybench.machine.clock import Clock
from summarybench.machine.cpu import CPU_CAPABILITY
from summarybench.machine.cpu_device import CpuDevice
from summarybench.machine.cuda_device import CudaDevice
from summarybench.machine.device import Device
from summarybench.machine.probes import (
    COPY_BANDWIDTH,
    EVERY_PROBE,
    MATRIX_PRODUCT,
    PYTHON_LOOP,
    Probe,
    ProbeReading,
    ProbeReadings,
)
from summarybench.machine.telemetry import NullMonitor
from summarybench.session import closing

Rows = list[list[int]]


class FakeTime:
    """Seconds that pass only when something says so, `pace` times as many as it says."""

    def __init__(self, pace: float = 1.0) -> None:
        self.seconds = 0.0
        self.pace = pace

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds * self.pace

    @property
    def clock(self) -> Clock:
        return Clock(lambda: None, lambda: self.seconds)


def leave_out_pages() -> None:
    """Leave out report.html: its charts take two seconds a session, which only the report's own tests need."""
    closing.write_report = lambda folder, baselines, is_saved: folder / "report.html"


@dataclass(frozen=True, slots=True)
class NoProbes:
    """Probes that measure nothing, or that return `readings` for every model."""

    readings: ProbeReadings = field(default_factory=dict)
    copy_bandwidth: None = None

    def measure(self, dtype: str) -> ProbeReadings:
        del dtype
        return self.readings

    def host_sample(self) -> None:
        return None


@pytest.fixture(scope="session")
def probes() -> NoProbes:
    """Imported by a conftest with a fake clock: probes timed with it would mean nothing."""
    return NoProbes()


def pretend_avx512() -> None:
    """Give the session the default sample of a CPU with AVX-512 on every machine, unless the test asks for another.

    The environment stays as it is: torch would believe it, and crash on a CPU that has none.
    """
    detection.has_avx512 = lambda _, environment: environment.get(CPU_CAPABILITY, "avx512") == "avx512"


class FakeModel:
    """Stands for a LoadedModel: one token a word, and the first words of the document as its summary.

    `seconds_per_token` is how long a token takes on the fake clock, `seconds_to_first_token` how long the first one does
    if not as long; `tokens` how many make a summary; `fail` is raised by the call with that number (the warm-up is call 1).
    """

    template = "fake"
    context_tokens = 4096
    load_seconds = 1.5
    compile_seconds = None
    tuned_kernels = None
    speed_probes = EVERY_PROBE
    load_peak_memory_bytes = 2_000
    weights_bytes = 1_000
    weights_read_bytes = 900
    cache_bytes_per_token = 3
    predicted_memory_bytes = 3_000
    bytes_per_row = 10
    words: ClassVar[list[str]] = []  # shared, as loaders of one model share a vocabulary
    ids: ClassVar[dict[str, int]] = {}
    """The place of each word in `words`."""

    def __init__(
        self,
        experiment: Experiment,
        time: FakeTime,
        *,
        seconds_per_token: float = 0.01,
        seconds_to_first_token: float | None = None,
        tokens: int | None = None,
        fail: dict[int, BaseException] | None = None,
        summary: str | None = None,
    ) -> None:
        self.experiment = experiment
        self.weights = Weights(kind="path", revision="fake", location="nowhere")
        self.settings = {"dtype": "float32"}
        self.chat = self
        self._time = time
        self._seconds_per_token = seconds_per_token
        self._seconds_to_first_token = seconds_to_first_token
        self._tokens = tokens
        self._fail = fail or {}
        self._summary = summary
        self._calls = 0

    def document_offsets(self, text: str) -> Sequence[tuple[int, int]]:
        offsets, end = [], 0
        for word in text.split():
            start = text.index(word, end)
            end = start + len(word)
            offsets.append((start, end))
        return offsets

    def chat_ids(self, message: str) -> Sequence[int]:
        found = message.split()
        for word in found:
            if self.ids.setdefault(word, len(self.ids)) == len(self.words):
                self.words.append(word)
        return [self.ids[word] for word in found]

    def memory_for(self, sequence_tokens: int, batch_size: int) -> MemoryPrediction:
        return MemoryPrediction(
            weights_bytes=self.weights_bytes, cache_bytes=batch_size * self.bytes_per_row, workspace_bytes=0
        )

    def resize(self, rows: int) -> None:
        """Nothing is compiled."""

    def as_experiment(self, experiment: Experiment, prediction: MemoryPrediction | None = None) -> FakeModel:
        other = copy(self)
        other.experiment = experiment
        if prediction:
            other.predicted_memory_bytes = prediction.total_bytes
        return other

    def prepare(self, rows: Sequence[Sequence[int]]) -> Rows:
        return [list(row) for row in rows]

    def generate_bare(self, prepared: Rows, max_new_tokens: int) -> Rows:
        return self.generate(prepared, max_new_tokens, lambda: None)

    def generate(self, prepared: Rows, max_new_tokens: int, on_first_token: OnFirstToken) -> Rows:
        self._calls += 1
        if self._calls in self._fail:
            raise self._fail[self._calls]
        # Documents differ in how long a token takes, by up to a tenth, as they do on a device.
        a_token = self._seconds_per_token * (1 + max(map(len, prepared)) % 10 / 100)
        tokens = min(self._tokens or max_new_tokens, max_new_tokens)
        self._time.pass_by(self._seconds_to_first_token or a_token)
        on_first_token()
        self._time.pass_by(a_token * (tokens - 1))
        return [row[-tokens:] for row in prepared]

    def generated_ids(self, output: Rows, prepared: Rows) -> Rows:
        return output

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._summary if self._summary is not None else " ".join(self.words[token] for token in token_ids)

    def ends_by_itself(self, token_ids: Sequence[int]) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """What the fakes of one session are like; experiments are told apart by their loader.

    `slower` is by how much each takes longer than 0.01 s a token, `controls` by how much the controls do (None: there
    are none). `fail` is raised in an experiment's first timed round, `asleep` waits there for a minute.
    """

    slower: Mapping[str, float] = field(default_factory=dict)
    controls: float | None = 1.0
    seconds_to_first_token: float | None = None
    tokens: int | None = None
    worthless: Sequence[str] = ()
    unavailable: Sequence[str] = ()
    fail: Mapping[str, str] = field(default_factory=dict)
    asleep: str | None = None

    @property
    def probes(self) -> NoProbes:
        names = () if self.controls is None else (COPY_BANDWIDTH, MATRIX_PRODUCT, PYTHON_LOOP)
        reading = ProbeReading(rate=100 / (self.controls or 1), standard_deviation=0.001, work=10.0)
        return NoProbes(dict.fromkeys(names, reading))

    def model(self, experiment: Experiment, time: FakeTime) -> FakeModel | NotLoaded:
        loader = experiment.loader
        if loader in self.unavailable:
            return NotLoaded(experiment=experiment, outcome=Outcome.UNAVAILABLE, detail="no licence")
        kind = Sleeping if loader == self.asleep else FakeModel
        return kind(
            experiment,
            time,
            seconds_per_token=0.01 * self.slower.get(loader, 1.0),
            seconds_to_first_token=self.seconds_to_first_token,
            tokens=self.tokens,
            summary="zzz" if loader in self.worthless else None,
            fail={2: ERRORS[self.fail[loader]]} if loader in self.fail else None,
        )


ERRORS: dict[str, BaseException] = {
    "boom": ValueError("boom"),
    "interrupted": KeyboardInterrupt(),
    "lost": RuntimeError("CUDA error: the GPU fell off the bus"),
}
SCRIPT, BEGUN = "script.json", "begun"


def next_of_script() -> Scripted:
    """What script.json of the working directory says of this session; the last entry stands for all that follow.

    Each session that begins leaves its process id in the file `begun`.
    """
    with Path(BEGUN).open("a") as begun:
        print(os.getpid(), file=begun)
    number = len(Path(BEGUN).read_text().split())
    script = json.loads(Path(SCRIPT).read_text())
    return Scripted(**script[min(number, len(script)) - 1])


class Sleeping(FakeModel):
    """Leaves the file `asleep` in its third timed round, and waits there to be interrupted."""

    def generate(self, *arguments: Any) -> Rows:
        if self._calls == 3:
            Path("asleep").touch()
            sleep(60)
        return super().generate(*arguments)


class FakeMemory:
    """What is allocated on a device: what is taken for an owner is given back when the owner is gone."""

    def __init__(self, allocated_bytes: int = 0) -> None:
        self.allocated = self.peak = allocated_bytes
        self.releases = 0

    def take(self, owner: object, size: int) -> None:
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        weakref.finalize(owner, self._give_back, size)

    def _give_back(self, size: int) -> None:
        self.allocated -= size


@dataclass(frozen=True)
class FakeProbes:
    """What `make_all` gives; `own_clock` is how many seconds the device counts for each repetition that it times."""

    make_all: Callable[[], Mapping[str, Probe]] = dict
    own_clock: Callable[[], float] = lambda: 1.0
    copy_bytes: ClassVar[int] = 1_000_000

    def make(self, dtype: str) -> Mapping[str, Probe]:
        return self.make_all()

    def of_host(self) -> Probe:
        return Probe(work=1_000, run=lambda: None)

    def own_seconds(self, run: Callable[[], object]) -> float:
        run()
        return self.own_clock()


@dataclass(frozen=True, kw_only=True)
class FakeGpu(Device):
    """A Tesla T4 unless a test says otherwise, with a memory that only counts. A conftest hands it to a session:

    def pytest_benchmarked_device():
        return FakeGpu()
    """

    kind: str = "cuda"
    name: str = "Tesla T4"
    slug: str = "tesla-t4"
    family: str = "t4"
    memory_bytes: int = 15_000_000_000
    compute_dtype: str = "float16"
    uuid: str = "GPU-1111"
    capability: tuple[int, int] | None = (7, 5)
    memory: FakeMemory = field(default_factory=FakeMemory, compare=False)
    own_probes: FakeProbes = field(default_factory=FakeProbes, compare=False)
    collective_backend: ClassVar[str] = "gloo"
    is_host: ClassVar[bool] = CudaDevice.is_host
    is_shared_by_processes: ClassVar[bool] = CudaDevice.is_shared_by_processes
    counts_process_memory: ClassVar[bool] = CudaDevice.counts_process_memory
    affords_large_samples: ClassVar[bool] = CudaDevice.affords_large_samples
    gains_from_large_batches: ClassVar[bool] = CudaDevice.gains_from_large_batches
    context_bytes: ClassVar[int] = CudaDevice.context_bytes
    int8_input_dtype: ClassVar[str] = CudaDevice.int8_input_dtype
    eager_attention: ClassVar[str | None] = CudaDevice.eager_attention
    training_dtype = CudaDevice.training_dtype
    compiles_decoding = CudaDevice.compiles_decoding

    def clock(self) -> Clock:
        return Clock(lambda: None)

    def monitor(self) -> NullMonitor:
        return NullMonitor()

    def driver_version(self) -> str:
        return "580.65.06"

    def compute_capability(self) -> tuple[int, int] | None:
        return self.capability

    def reset_peak_memory(self) -> None:
        self.memory.peak = self.memory.allocated

    def peak_memory_bytes(self) -> int:
        return self.memory.peak

    def allocated_memory_bytes(self) -> int:
        return self.memory.allocated

    def free_memory_bytes(self) -> int:
        return self.memory_bytes - self.memory.allocated

    def hold_to_memory_limit(self) -> None:
        """There is no allocator to hold."""

    def release_memory(self) -> None:
        gc.collect()
        self.memory.releases += 1

    @property
    def probes(self) -> FakeProbes:
        return self.own_probes

    def divide_among(self, processes: int) -> None:
        """Each process has a GPU of its own."""

    def sharing_warning(self, holder: str) -> str:
        return f"warning: {holder} is using this fake GPU"


@dataclass(frozen=True, kw_only=True)
class FakeCpu(FakeGpu):
    """A CPU whose memory only counts."""

    kind: str = "cpu"
    name: str = "a CPU"
    slug: str = "a-cpu"
    family: str = "cpu"
    compute_dtype: str = "float32"
    is_host: ClassVar[bool] = CpuDevice.is_host
    is_shared_by_processes: ClassVar[bool] = CpuDevice.is_shared_by_processes
    counts_process_memory: ClassVar[bool] = CpuDevice.counts_process_memory
    affords_large_samples: ClassVar[bool] = CpuDevice.affords_large_samples
    gains_from_large_batches: ClassVar[bool] = CpuDevice.gains_from_large_batches
    context_bytes: ClassVar[int] = CpuDevice.context_bytes
    int8_input_dtype: ClassVar[str] = CpuDevice.int8_input_dtype
    eager_attention: ClassVar[str | None] = CpuDevice.eager_attention
    training_dtype = CpuDevice.training_dtype
    compiles_decoding = CpuDevice.compiles_decoding
