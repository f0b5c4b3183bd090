"""Continuous batching with compiled decoding: this project's own scheduler over `PageModel`.

transformers' continuous batching prepares every step in Python and gathers the whole KV cache in every layer. Here the host
only decides which documents enter: prompts are processed whole, several side by side, and one CUDA graph replay decodes
a token of every document in flight. The host reads the tokens of a step while the next one runs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

from summarybench.core.outcomes import UnavailableError
from summarybench.documents.prompts import Prompt
from summarybench.engines.engine import ConcurrentEngine, JsonScalar, Limits, RequestResult
from summarybench.engines.loaded_model import LoadedModel, end_tokens_of
from summarybench.engines.memory_model import predict_compiled_paged_memory
from summarybench.engines.paged import limits_for
from summarybench.engines.varlen_attention import torch_varlen_attn
from summarybench.machine.device import Device

if TYPE_CHECKING:
    from summarybench.engines.page_model import PageModel

STEP_TOKENS = 8192
"""The most prompt tokens of one prefill, unless one prompt is longer. Larger products are hardly faster."""

UNUSED_PROMPT = [0] * 8
NOWHERE = -1
"""The sequence of a request that waits or has left."""


@dataclass(slots=True, kw_only=True)
class _Request:
    """One document from its submission to its end, a `RequestResult`."""

    request_id: str
    prompt: Sequence[int]
    most_tokens: int
    arrived: float
    pages: list[int] = field(default_factory=list)
    sequence: int = NOWHERE
    issued: int = 0
    generated_tokens: list[int] = field(default_factory=list)
    timestamps: list[float] = field(default_factory=list)
    error: str | None = None
    has_ended: bool = False

    @property
    def lifespan(self) -> tuple[float, float]:
        return self.arrived, self.timestamps[-1]

    def is_finished(self) -> bool:
        return self.has_ended or len(self.generated_tokens) == self.most_tokens


@dataclass(frozen=True, slots=True)
class _Issued:
    """Tokens on their way to the host: the request of each, and what signals their arrival."""

    tokens: Any
    requests: list[_Request | None]
    arrival: Any


class PageEngine:
    """Schedules requests over a `PageModel`: as many at a time as `limits` says, the others wait.

    `longest_sequence` is the most tokens of one request, prompt and summary together. A summary ends with one of
    `end_tokens`. Raises as torch does where the device fails.
    """

    def __init__(
        self,
        model: PageModel,
        limits: Limits,
        *,
        longest_sequence: int,
        end_tokens: Collection[int | None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        import torch

        from summarybench.engines.cuda_graph import captured
        from summarybench.engines.page_model import PAGE_TOKENS, UNUSED_PAGE, DecodingState

        self.limits = limits
        self.steps = 0
        self.own_kernels = model.own_kernels
        on_gpu = model.device.type == "cuda"
        self.settings: Mapping[str, JsonScalar] = {
            "batching": "continuous",
            "paged_attention": "summarybench pages",
            "page_tokens": limits.page_tokens,
            "step_tokens": limits.step_tokens,
            "cuda_graphs": on_gpu,
            "asynchronous": on_gpu,
        }
        self._torch = torch
        self._clock = clock
        self._ends = frozenset(end_tokens)
        self._model = model
        self._state = DecodingState(limits.requests, ceil(longest_sequence / PAGE_TOKENS), model.device)
        self._on_gpu = on_gpu
        with torch.inference_mode():
            model.prefill([UNUSED_PROMPT] * 2, [[UNUSED_PAGE]] * 2)  # compiles
            step = partial(model.step, self._state)
            self._step: Callable[[], Any] = captured(step) if on_gpu else step
        self._free_pages = list(range(limits.pages, 0, -1))
        self._free_sequences = list(range(limits.requests - 1, -1, -1))
        self._running: dict[int, _Request] = {}
        self._issued: deque[_Issued] = deque()

    def run(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[RequestResult]:
        """Submit all prompts at once, and return results in the same order."""
        arrived = self._clock()
        requests = [
            _Request(request_id=str(number), prompt=each, most_tokens=max_new_tokens, arrived=arrived)
            for number, each in enumerate(prompts)
        ]
        waiting = deque(requests)
        with self._torch.inference_mode():
            while waiting or self._running:
                while entering := self._entering(waiting):
                    self._prefill(entering)
                    self._leave(self._at_limit())
                if self._running:
                    self._decode()
                    self._leave(self._at_limit())
                self._leave(self._read(all_but=1))
            self._read(all_but=0)
        return list[RequestResult](requests)

    def close(self) -> None:
        """Release the cache and the captured step."""
        del self._model, self._step, self._state
        self._issued.clear()

    def _entering(self, waiting: deque[_Request]) -> list[_Request]:
        """The next requests that fit: their pages, a sequence each, and one step of prefill together."""
        entering: list[_Request] = []
        tokens = 0
        while waiting and self._free_sequences:
            prompt_tokens = len(waiting[0].prompt)
            pages = ceil((prompt_tokens + waiting[0].most_tokens) / self.limits.page_tokens)
            if pages > len(self._free_pages) or (entering and tokens + prompt_tokens > self.limits.step_tokens):
                break
            request = waiting.popleft()
            request.pages = [self._free_pages.pop() for _ in range(pages)]
            request.sequence = self._free_sequences.pop()
            entering.append(request)
            tokens += prompt_tokens
        return entering

    def _prefill(self, entering: list[_Request]) -> None:
        first = self._model.prefill([each.prompt for each in entering], [each.pages for each in entering])
        sequences = [each.sequence for each in entering]
        rows = self._state.table.shape[1]
        padded = [[*each.pages, *[0] * (rows - len(each.pages))] for each in entering]
        self._state.enter(sequences, first, [len(each.prompt) for each in entering], padded)
        self._running.update(zip(sequences, entering, strict=True))
        self._issue(first, entering)

    def _decode(self) -> None:
        self._issue(self._step(), [self._running.get(number) for number in range(self.limits.requests)])

    def _issue(self, tokens: Any, requests: Sequence[_Request | None]) -> None:
        """Send tokens to the host, without waiting for them."""
        self.steps += 1
        for each in requests:
            if each is not None:
                each.issued += 1
        if not self._on_gpu:
            self._issued.append(_Issued(tokens.clone(), list(requests), None))
            return
        here = self._torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
        here.copy_(tokens, non_blocking=True)
        arrival = self._torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrival.record()
        self._issued.append(_Issued(here, list(requests), arrival))

    def _read(self, *, all_but: int) -> list[_Request]:
        """Wait for the tokens of all steps but the newest `all_but`; the requests that ended with them."""
        ended = []
        while len(self._issued) > all_but:
            issued = self._issued.popleft()
            if issued.arrival is not None:
                issued.arrival.synchronize()
            now = self._clock()
            for token, request in zip(issued.tokens.tolist(), issued.requests, strict=True):
                if request is None or request.has_ended:
                    continue
                request.generated_tokens.append(token)
                request.timestamps.append(now)
                if token in self._ends:
                    request.has_ended = True
                    ended.append(request)
        return ended

    def _at_limit(self) -> list[_Request]:
        return [each for each in self._running.values() if each.issued == each.most_tokens]

    def _leave(self, requests: Sequence[_Request]) -> None:
        """Free what requests hold. Work already under way runs before anything that takes their place."""
        leaving = [each for each in requests if each.sequence != NOWHERE]
        if not leaving:
            return
        self._state.leave([each.sequence for each in leaving])
        for each in leaving:
            del self._running[each.sequence]
            self._free_sequences.append(each.sequence)
            self._free_pages.extend(each.pages)
            each.sequence, each.pages = NOWHERE, []


def start_page_engine(
    loaded: LoadedModel, prompts: Sequence[Prompt], max_new_tokens: int, device: Device, *, may_refuse: bool
) -> ConcurrentEngine:
    """Start the engine with a cache for as many of these prompts as fit. Compiles, which takes up to a minute.

    Raises DeviceMemoryError as `limits_for`, and UnavailableError where the model or torch lacks what the engine needs.
    """
    from summarybench.engines.inductor import compile_for_any_length, compile_with_inductor
    from summarybench.engines.page_model import PAGE_TOKENS, SUPPORTED_MODELS, PageModel, supports_pages

    attend = torch_varlen_attn()
    if attend is None or loaded.decoders is None or not supports_pages(loaded.model):
        raise UnavailableError(
            f"compiled continuous batching needs {SUPPORTED_MODELS}, and torch 2.11 or newer; measure "
            f"{loaded.experiment.model} with a loader that is not compiled"
        )
    sequences = [len(prompt.token_ids) + max_new_tokens for prompt in prompts]
    step_tokens = max(STEP_TOKENS, *(len(prompt.token_ids) for prompt in prompts))
    limits = limits_for(
        sequences,
        lambda pages: predict_compiled_paged_memory(
            loaded.chat.config,
            loaded.settings,
            weights_bytes=loaded.weights_bytes,
            cache_tokens=(pages + 1) * PAGE_TOKENS,
            step_tokens=min(step_tokens, sum(len(prompt.token_ids) for prompt in prompts)),
        ),
        min(device.free_memory_bytes(), device.memory_bytes - loaded.weights_bytes),
        may_refuse=may_refuse,
        page_tokens=PAGE_TOKENS,
        step_tokens=step_tokens,
    )

    def build() -> PageEngine:
        model = PageModel(
            loaded.model,
            limits.pages + 1,
            attend,
            compiled=compile_with_inductor(limits.requests),
            compiled_for_any=compile_for_any_length(),
        )
        return PageEngine(model, limits, longest_sequence=max(sequences), end_tokens=end_tokens_of(loaded.model))

    return loaded.decoders.built(build)
