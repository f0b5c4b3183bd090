"""Capturing a function as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


def captured(step: Callable[[], Any], pool: Any = None) -> Callable[[], Any]:
    """Capture `step` as a CUDA graph.

    Each call of the result replays it and returns the same tensor.

    Graphs with the same `pool` share memory: a returned tensor is valid until another graph of the pool is replayed.
    """
    import torch

    aside = _capture_stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # compile and warm up first, because neither can be captured
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        result = step()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


@cache
def _capture_stream() -> Any:
    """One stream for all captures.

    cuBLAS keeps a workspace (32 MiB on Hopper) for each stream that it has used.
    """
    import torch

    return torch.cuda.Stream()  # type: ignore[no-untyped-call]
