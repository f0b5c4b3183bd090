"""Decoding with prompt lookup, one document at a time: transformers' own, or compiled.

Drafts are copied from prompt and summary, and one forward pass verifies all of them. Of the drafts it keeps those that greedy
decoding would have chosen, and adds one token of its own. So tokens arrive in groups. The drafts of another model
(student_drafts.py) are verified and counted in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from summarybench.core.outcomes import UnavailableError
from summarybench.engines.engine import OnFirstToken, TextGenerator
from summarybench.engines.loaded_model import LoadedModel, PreparedBatch, end_tokens_of
from summarybench.engines.varlen_attention import torch_varlen_attn

if TYPE_CHECKING:
    from summarybench.engines.lookup_decoder import DraftedSummaries, LookupDecoder

LONGEST_MATCH = 2
"""The most newest tokens that transformers looks for: its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupCounts:
    """How one summary came about.

    `first_tokens` arrived together with the first one. All later tokens took `steps` forward passes, which verified `drafted`
    drafts. Raises ValueError for impossible counts.
    """

    first_tokens: int
    steps: int
    drafted: int

    def __post_init__(self) -> None:
        if self.first_tokens < 1 or self.steps < 0 or self.drafted < 0:
            raise ValueError(f"impossible counts of steps and drafts: {self}")


class LookupEngine(TextGenerator, Protocol):
    """Generates with drafts, and keeps the tokens and the counts of each summary whose tokens were read."""

    @property
    def summaries(self) -> Sequence[Sequence[int]]: ...

    @property
    def counts(self) -> Sequence[LookupCounts]: ...


class AssistedDecoding:
    """transformers' own decoding with drafts, which supports one document at a time.

    `assistance` are the options of its `generate` that say where drafts come from.
    """

    def __init__(self, loaded: LoadedModel, assistance: Mapping[str, Any]) -> None:
        self.summaries: list[list[int]] = []
        self.counts: list[LookupCounts] = []
        self._loaded = loaded
        self._assistance = dict(assistance)
        self.prepare = loaded.prepare
        self.decode = loaded.decode
        self.ends_by_itself = loaded.ends_by_itself

    def generate(
        self, prepared: PreparedBatch, max_new_tokens: int, on_first_token: OnFirstToken
    ) -> tuple[Any, LookupCounts]:
        """Generate greedily: [1, prompt + generated tokens], and the counts.

        transformers drafts before the first token too. `on_first_token` is called when the group with the first token is there.
        """
        counter = _StepCounter(prepared.input_ids.shape[1], on_first_token)
        hook = self._loaded.model.register_forward_pre_hook(counter.before_step, with_kwargs=True)
        try:
            sequences = self._loaded.generate_bare(
                prepared, max_new_tokens, stopping_criteria=[counter], **self._assistance
            )
        finally:
            hook.remove()
        return sequences, counter.counts

    def generated_ids(self, output: tuple[Any, LookupCounts], prepared: PreparedBatch) -> list[list[int]]:
        sequences, counts = output
        found = self._loaded.generated_ids(sequences, prepared)
        self.summaries += found
        self.counts.append(counts)
        return found


class EagerLookup(AssistedDecoding):
    """transformers' own prompt lookup."""

    def __init__(self, loaded: LoadedModel, draft_tokens: int) -> None:
        super().__init__(loaded, {"prompt_lookup_num_tokens": draft_tokens, "max_matching_ngram_size": LONGEST_MATCH})


class _StepCounter:
    """Counts forward passes and drafts, without synchronizing the device: it reads shapes only.

    It is a hook before each forward pass, and a stopping criterion after it that never stops. transformers up to 5.17 also asks
    the stopping criteria about drafts, before the pass that verifies them: until the first pass, such calls are ignored.
    """

    def __init__(self, prompt_tokens: int, on_first_token: OnFirstToken) -> None:
        self._prompt_tokens = prompt_tokens
        self._on_first_token = on_first_token
        self._first_tokens = 0
        self._passes = 0
        self._drafted = 0
        self._never: Any = None

    @property
    def counts(self) -> LookupCounts:
        """Of the passes after the first one, which is the prefill."""
        return LookupCounts(first_tokens=self._first_tokens, steps=max(0, self._passes - 1), drafted=self._drafted)

    def before_step(self, _model: Any, _arguments: Any, inputs: dict[str, Any]) -> None:
        if self._passes:
            self._drafted += inputs["input_ids"].shape[1] - 1
        self._passes += 1

    def __call__(self, input_ids: Any, *_: Any, **__: Any) -> Any:
        if self._never is None:
            import torch

            self._never = input_ids.new_zeros(1, dtype=torch.bool)
        if self._passes and not self._first_tokens:
            self._first_tokens = input_ids.shape[1] - self._prompt_tokens
            self._on_first_token()
        return self._never


class CompiledLookup:
    """Prompt lookup by a compiled decoder of one document."""

    def __init__(self, loaded: LoadedModel, decoder: LookupDecoder, draft_tokens: int) -> None:
        self.summaries: list[list[int]] = []
        self.counts: list[LookupCounts] = []
        self._decoder = decoder
        self._draft_tokens = draft_tokens
        self.decode = loaded.decode
        self.ends_by_itself = loaded.ends_by_itself

    def prepare(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The prompts as they are: the decoder's prefill puts them on the device."""
        return [list(prompt) for prompt in prompts]

    def generate(
        self, prepared: list[list[int]], max_new_tokens: int, on_first_token: OnFirstToken
    ) -> DraftedSummaries:
        """Generate greedily. The first token arrives alone; each step verifies all drafts, found in the text or not."""
        return self._decoder.generate(prepared, max_new_tokens, on_first_token)

    def generated_ids(self, output: DraftedSummaries, _prepared: list[list[int]]) -> list[list[int]]:
        found = output.summaries()
        self.summaries += found
        for steps in output.steps.tolist():
            self.counts.append(LookupCounts(first_tokens=1, steps=steps, drafted=steps * self._draft_tokens))
        return found


def open_lookup(loaded: LoadedModel, draft_tokens: int, longest_sequence: int) -> LookupEngine:
    """Prompt lookup with this model, for sequences of at most `longest_sequence` tokens.

    A compiled loader compiles it here. Raises UnavailableError where the model or torch lacks what that needs.
    """
    if loaded.decoders is None:
        return EagerLookup(loaded, draft_tokens)
    from summarybench.engines.inductor import compile_for_any_length, compile_with_inductor
    from summarybench.engines.lookup_decoder import LookupDecoder
    from summarybench.engines.page_model import SUPPORTED_MODELS, PageModel, supports_pages

    attend = torch_varlen_attn()
    if attend is None or not supports_pages(loaded.model):
        raise UnavailableError(
            f"compiled prompt lookup needs {SUPPORTED_MODELS}, and torch 2.11 or newer; measure {loaded.experiment.model} "
            "with fp16-lookup"
        )

    def build() -> LookupDecoder:
        compiled = compile_with_inductor(draft_tokens + 1)
        pages = LookupDecoder.pages_for(1, draft_tokens, longest_sequence)
        model = PageModel(loaded.model, pages, attend, compiled=compiled, compiled_for_any=compile_for_any_length())
        return LookupDecoder(
            model,
            documents=1,
            draft_tokens=draft_tokens,
            tokens=longest_sequence,
            end_tokens=[token for token in end_tokens_of(loaded.model) if token is not None],
            compiled=compiled,
        )

    return CompiledLookup(loaded, loaded.decoders.built(build), draft_tokens)
