"""An engine of continuous batching without a model: every document ends after its own number of tokens, on a fake clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from summarybench.engines.engine import Limits
from summarybench.engines.memory_model import MemoryPrediction
from summarybench.engines.paged import finished
from tests.fakes import FakeTime

SECONDS_PER_STEP = 0.5


@dataclass
class FakeResult:
    request_id: str
    generated_tokens: list[int]
    timestamps: list[float]
    error: str | None = None

    @property
    def lifespan(self) -> tuple[float, float]:
        return (0.0, self.timestamps[-1] if self.timestamps else 0.0)

    def is_finished(self) -> bool:
        return True


@dataclass
class FakeManager:
    """Stands for transformers' manager: a step gives each request a token.

    The requests with the numbers in `failing` end with `error`, those in `lost` never do, those in `short` after one
    token; `fatal` ends the thread before the first step, and `raises` is raised in the middle of a round, as Ctrl-C is.
    """

    time: FakeTime = field(default_factory=FakeTime)
    failing: Sequence[int] = ()
    lost: Sequence[int] = ()
    short: Sequence[int] = ()
    error: str = "no such page"
    fatal: Exception | None = None
    raises: BaseException | None = None
    seconds_per_step: float = SECONDS_PER_STEP
    current_batch: int = 0
    stops: int = 0
    background_thread_status: Any = field(default_factory=lambda: SimpleNamespace(fatal_error=None))
    queue: list[FakeResult] = field(default_factory=list)

    def add_requests(self, inputs: list[list[int]], max_new_tokens: int, record_timestamps: bool) -> list[str]:
        assert record_timestamps
        self.background_thread_status.fatal_error = self.fatal
        self.queue = []
        times = []
        for _ in range(max_new_tokens):
            self.time.pass_by(self.seconds_per_step)
            self.current_batch += 1
            times.append(self.time.seconds)
        for number, prompt in enumerate(inputs):
            if self.fatal or number in self.lost:
                continue
            count = 1 if number in self.short else max_new_tokens
            error = self.error if number in self.failing else None
            self.queue.append(FakeResult(str(number), prompt[-count:], times[:count], error))
        return [str(number) for number in range(len(inputs))]

    def is_running(self) -> bool:
        return bool(self.queue)

    def get_result(self, timeout: float) -> FakeResult | None:
        if self.raises is not None:
            raise self.raises
        return self.queue.pop() if self.queue else None  # not in the order they were given

    def stop(self, *, block: bool, hard_stop: bool) -> None:
        assert block
        assert hard_stop
        self.stops += 1


class FakeEngine:
    """Stands for a PagedEngine. Its end leaves a line in the file `closed` of the working directory."""

    limits = Limits(
        requests=3,
        pages=12,
        page_tokens=256,
        step_tokens=2048,
        predicted=MemoryPrediction(weights_bytes=1_000, cache_bytes=200, workspace_bytes=34),
    )

    def __init__(self, manager: FakeManager) -> None:
        self.settings = {"batching": "continuous", "paged_attention": "sdpa"}
        self._manager = manager

    @property
    def steps(self) -> int:
        return self._manager.current_batch

    def run(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Any:
        return finished(self._manager, prompts, max_new_tokens)

    def close(self) -> None:
        with Path("closed").open("a", encoding="utf-8") as file:
            print("closed", file=file)
