"""gpt-fast on random weights of Llama-2-7B's shape: generated tokens per second, for docs/results/throughput.md.

    git clone https://github.com/pytorch-labs/gpt-fast
    python -m tests.gpt_fast --folder gpt-fast --mode bf16 --prompt-tokens 512 512 512 512 512 512 512 512

Prompts are random tokens of the given lengths. Each has 100 new tokens, and only the step of decoding is compiled, as in
gpt-fast's own command. Without a GPU a model of two layers shows that the script works.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

NEW_TOKENS = 100
INT4_GROUP = 32
STANDARD_DEVIATION = 0.02


def random_model(gpt_fast: Any, mode: str, device: str) -> Any:
    """gpt-fast's own model and layers, whose parameters and buffers are random."""
    import torch

    torch.manual_seed(0)
    with torch.device("meta"):
        shape = (
            {"n_layer": 2, "n_head": 4, "dim": 1024} if device == "cpu" else {"n_layer": 32, "n_head": 32, "dim": 4096}
        )
        model = gpt_fast.Transformer(sys.modules["model"].ModelArgs(**shape))
        if mode != "bf16":
            quantize = __import__("quantize")
            model = (
                quantize.WeightOnlyInt8QuantHandler(model)
                if mode == "int8"
                else quantize.WeightOnlyInt4QuantHandler(model, INT4_GROUP)
            ).convert_for_runtime()
    model = model.to_empty(device=device).eval()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype == torch.int8:
            tensor.random_(-127, 127)
        elif tensor.dtype == torch.int32:
            tensor.random_(-(2**31), 2**31 - 1)
        else:
            tensor.data = tensor.data.normal_(0, STANDARD_DEVIATION).to(torch.bfloat16)
    return model


def seconds_of(gpt_fast: Any, model: Any, prompt_tokens: int, device: str) -> float:
    """Seconds of a summary, from the prompt to the last token."""
    import torch

    prompt = torch.randint(0, 1024, (prompt_tokens,), device=device)
    gpt_fast.device_sync(device)
    start = time.perf_counter()
    gpt_fast.generate(model, prompt, NEW_TOKENS, 1, interactive=False, draft_model=None, temperature=0.8, top_k=200)
    gpt_fast.device_sync(device)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="a clone of gpt-fast")
    parser.add_argument("--mode", choices=("bf16", "int8", "int4"), default="bf16")
    parser.add_argument("--prompt-tokens", type=int, nargs="+", required=True, metavar="N")
    parser.add_argument("--passes", type=int, default=3, help="over all prompts (default: %(default)s)")
    options = parser.parse_args(arguments)

    import torch

    sys.path.insert(0, str(options.folder))
    # It wants SentencePiece and tiktoken, which random tokens do not need.
    sys.modules["tokenizer"] = ModuleType("tokenizer")
    sys.modules["tokenizer"].get_tokenizer = None  # type: ignore[attr-defined]
    gpt_fast: Any = __import__("generate")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = random_model(gpt_fast, options.mode, device)
    with torch.device(device):
        model.setup_caches(max_batch_size=1, max_seq_length=max(options.prompt_tokens) + NEW_TOKENS)
    gpt_fast.decode_one_token = torch.compile(gpt_fast.decode_one_token, mode="reduce-overhead", fullgraph=True)
    seconds_of(gpt_fast, model, options.prompt_tokens[0], device)
    for _ in range(options.passes):
        seconds = sum(seconds_of(gpt_fast, model, length, device) for length in options.prompt_tokens)
        sys.stdout.write(f"{options.mode}: {NEW_TOKENS * len(options.prompt_tokens) / seconds:.1f} tok/s\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
