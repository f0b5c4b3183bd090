"""The loop of decoding steps, in which the host never waits for the step that the device is running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from summarybench.engines.engine import OnFirstToken


class StepLoop:
    """Queues a decoding step before it asks how the one before it ended.

    `all_ended` [1] is a boolean on the device, which the prompt and every step set once all sequences have ended. On a CPU
    nothing is queued, and each step runs at once.
    """

    def __init__(self, all_ended: Any) -> None:
        import torch

        on_gpu = all_ended.device.type == "cuda"
        self._all_ended = all_ended
        self._seen = [torch.zeros(1, dtype=torch.bool, pin_memory=on_gpu) for _ in range(2)]
        self._copied = [torch.cuda.Event() if on_gpu else None for _ in range(2)]  # type: ignore[no-untyped-call]

    def run(self, step: Callable[[], Any], max_new_tokens: int, on_first_token: OnFirstToken) -> int:
        """Run steps after a prompt that gave the first token.

        Ends after `max_new_tokens` - 1 steps, or one step after all sequences have ended. Returns the number of tokens up to
        the end, the first one included.
        """
        self._ask(0)
        first = self._copied[0]
        if first is None or max_new_tokens == 1:
            on_first_token()
        for number in range(1, max_new_tokens):
            step()
            self._ask(number)
            if number == 1 and first is not None:
                on_first_token(first.synchronize)  # a second step is queued, so the device does not wait
            if self._had_ended(number - 1):  # asked one step ago, so that the host never waits for the device
                return number
        return max_new_tokens

    def _ask(self, number: int) -> None:
        self._seen[number % 2].copy_(self._all_ended, non_blocking=True)
        if (event := self._copied[number % 2]) is not None:
            event.record()

    def _had_ended(self, number: int) -> bool:
        if (event := self._copied[number % 2]) is not None:
            event.synchronize()
        return bool(self._seen[number % 2])
