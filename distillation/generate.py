"""Summaries in batches: left-padded, greedy or sampled, halved where memory runs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fixtures.device import Device, release_memory
from fixtures.outcomes import DeviceMemoryError, explain_out_of_memory

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


def generate(
    model: Any, device: Device, prompts: Sequence[TokenIds], max_new_tokens: int, sampling: Sampling | None = None
) -> list[list[int]]:
    """What the model answers to each prompt, end token included; greedy without `sampling`.

    A batch that does not fit is halved until it does. Raises DeviceMemoryError where a single prompt does not.
    """
    if not prompts:
        return []
    try:
        return _generate(model, prompts, max_new_tokens, sampling)
    except Exception as error:
        detail = explain_out_of_memory(error)
    release_memory(device)
    if len(prompts) == 1:
        raise DeviceMemoryError(f"out of memory while generating from one prompt: {detail}")
    middle = len(prompts) // 2
    halves = (prompts[:middle], prompts[middle:])
    return [each for half in halves for each in generate(model, device, half, max_new_tokens, sampling)]


def _generate(
    model: Any, prompts: Sequence[TokenIds], max_new_tokens: int, sampling: Sampling | None
) -> list[list[int]]:
    import torch
    from transformers import GenerationConfig

    ends = end_tokens(model)
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), ends[0])  # [batch, width]
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    chosen: dict[str, Any] = {"do_sample": False}
    if sampling:
        torch.manual_seed(sampling.seed)
        chosen = {"do_sample": True, "temperature": sampling.temperature, "top_p": 1.0, "top_k": TOP_K}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, eos_token_id=list(ends), pad_token_id=ends[0], use_cache=True, **chosen
    )
    device = next(model.parameters()).device
    kept, model.generation_config = model.generation_config, config  # the model's own would fill in what is not named
    try:
        with torch.inference_mode():
            output = model.generate(ids.to(device), attention_mask=mask.to(device))
    finally:
        model.generation_config = kept
    return [_until_end(row, ends) for row in output[:, width:].tolist()]


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """Without the padding that follows a row's own end."""
    first = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[: first + 1]
