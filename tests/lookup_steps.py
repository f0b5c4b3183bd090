"""What does a step of prompt lookup cost at each batch size, and from which batch size does it lose?

    python -m tests.lookup_steps --model llama2-7b-chat --tokens-per-step 1.8
    python -m tests.lookup_steps --model smollm2-135m-instruct --draft-tokens 3 7 --batch-sizes 1 8

Prints the milliseconds of a plain step and of one with drafts. With --tokens-per-step, which `pytest benchmarks -m lookup`
reports for a model and its documents, it also prints the batch size from which prompt lookup loses.

Weights are random and of the model's shape, in float16 on a GPU and float32 on a CPU. Both kinds of step are captured on a GPU
and are the same code: without drafts a document has one row, with K drafts K + 1. Their ratio is the tokens per step that
prompt lookup must give at that batch size.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

STEPS, WARM_UP_STEPS = 40, 3


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Seconds of one step with `documents` sequences, without drafts and with `draft_tokens`."""

    documents: int
    draft_tokens: int
    plain_seconds: float
    seconds: float

    @property
    def ratio(self) -> float:
        """The tokens per step from which on prompt lookup gains."""
        return self.seconds / self.plain_seconds


def random_model(name: str, device: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    from summarybench.catalogue.models import MODELS
    from summarybench.engines.synthetic import model_config

    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16 if device == "cuda" else torch.float32)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(model_config(MODELS[name]), trust_remote_code=False).eval()


def seconds_of_a_step(
    model: Any, attend: Any, documents: int, draft_tokens: int, prompt_tokens: int, *, is_compiled: bool
) -> float:
    """The mean of STEPS steps, after prefill and WARM_UP_STEPS steps."""
    import torch

    from summarybench.engines.inductor import compile_for_any_length, compile_with_inductor
    from summarybench.engines.lookup_decoder import LookupDecoder
    from summarybench.engines.page_model import PageModel

    rows = draft_tokens + 1
    new_tokens = (STEPS + WARM_UP_STEPS + 3) * rows  # so that no document ends, however many drafts are kept
    tokens = prompt_tokens + new_tokens
    compiled = compile_with_inductor(documents * rows) if is_compiled else None
    decoder = LookupDecoder(
        PageModel(
            model,
            LookupDecoder.pages_for(documents, draft_tokens, tokens),
            attend,
            compiled=compiled,
            compiled_for_any=compile_for_any_length() if is_compiled else None,
        ),
        documents=documents,
        draft_tokens=draft_tokens,
        tokens=tokens,
        end_tokens=[],
        compiled=compiled,
    )
    draw = random.Random(0)
    prompts = [[draw.randrange(model.config.vocab_size) for _ in range(prompt_tokens)] for _ in range(documents)]
    state, step = decoder._state, decoder._step
    with torch.inference_mode():
        state.begin(prompts, decoder._model.prefill(prompts, state.pages_of), new_tokens)
        for _ in range(WARM_UP_STEPS):
            step()
        _synchronize()
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        _synchronize()
        seconds = time.perf_counter() - start
        assert bool(state.is_running.all()), "a document ended while it was timed"
    return seconds / STEPS


def _synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def step_costs(
    model: Any,
    attend: Any,
    *,
    batch_sizes: Sequence[int],
    draft_tokens: Sequence[int],
    prompt_tokens: int,
    is_compiled: bool,
) -> Iterator[StepCost]:
    """One row for each batch size and number of drafts."""
    for documents in batch_sizes:
        plain = seconds_of_a_step(model, attend, documents, 0, prompt_tokens, is_compiled=is_compiled)
        for drafts in draft_tokens:
            seconds = seconds_of_a_step(model, attend, documents, drafts, prompt_tokens, is_compiled=is_compiled)
            yield StepCost(documents=documents, draft_tokens=drafts, plain_seconds=plain, seconds=seconds)


def where_it_loses(costs: Sequence[StepCost], tokens_per_step: float) -> Iterator[str]:
    """One line for each number of drafts: the smallest measured batch size at which, and above which, a step costs too much."""
    for drafts in sorted({each.draft_tokens for each in costs}):
        batch_size = None
        for cost in sorted((each for each in costs if each.draft_tokens == drafts), key=lambda each: -each.documents):
            if cost.ratio < tokens_per_step:
                break
            batch_size = cost.documents
        largest = max(each.documents for each in costs)
        found = f"gains up to batch size {largest}" if batch_size is None else f"loses from batch size {batch_size} on"
        yield f"{tokens_per_step:g} tokens per step, {drafts} drafts: prompt lookup {found}"


def main() -> int:
    import torch

    from summarybench.engines.varlen_attention import torch_varlen_attn
    from tests.engines.test_varlen_attention import attend_document_by_document

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama2-7b-chat")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--draft-tokens", type=int, nargs="+", default=[3, 7])
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--tokens-per-step", type=float)
    options = parser.parse_args()
    is_on_gpu = torch.cuda.is_available()
    model = random_model(options.model, "cuda" if is_on_gpu else "cpu")
    sys.stdout.write(f"{options.model}, {model.dtype}, {options.prompt_tokens} prompt tokens, {STEPS} steps\n")
    sys.stdout.write("batch size  drafts  plain step ms  step ms  tokens per step needed\n")
    costs = []
    for cost in step_costs(
        model,
        torch_varlen_attn() if is_on_gpu else attend_document_by_document,
        batch_sizes=options.batch_sizes,
        draft_tokens=options.draft_tokens,
        prompt_tokens=options.prompt_tokens,
        is_compiled=is_on_gpu,
    ):
        milliseconds = f"{1000 * cost.plain_seconds:13.2f}  {1000 * cost.seconds:7.2f}"
        sys.stdout.write(f"{cost.documents:10}  {cost.draft_tokens:6}  {milliseconds}  {cost.ratio:22.2f}\n")
        sys.stdout.flush()
        costs.append(cost)
    if options.tokens_per_step:
        sys.stdout.writelines(f"{line}\n" for line in where_it_loses(costs, options.tokens_per_step))
    return 0


if __name__ == "__main__":
    sys.exit(main())
