"""torch's inductor compiler: its options, and a digest of its kernels."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any


def inductor_options(batch_size: int, *, has_own_products: bool = False, overlaps: bool = False) -> dict[str, Any]:
    """Options for inductor to compile a decoder for this batch size.

    With `has_own_products` the matrix products are this project's own kernels, as in Llama, Mistral and Qwen models at
    batch size 1. Inductor generates only norms and activations then. Of many variants of such small kernels, another one
    wins the timing in each tuning, so inductor times none. With `overlaps` its kernels start early, as the project's own
    do. In other models at batch size 1 the products are inductor's reductions, which are worth tuning. At larger batch
    sizes cuBLAS computes the products, and tuning would only cost minutes.

    Later processes must reuse tuned kernels. By torch's defaults they would tune again: a kernel that returns from a
    worker process or from the static launcher has lost the mark that it was tuned, and `dynamic_scale_rblock` compares
    a kernel with a variant of half the block size in each process. The options below avoid all three.
    """
    untimed = {"deterministic": True, "triton.autotune_pointwise": False, "triton.enable_pdl": overlaps}
    tuned = {"coordinate_descent_tuning": True, "compile_threads": 1, "dynamic_scale_rblock": False}
    return {
        **(untimed if has_own_products else tuned if batch_size == 1 else {}),
        "use_static_cuda_launcher": False,
        "triton.cudagraphs": False,  # the decoder captures graphs itself, its own bookkeeping included
    }


def compile_with_inductor(
    batch_size: int, *, has_own_products: bool = False, overlaps: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function that compiles a piece of a decoder at its first call.

    Compiled pieces are for this batch size; `has_own_products` and `overlaps` as in `inductor_options`.
    """
    import torch

    torch.compiler.reset()  # otherwise earlier batch sizes would count towards torch's limit of recompilations
    options = inductor_options(batch_size, has_own_products=has_own_products, overlaps=overlaps)
    return partial(torch.compile, fullgraph=True, dynamic=False, options=options)


def compile_for_any_length() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `compile_with_inductor`, for pieces whose number of rows changes from call to call."""
    import torch

    return partial(torch.compile, fullgraph=True, dynamic=True, options=inductor_options(batch_size=2))


def generated_modules() -> list[Any]:
    """The modules that inductor has generated in this process.

    Empty if it was never imported.
    """
    cache = getattr(sys.modules.get("torch._inductor.codecache"), "PyCodeCache", None)
    return list(getattr(cache, "modules", ()))


def digest_of_kernels(modules: Iterable[Any], own_kernels: Iterable[str] = ()) -> str | None:
    """A digest of tuned Triton kernels and of the project's own kernels.

    It covers the configuration of each kernel in `modules`.

    Two processes with equal digests run the same kernels. Tuning picks blocks, warps and stages by trying, and nearly
    equal candidates can win in turn. Returns None without any kernel. torch has no public interface for this: if another
    version stores the configurations differently, none are found and nothing else is affected.
    """
    chosen = sorted({*own_kernels, *(line for module in modules for line in _chosen(module))})
    return hashlib.sha256("\n".join(chosen).encode()).hexdigest()[:12] if chosen else None


def _chosen(module: Any) -> Iterator[str]:
    for name, kernel in vars(module).items():
        launchers = getattr(kernel, "launchers", None)
        for launcher in launchers if isinstance(launchers, list) else ():
            if (config := getattr(launcher, "config", None)) is not None:
                yield f"{name} {sorted(config.kwargs.items())} {config.num_warps} {config.num_stages}"
