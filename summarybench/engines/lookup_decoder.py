"""Prompt lookup with compiled decoding: one step verifies several tokens that were copied from the sequence itself.

A summary often repeats words of its document. A step looks for the newest tokens earlier in prompt and summary, takes the
tokens that followed there as drafts (A. Saxena, "Prompt Lookup Decoding", 2023), and computes the model for the newest
token and all drafts side by side, as so many sequences over the same pages of KV cache. It keeps the drafts that greedy
decoding would have chosen too. Search, verification and bookkeeping run on the device inside the captured step, so the host
only learns, one step late, whether all summaries have ended.

This module imports torch and bitsandbytes, so import it only when a model is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import torch

from summarybench.engines.cuda_graph import captured
from summarybench.engines.engine import OnFirstToken
from summarybench.engines.page_model import PAGE_TOKENS, UNUSED_PAGE, DecodingState, PageModel
from summarybench.engines.step_loop import StepLoop

LONGEST_MATCH = 3
"""The most newest tokens that are looked for. Where they are not found, fewer are."""
UNUSED_PROMPT = [0] * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftedSummaries:
    """What one call generated, on the device.

    `sequences` [documents, tokens] has prompts and summaries, whose ends are in `lengths` [documents]. `steps` [documents]
    counts the verification steps of each.
    """

    sequences: Any
    prompt_lengths: Sequence[int]
    lengths: Any
    steps: Any

    def summaries(self) -> list[list[int]]:
        """The generated token ids of each document, end token included."""
        rows, ends = self.sequences.tolist(), self.lengths.tolist()
        return [row[start:end] for row, start, end in zip(rows, self.prompt_lengths, ends, strict=True)]


class LookupState(DecodingState):
    """What a step of prompt lookup reads and writes.

    The model sees each document as `draft_tokens` + 1 sequences of the same pages: its newest token, and the drafts behind
    it. Keys and values of drafts that are not kept are overwritten by the next step.
    """

    def __init__(self, documents: int, draft_tokens: int, tokens: int, end_tokens: Sequence[int], device: Any) -> None:
        rows = draft_tokens + 1
        pages = ceil((tokens + draft_tokens) / PAGE_TOKENS)
        super().__init__(documents * rows, pages, device)
        self.pages_of = [list(range(1 + each * pages, 1 + (each + 1) * pages)) for each in range(documents)]
        self.table.copy_(torch.tensor(self.pages_of).repeat_interleave(rows, dim=0))
        self.sequence = torch.zeros((documents, tokens + rows), dtype=torch.long, device=device)
        self.length, self.steps, self._limit = (
            torch.zeros(documents, dtype=torch.long, device=device) for _ in range(3)
        )
        self.is_running = torch.zeros(documents, dtype=torch.bool, device=device)
        self.all_ended = torch.zeros(1, dtype=torch.bool, device=device)
        self._ends = torch.tensor(end_tokens, dtype=torch.long, device=device)
        self._rows = torch.arange(rows, device=device)
        self._places = torch.arange(tokens + rows, device=device)

    def begin(self, prompts: Sequence[Sequence[int]], first_tokens: Any, max_new_tokens: int) -> None:
        """Enter documents with the first token of each summary [documents], and draft what follows."""
        for row, prompt in zip(self.sequence, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt, device=row.device)
        self.length.copy_(torch.tensor([len(prompt) for prompt in prompts]))
        self._limit.copy_(self.length + max_new_tokens)
        self.sequence.scatter_(1, self.length[:, None], first_tokens[:, None])
        self.length.add_(1)
        self.steps.zero_()
        is_end = (first_tokens[:, None] == self._ends).any(-1)
        self.is_running.copy_(~is_end & (self.length < self._limit))
        self._draft()

    def advance(self, tokens: Any) -> None:
        """Keep what greedy decoding would have generated. `tokens` [sequences] has the model's choice after each row."""
        chosen = tokens.view(len(self.sequence), -1)  # [documents, rows]
        drafts = self.token.view_as(chosen)[:, 1:]
        agreeing = (drafts == chosen[:, :-1]).long().cumprod(1).sum(1)
        before_end = (~(chosen[..., None] == self._ends).any(-1)).long().cumprod(1).sum(1)
        kept = torch.minimum(torch.minimum(agreeing, before_end) + 1, self._limit - self.length)
        self.sequence.scatter_(1, self.length[:, None] + self._rows, chosen)
        self.length.add_(kept * self.is_running)
        self.steps.add_(self.is_running)
        self.is_running.logical_and_((before_end >= kept) & (self.length < self._limit))
        self._draft()

    def _draft(self) -> None:
        """Write the next step's rows: the newest token, and what followed its last occurrence.

        Of all earlier places the one counts whose last tokens agree with the newest ones for longest, and of these the last.
        Where the copied part reaches the end of the sequence it is repeated, as the text seems to repeat itself.
        """
        newest = self.length - 1
        agrees = self._places < newest[:, None]  # [documents, places]
        matched = torch.zeros_like(self.sequence)
        for back in range(LONGEST_MATCH):
            token = self.sequence.gather(1, (newest - back).clamp(min=0)[:, None])
            agrees = agrees & (self._places >= back) & (self.sequence.roll(back, 1) == token)
            matched = matched + agrees
        best = (matched * len(self._places) + self._places).argmax(1)
        best = torch.where(matched.gather(1, best[:, None])[:, 0] > 0, best, newest - 1)
        offsets = (self._rows[:-1] % (newest - best)[:, None]) + 1  # [documents, drafts]
        rows = torch.cat([newest[:, None], best[:, None] + offsets], dim=1)
        self.token.copy_(self.sequence.gather(1, rows).view(-1))
        self.position.copy_((newest[:, None] + self._rows).view(-1))
        self.is_active.copy_(self.is_running[:, None].expand_as(rows).reshape(-1))
        self.all_ended.copy_(~self.is_running.any().view(1))


class LookupDecoder:
    """Generates with one prefill, then one graph replay for each group of tokens.

    It holds exactly `documents` sequences of at most `tokens` tokens each, prompt and summary together. Construction compiles
    and captures; on a CPU nothing is captured. `compiled` compiles the bookkeeping of a step; None in tests.
    """

    def __init__(
        self,
        model: PageModel,
        *,
        documents: int,
        draft_tokens: int,
        tokens: int,
        end_tokens: Sequence[int],
        compiled: Callable[..., Any] | None = None,
    ) -> None:
        on_gpu = model.device.type == "cuda"
        self.own_kernels = model.own_kernels
        self.tokens = tokens
        self._model = model
        self._state = LookupState(documents, draft_tokens, tokens, end_tokens, model.device)
        if compiled is not None:
            self._state.advance = compiled(self._state.advance)  # type: ignore[method-assign]
        self._steps = StepLoop(self._state.all_ended)
        with torch.inference_mode():
            model.prefill([UNUSED_PROMPT] * 2, [[UNUSED_PAGE]] * 2)  # compiles
            self._state.begin([UNUSED_PROMPT] * documents, self._state.length.clone(), 1)
            step = partial(model.step, self._state)
            self._step: Callable[[], Any] = captured(step) if on_gpu else step

    @staticmethod
    def pages_for(documents: int, draft_tokens: int, tokens: int) -> int:
        """The pages of KV cache that a decoder needs, the unused one included."""
        return documents * ceil((tokens + draft_tokens) / PAGE_TOKENS) + 1

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, on_first_token: OnFirstToken
    ) -> DraftedSummaries:
        """Generate greedily.

        Calls `on_first_token` once, when every prompt has its first token: prefill gives it alone. Later tokens come in
        groups. Raises ValueError for another number of prompts than the decoder's, or for sequences that are too long.
        """
        longest = max(map(len, prompts)) + max_new_tokens
        if len(prompts) != len(self._state.pages_of) or longest > self.tokens:
            raise ValueError(f"{len(prompts)} sequences of up to {longest} tokens: built for others")
        with torch.inference_mode():
            first_tokens = self._model.prefill(prompts, self._state.pages_of)
            self._state.begin(prompts, first_tokens, max_new_tokens)
            self._steps.run(self._step, max_new_tokens, on_first_token)
            return DraftedSummaries(
                sequences=self._state.sequence.clone(),
                prompt_lengths=[len(prompt) for prompt in prompts],
                lengths=self._state.length.clone(),
                steps=self._state.steps.clone(),
            )
