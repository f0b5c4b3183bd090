"""A model without weights, a clock without time and a GPU without silicon, for sessions that take no seconds."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from fixtures import environment, generation, plugin, release, suite
from fixtures.device import Clock, Device
from fixtures.loading import Weights
from fixtures.models import Experiment
from fixtures.telemetry import NullMonitor


class FakeTime:
    """Seconds that pass only when something says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: None, lambda: self.seconds)


class FakeModel:
    """Stands for a LoadedModel: one token a word, and the first words of the document as its summary.

    `seconds_per_token` is how long a token takes on the fake clock; `fail` is raised by the call with that number
    (the warm-up is call 1).
    """

    template = "fake"
    context_tokens = 4096
    load_seconds = 1.5
    load_peak_memory_bytes = 2_000
    weights_bytes = 1_000
    weights_read_bytes = 900
    predicted_memory_bytes = 3_000
    words: ClassVar[list[str]] = []  # shared, as loaders of one model share a vocabulary

    def __init__(
        self,
        experiment: Experiment,
        time: FakeTime,
        *,
        seconds_per_token: float = 0.01,
        fail: dict[int, BaseException] | None = None,
        summary: str | None = None,
    ) -> None:
        self.experiment = experiment
        self.weights = Weights(kind="path", revision="fake", location="nowhere")
        self.settings = {"dtype": "float32"}
        self.chat = self
        self._time = time
        self._seconds_per_token = seconds_per_token
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
        words = message.split()
        self.words.extend(words)
        return range(len(self.words) - len(words), len(self.words))

    def prepare(self, token_ids: Sequence[int]) -> Any:
        return list(token_ids)

    def generate_bare(self, prompt: list[int], max_new_tokens: int) -> list[int]:
        return self.generate(prompt, max_new_tokens, lambda: None)

    def generate(self, prompt: list[int], max_new_tokens: int, on_first_token: Callable[[], None]) -> list[int]:
        self._calls += 1
        if self._calls in self._fail:
            raise self._fail[self._calls]
        # Documents differ in how long a token takes, by up to a tenth, as they do on a device.
        a_token = self._seconds_per_token * (1 + len(prompt) % 10 / 100)
        self._time.pass_by(a_token)
        on_first_token()
        self._time.pass_by(a_token * (max_new_tokens - 1))
        return [*prompt, *prompt[-max_new_tokens:]]

    def generated_ids(self, output: list[int], prompt_tokens: int) -> list[int]:
        return output[prompt_tokens:]

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._summary if self._summary is not None else " ".join(self.words[token] for token in token_ids)

    def ends_by_itself(self, token_ids: Sequence[int]) -> bool:
        return False


class FakeGpu:
    """Stands for the device and its allocator: what is taken for an owner is given back when the owner is gone."""

    device = Device(
        kind="cuda",
        name="Tesla T4",
        slug="tesla-t4",
        family="t4",
        memory_bytes=15_000_000_000,
        compute_dtype="float16",
        uuid="GPU-1111",
    )

    def __init__(self, allocated_bytes: int = 0) -> None:
        self.allocated = self.peak = allocated_bytes

    def take(self, owner: object, size: int) -> None:
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        weakref.finalize(owner, self._give_back, size)

    def _give_back(self, size: int) -> None:
        self.allocated -= size

    def reset_peak(self) -> None:
        self.peak = self.allocated

    def install(self) -> None:
        """Put this GPU in the place of the machine's own, wherever a session asks for it."""
        plugin.detect_device = lambda: self.device
        suite.monitor_of = lambda device: NullMonitor()
        environment._driver_version = lambda: "580.65.06"
        release.allocated_memory_bytes = lambda device: self.allocated
        for module in (generation, release):
            module.peak_memory_bytes = lambda device: self.peak
            module.reset_peak_memory = lambda device: self.reset_peak()
            module.release_memory = lambda device: gc.collect()
