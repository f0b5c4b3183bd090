"""Protocols of engines, from eager transformers to a remote server.

`TextGenerator` is what a timed round needs. `EngineFacts` are what a run file records, and `Engine` has both. The other
protocols are abilities that only some engines have: changing the batch size, reporting logits, taking many prompts at
once. A new engine is one module that implements `Engine` and the abilities it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from summarybench.catalogue.models import Experiment
from summarybench.documents.prompts import ChatTokenizer
from summarybench.engines.memory_model import MemoryPrediction
from summarybench.engines.weights import Weights

JsonScalar = str | int | float | bool | None


class ChatFormat(ChatTokenizer, Protocol):
    """A model's tokenizer with its chat template, as prompts need it."""

    @property
    def context_tokens(self) -> int:
        """The longest sequence, in tokens, prompt and summary together."""

    @property
    def template(self) -> str:
        """The chat template, which is part of the workload."""


class OnFirstToken(Protocol):
    """Notes when every prompt of a batch has its first token."""

    def __call__(self, wait: Callable[[], None] | None = None, /) -> None:
        """Engines that have queued later steps by then give `wait`, which waits for the first token alone."""


def note_nothing(_wait: Callable[[], None] | None = None, /) -> None:
    """An `OnFirstToken` for generation whose first token is not timed."""


class TextGenerator(Protocol):
    """Turns prompts into summaries, one batch per call."""

    def prepare(self, prompts: Sequence[Sequence[int]], /) -> Any:
        """Put the token ids of one or more prompts on the device. Not timed."""

    def generate(self, prepared: Any, max_new_tokens: int, on_first_token: OnFirstToken) -> Any:
        """Generate greedily.

        Calls `on_first_token` once, when every prompt has its first token. This call is timed.
        """

    def generated_ids(self, output: Any, prepared: Any) -> list[list[int]]:
        """The generated token ids of each prompt, end token included and padding left out.

        Not timed.
        """

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of a summary. Not timed."""

    def ends_by_itself(self, token_ids: Sequence[int]) -> bool:
        """Whether the summary ends with an end token, rather than at the token limit."""


class EngineFacts(Protocol):
    """The facts about an engine that a run file records.

    A figure is None if the engine cannot know it: a server does not report its weights or its memory.
    """

    @property
    def experiment(self) -> Experiment: ...

    @property
    def weights(self) -> Weights:
        """Where the weights come from; its kind and revision are part of the workload."""

    @property
    def chat(self) -> ChatFormat: ...

    @property
    def settings(self) -> Mapping[str, JsonScalar]:
        """Settings for the workload: precision, quantization, attention, threads."""

    @property
    def load_seconds(self) -> float: ...

    @property
    def compile_seconds(self) -> float | None:
        """Seconds spent on compiling so far; None for an engine that does not compile."""

    @property
    def tuned_kernels(self) -> str | None:
        """A digest of the kernels that the compiler chose.

        None for an engine that does not compile.
        """

    @property
    def speed_probes(self) -> Sequence[str]:
        """The machine probes that the engine's speed depends on. A change of any other probe explains nothing."""

    @property
    def weights_bytes(self) -> int | None:
        """Bytes of all weights, quantization scales included."""

    @property
    def weights_read_bytes(self) -> int | None:
        """Bytes of the weights that one decoding step reads."""

    @property
    def cache_bytes_per_token(self) -> int | None:
        """Bytes of one token's keys and values in all layers, which each later step of its sequence reads."""

    @property
    def load_peak_memory_bytes(self) -> int | None: ...

    @property
    def predicted_memory_bytes(self) -> int | None: ...


class Engine(TextGenerator, EngineFacts, Protocol):
    """A text generator in this process, and the facts about it."""


class BatchEngine(Engine, Protocol):
    """An engine in this process, whose memory is predicted for any batch size."""

    def memory_for(self, sequence_tokens: int, batch_size: int) -> MemoryPrediction:
        """The memory predicted for a batch of sequences of this length.

        The length counts prompt and summary together.
        """

    def resize(self, batch_size: int) -> None:
        """Release what was compiled for another batch size; 0 releases all of it."""


class LogitsEngine(TextGenerator, Protocol):
    """A text generator that reports its logits.

    They are [tokens, vocabulary] in float32, on the CPU.
    """

    def summary_with_logits(self, prompt: Sequence[int], max_new_tokens: int) -> tuple[list[int], Any]:
        """A greedy summary's token ids, and the logits of each."""

    def forced_logits(self, prompt: Sequence[int], summary: Sequence[int]) -> Any:
        """The logits of each token of a given summary, computed from the tokens before it."""


class RequestResult(Protocol):
    """The end of one request. Seconds are readings of `time.perf_counter`."""

    @property
    def request_id(self) -> str: ...

    @property
    def generated_tokens(self) -> list[int]: ...

    @property
    def error(self) -> str | None: ...

    @property
    def timestamps(self) -> list[float]:
        """When the host had each generated token."""

    @property
    def lifespan(self) -> tuple[float, float]:
        """When the request arrived and when it finished."""

    def is_finished(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a concurrent engine: requests at a time, and pages of KV cache.

    Any `requests` of the documents fit whole into the pages, of `page_tokens` tokens each. A step processes at most
    `step_tokens` tokens.
    """

    requests: int
    pages: int
    page_tokens: int
    step_tokens: int
    predicted: MemoryPrediction


class ConcurrentEngine(Protocol):
    """Takes all prompts at once and schedules them, as continuous batching.

    `settings` are added to the workload. The engine holds threads or memory until `close`.
    """

    @property
    def limits(self) -> Limits: ...

    @property
    def settings(self) -> Mapping[str, JsonScalar]: ...

    @property
    def steps(self) -> int:
        """How many steps (forward passes) the model has made since the engine was started."""

    def run(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[RequestResult]:
        """Submit all prompts at once, and return results in the same order."""

    def close(self) -> None:
        """Stop the engine and release its memory."""
