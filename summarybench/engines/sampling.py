"""Choosing the next token, greedily or by sampling.

Sampling draws from the most likely tokens (top-k) with a temperature.
"""

from __future__ import annotations

from typing import Any


def draw_noise(noise: Any) -> None:
    """Refill `noise` in place with exponential random numbers.

    Does nothing for None (a greedy decoder).

    Call it outside compiled code: a seed then determines the numbers, and a captured graph continues torch's sequence.
    """
    if noise is not None:
        noise.exponential_()


def sample(logits: Any, noise: Any, temperature: Any, is_random: Any) -> Any:
    """The next token of each sequence, [batch, 1], from logits [batch, vocabulary].

    With `noise` None, the most likely token. Otherwise `noise` is [batch, top_k], `temperature` and `is_random` are [1]:
    subtracting the logarithm of exponential noise and taking the maximum draws each token with its probability (the
    exponential race, also known as the Gumbel-max trick). Where `is_random` is 0, the most likely token wins.
    """
    if noise is None:
        return logits.argmax(dim=-1, keepdim=True)
    likely, tokens = logits.float().topk(noise.shape[1])
    winners = (likely / temperature - is_random * noise.log()).argmax(dim=-1, keepdim=True)
    return tokens.gather(1, winners)
