"""Answers in batches: left-padded, greedy or drawn, halved where memory runs out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from summarybench.core.outcomes import DeviceMemoryError, explain_out_of_memory
from summarybench.engines.compiled import CompiledDecoders
from summarybench.engines.static_attention import attend_to_static_cache
from summarybench.engines.static_cache import cache_tokens_for
from summarybench.machine.device import Device

TokenIds = Sequence[int]
TOP_K = 50
"""Tokens that are drawn from; a share of the probability in their place would sort the whole vocabulary for each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn; the seed is the batch's."""

    temperature: float
    seed: int


def end_tokens(model: Any) -> tuple[int, ...]:
    ends = model.generation_config.eos_token_id
    return tuple(ends) if isinstance(ends, list) else (int(ends),)


class Writer:
    """Answers prompts with a model, some at a time.

    Where a prompt and its answer never exceed `tokens`, and the device is one to compile for, decoding is compiled: a small
    teacher waits for the host to launch its kernels, many times longer than for the kernels. Else transformers decodes.
    """

    def __init__(self, model: Any, device: Device, rows: int, tokens: int | None = None) -> None:
        self._model = model
        self._device = device
        self._rows = rows
        self._ends = end_tokens(model)
        self._decoders: CompiledDecoders | None = None
        if tokens is not None and is_compiled_for(device):
            attend_to_static_cache(model)
            self._decoders = CompiledDecoders(
                model,
                tokens=cache_tokens_for(tokens),
                end_tokens=self._ends,
                pad_token=self._ends[0],
                clock=time.perf_counter,
                top_k=TOP_K,
            )

    def answer(
        self, prompts: Sequence[TokenIds], max_new_tokens: int, sampling: Sampling | None = None
    ) -> list[list[int]]:
        """What the model answers to each prompt, end token included; greedy without `sampling`.

        A batch that does not fit is halved until it does, and later ones are no larger. Raises DeviceMemoryError where a
        single prompt does not fit.
        """
        found: list[list[int]] = []
        while len(found) < len(prompts):
            some = prompts[len(found) : len(found) + self._rows]
            drawn = sampling and replace(sampling, seed=sampling.seed + len(found))
            try:
                found += self._answer(some, max_new_tokens, drawn)
                continue
            except Exception as error:
                detail = explain_out_of_memory(error)
            if self._decoders:
                self._decoders.keep_only(0)
            self._device.release_memory()
            if len(some) == 1:
                raise DeviceMemoryError(f"out of memory while generating from one prompt: {detail}")
            self._rows = len(some) // 2
        return found

    def _answer(self, prompts: Sequence[TokenIds], max_new_tokens: int, sampling: Sampling | None) -> list[list[int]]:
        import torch

        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self._ends[0])  # [batch, width]
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        if sampling:
            torch.manual_seed(sampling.seed)
        place = next(self._model.parameters()).device
        ids, mask = ids.to(place), mask.to(place)
        temperature = sampling.temperature if sampling else None
        if self._decoders is None:
            output = self._decode(ids, mask, max_new_tokens, temperature)
        else:
            decoder = self._decoders.for_batch_size(self._rows)
            output = decoder.generate(ids, mask, max_new_tokens, lambda: None, temperature=temperature)
        return [_until_end(row, self._ends) for row in output[:, width:].tolist()]

    def _decode(self, ids: Any, mask: Any, max_new_tokens: int, temperature: float | None) -> Any:
        import torch
        from transformers import GenerationConfig

        chosen: dict[str, Any] = {"do_sample": False}
        if temperature is not None:
            chosen = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": TOP_K}
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=list(self._ends),
            pad_token_id=self._ends[0],
            use_cache=True,
            **chosen,
        )
        model = self._model
        kept, model.generation_config = model.generation_config, config  # its own would fill in what is not named
        try:
            with torch.inference_mode():
                return model.generate(ids, attention_mask=mask)
        finally:
            model.generation_config = kept


def is_compiled_for(device: Device) -> bool:
    """The compiler's kernels are made for GPUs of compute capability 8.0 and newer: those that multiply bfloat16."""
    return device.is_gpu and device.compute_dtype == "bfloat16"


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """Without the padding that follows a row's own end."""
    first = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[: first + 1]
