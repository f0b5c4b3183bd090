"""The engine of transformers models in this process, eager or compiled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from summarybench.catalogue.models import Experiment
from summarybench.engines.chat import Chat
from summarybench.engines.compiled import CompiledDecoders
from summarybench.engines.engine import JsonScalar, OnFirstToken
from summarybench.engines.memory_model import MemoryPrediction, predict_memory
from summarybench.engines.static_cache import cache_tokens_for
from summarybench.engines.weights import Weights
from summarybench.machine.probes import EVERY_PROBE, OF_THE_GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBatch:
    """Prompts on the device: [batch, prompt tokens] each, padded on the left."""

    input_ids: Any
    attention_mask: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model on its device, ready to summarize.

    `weights_bytes` includes quantization scales. `weights_read_bytes` leaves out an untied input embedding, of which a
    decoding step reads only one row.
    """

    experiment: Experiment
    weights: Weights
    chat: Chat
    settings: Mapping[str, JsonScalar]
    load_seconds: float
    load_peak_memory_bytes: int
    weights_bytes: int
    weights_read_bytes: int
    cache_bytes_per_token: int
    predicted_memory_bytes: int
    model: Any
    decoders: CompiledDecoders | None = None

    @property
    def compile_seconds(self) -> float | None:
        return None if self.decoders is None else self.decoders.compile_seconds

    @property
    def tuned_kernels(self) -> str | None:
        return None if self.decoders is None else self.decoders.tuned_kernels

    @property
    def speed_probes(self) -> Sequence[str]:
        """The GPU's own probes for CUDA-graph decoding, which launches one graph per token; every probe for eager decoding."""
        return EVERY_PROBE if self.decoders is None else OF_THE_GPU

    def memory_for(self, sequence_tokens: int, batch_size: int) -> MemoryPrediction:
        """The memory predicted for a batch of sequences of this length.

        The length counts prompt and summary together.
        """
        tokens = sequence_tokens if self.decoders is None else cache_tokens_for(sequence_tokens)
        return predict_memory(self.chat.config, self.settings, tokens, batch_size, self.weights_bytes)

    def resize(self, batch_size: int) -> None:
        """Release a compiled decoder of another batch size.

        It would compute, and hold a cache, for its whole batch.
        """
        if self.decoders is not None:
            self.decoders.keep_only(batch_size)

    def as_experiment(self, experiment: Experiment, prediction: MemoryPrediction | None = None) -> LoadedModel:
        """The same model, to be measured as another experiment. Without a prediction, it needs as much memory as this one."""
        total_bytes = prediction.total_bytes if prediction else self.predicted_memory_bytes
        return replace(self, experiment=experiment, predicted_memory_bytes=total_bytes)

    def prepare(self, prompts: Sequence[Sequence[int]]) -> PreparedBatch:
        """Put the token ids of one or more prompts on the device as one batch."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        pad = self.model.generation_config.pad_token_id
        ids_of = [torch.tensor(prompt) for prompt in prompts]
        ids = pad_sequence(ids_of, batch_first=True, padding_value=pad, padding_side="left")
        mask = pad_sequence([torch.ones_like(each) for each in ids_of], batch_first=True, padding_side="left")
        device = self.model.device
        return PreparedBatch(input_ids=ids.to(device), attention_mask=mask.to(device))

    def generate(self, prepared: PreparedBatch, max_new_tokens: int, on_first_token: OnFirstToken) -> Any:
        """Generate greedily: [batch, prompt + generated tokens], on the device.

        Calls `on_first_token` once, when the first token of every sequence is chosen.
        """
        if self.decoders is not None:
            decoder = self.decoders.for_batch_size(len(prepared.input_ids))
            return decoder.generate(prepared.input_ids, prepared.attention_mask, max_new_tokens, on_first_token)
        return self.generate_bare(prepared, max_new_tokens, stopping_criteria=[_FirstToken(on_first_token)])

    def generate_bare(self, prepared: PreparedBatch, max_new_tokens: int, **options: Any) -> Any:
        """Generate greedily as a plain loop around transformers would.

        There is no first-token callback.
        """
        import torch

        with torch.inference_mode():
            return self.model.generate(
                prepared.input_ids, attention_mask=prepared.attention_mask, max_new_tokens=max_new_tokens, **options
            )

    def summary_with_logits(self, prompt: Sequence[int], max_new_tokens: int) -> tuple[list[int], Any]:
        """A greedy summary's token ids, and their logits.

        The logits are [tokens, vocabulary] in float32, on the CPU.
        """
        import torch

        prepared = self.prepare([prompt])
        output = self.generate_bare(prepared, max_new_tokens, output_logits=True, return_dict_in_generate=True)
        (tokens,) = self.generated_ids(output.sequences, prepared)
        return tokens, torch.cat(output.logits)[: len(tokens)].float().cpu()

    def forced_logits(self, prompt: Sequence[int], summary: Sequence[int]) -> Any:
        """The logits of each token of a given summary.

        They are [tokens, vocabulary] in float32, on the CPU.

        They are computed as in generation, one token at a time from the KV cache.
        """
        import torch

        prepared = self.prepare([prompt])
        forced = torch.tensor([summary], device=self.model.device)
        if self.decoders is not None:
            found = self.decoders.for_batch_size(1).logits(prepared.input_ids, prepared.attention_mask, forced)[0]
        else:
            found = self._eager_logits(prepared, forced)
        return found.float().cpu()

    def _eager_logits(self, prepared: PreparedBatch, forced: Any) -> Any:
        import torch
        from transformers import DynamicCache

        cache, fed, mask = DynamicCache(config=self.model.config), prepared.input_ids, prepared.attention_mask
        steps = []
        with torch.inference_mode():
            for number in range(forced.shape[1]):
                answer = self.model(fed, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1)
                steps.append(answer.logits[0, -1])
                fed = forced[:, number : number + 1]
                mask = torch.cat([mask, mask.new_ones(1, 1)], dim=1)
            return torch.stack(steps)

    def generated_ids(self, output: Any, prepared: PreparedBatch) -> list[list[int]]:
        """The generated token ids of each sequence up to and including its end token.

        What follows is padding.
        """
        ends = end_tokens_of(self.model)
        generated: list[list[int]] = output[:, prepared.input_ids.shape[1] :].tolist()
        return [_up_to_the_first(ends, row) for row in generated]

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self.chat.tokenizer.decode(token_ids, skip_special_tokens=True)).strip()

    def ends_by_itself(self, token_ids: Sequence[int]) -> bool:
        """Whether the last token is an end token, not just the last allowed."""
        return bool(token_ids) and token_ids[-1] in end_tokens_of(self.model)


class _FirstToken:
    """A stopping criterion that never stops.

    `generate` calls it after each token, without synchronizing the device.

    A streamer would also report the first token, but copies every token to the host.
    """

    def __init__(self, on_first_token: OnFirstToken) -> None:
        self._on_first_token = on_first_token
        self._never: Any = None

    def __call__(self, input_ids: Any, *_: Any, **__: Any) -> Any:
        if self._never is None:
            import torch

            self._never = input_ids.new_zeros(input_ids.shape[0], dtype=torch.bool)  # [batch]
            self._on_first_token()
        return self._never


def decode_greedily(model: Any, chat: Chat) -> None:
    """Replace the model's generation defaults by greedy decoding.

    A summary also ends with the token that ends an answer in the chat template. The pad token becomes one that has an
    embedding.
    """
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=model.generation_config.bos_token_id,
        eos_token_id=_with_end_of_template(end_tokens_of(model), chat.end_token),
        pad_token_id=pad_token_of(chat.tokenizer, model),
    )


def _with_end_of_template(ends: tuple[int | None, ...], end_of_template: int | None) -> int | list[int] | None:
    """The end tokens as a generation config states them."""
    known = [token for token in ends if token is not None]
    if end_of_template is not None and end_of_template not in known:
        known.append(end_of_template)
    return known if len(known) > 1 else next(iter(known), None)


def pad_token_of(tokenizer: Any, model: Any) -> int:
    """A pad token that has an embedding.

    It is the tokenizer's pad token, or else an end token, or else 0.

    An id outside the vocabulary triggers a device-side assertion, after which every call to the device fails.
    """
    known = range(model.get_input_embeddings().weight.shape[0])
    candidates = (tokenizer.pad_token_id, *end_tokens_of(model))
    return next((int(token) for token in candidates if token is not None and token in known), 0)


def end_tokens_of(model: Any) -> tuple[int | None, ...]:
    """The token ids that end a summary; (None,) for a model without any."""
    ends = model.generation_config.eos_token_id
    return tuple(ends) if isinstance(ends, list) else (ends,)


def _up_to_the_first(ends: Collection[int | None], row: list[int]) -> list[int]:
    return next((row[: index + 1] for index, token in enumerate(row) if token in ends), row)
