"""Generating texts in left-padded batches, greedy or sampled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from summarybench.core.device_errors import explain_out_of_memory
from summarybench.core.outcomes import DeviceMemoryError
from summarybench.engines.compiled import CompiledDecoders
from summarybench.engines.engine import note_nothing
from summarybench.engines.static_attention import attend_to_static_cache
from summarybench.engines.static_cache import cache_tokens_for
from summarybench.machine.device import Device

TokenIds = Sequence[int]
TOP_K = 50
"""Sample from this many most likely tokens. A nucleus (top-p) would sort the whole vocabulary for each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample one batch of texts."""

    temperature: float
    seed: int


def end_tokens(model: Any) -> tuple[int, ...]:
    """The IDs of the tokens that end a text."""
    ends = model.generation_config.eos_token_id
    return tuple(ends) if isinstance(ends, list) else (int(ends),)


class BatchGenerator:
    """Generator of texts with one model, at most `batch_size` at a time.

    Decoding is compiled if `tokens`, the longest prompt and its text together, is known and the device suits the
    compiler: a small model otherwise spends most of its time launching kernels. Else transformers' `generate` decodes.
    """

    def __init__(self, model: Any, device: Device, batch_size: int, tokens: int | None = None) -> None:
        self._model = model
        self._device = device
        self._batch_size = batch_size
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

    def generate(
        self, prompts: Sequence[TokenIds], max_new_tokens: int, sampling: Sampling | None = None
    ) -> list[list[int]]:
        """Return the generated tokens of each prompt, end token included.

        Decoding is greedy without `sampling`.

        A batch that runs out of memory is halved until it fits, and later batches are no larger. Raises
        DeviceMemoryError if a single prompt does not fit.
        """
        texts: list[list[int]] = []
        while len(texts) < len(prompts):
            batch = prompts[len(texts) : len(texts) + self._batch_size]
            batch_sampling = sampling and replace(sampling, seed=sampling.seed + len(texts))
            try:
                texts += self._generate(batch, max_new_tokens, batch_sampling)
                continue
            except Exception as error:
                detail = explain_out_of_memory(error)
            if self._decoders:
                self._decoders.keep_only(0)
            self._device.release_memory()
            if len(batch) == 1:
                raise DeviceMemoryError(f"out of memory while generating from one prompt: {detail}")
            self._batch_size = len(batch) // 2
        return texts

    def _generate(self, prompts: Sequence[TokenIds], max_new_tokens: int, sampling: Sampling | None) -> list[list[int]]:
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
            decoder = self._decoders.for_batch_size(self._batch_size)
            output = decoder.generate(ids, mask, max_new_tokens, note_nothing, temperature=temperature)
        return [_through_end(row, self._ends) for row in output[:, width:].tolist()]

    def _decode(self, ids: Any, mask: Any, max_new_tokens: int, temperature: float | None) -> Any:
        import torch
        from transformers import GenerationConfig

        strategy: dict[str, Any] = {"do_sample": False}
        if temperature is not None:
            strategy = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": TOP_K}
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=list(self._ends),
            pad_token_id=self._ends[0],
            use_cache=True,
            **strategy,
        )
        model = self._model
        # transformers fills gaps in `config` from the model's own generation config, so replace that one.
        own_config, model.generation_config = model.generation_config, config
        try:
            with torch.inference_mode():
                return model.generate(ids, attention_mask=mask)
        finally:
            model.generation_config = own_config


def is_compiled_for(device: Device) -> bool:
    """Whether texts are decoded with compiled steps on the device."""
    return device.compiles_decoding


def _through_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to the first end token, without the padding after it."""
    first = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[: first + 1]
