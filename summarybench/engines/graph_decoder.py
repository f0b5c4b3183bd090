"""CUDA-graph decoding: one replay per token, no launch overhead.

transformers' `generate` launches hundreds of kernels per token from Python, which on a fast GPU takes several times longer
than the kernels run. Here inductor compiles a decoding step (the model, the choice of the token, the bookkeeping), and
the step is captured as a CUDA graph. The host replays the graph and learns one step late whether all sequences have ended.
Without inductor the step is captured as transformers runs it: its kernels are the same as before, but nothing launches
them one by one.

Three pieces are compiled: what precedes the layers, one layer, and what follows the layers. All layers run the same
compiled code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from summarybench.engines.cuda_graph import captured
from summarybench.engines.engine import OnFirstToken
from summarybench.engines.inductor import compile_with_inductor
from summarybench.engines.sampling import draw_noise, sample
from summarybench.engines.static_cache import LayerKVCache, StaticKVCache
from summarybench.engines.step_loop import StepLoop

PROMPT_MULTIPLE = 128
"""Prefill is captured for each multiple of this many tokens. A prompt is padded to the next multiple."""


def prompt_lengths_of(cache_tokens: int) -> list[int]:
    """The prompt lengths, in tokens, for which prefill is captured.

    The longest is the cache's own length.
    """
    return [*range(PROMPT_MULTIPLE, cache_tokens, PROMPT_MULTIPLE), cache_tokens]


class CompiledDecoder:
    """Generates with one prefill, then one graph replay per token.

    The model's attention must be `attend`.

    It holds up to `batch_size` sequences of at most `tokens` tokens each, prompt and summary together. A sequence ends with one
    of `end_tokens` and is then filled with `pad_token`. Construction compiles and captures, which can take a minute the
    first time; on a CPU nothing is captured. With `top_k` the decoder can also draw tokens at random from so many of the
    most likely ones; without it decoding is greedy. `compiled` compiles a piece, by default with inductor. With `uncompiled`
    no kernel of this project is used either.

    The model must be a Llama or have the same structure (Mistral), because a step calls its parts one by one.
    """

    def __init__(
        self,
        model: Any,
        *,
        batch_size: int,
        tokens: int,
        end_tokens: Sequence[int],
        pad_token: int,
        top_k: int | None = None,
        compiled: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
    ) -> None:
        import torch

        device = model.device
        on_gpu = device.type == "cuda"
        self.batch_size = batch_size
        self._model = model
        self._pad_token = pad_token
        self._cache = StaticKVCache(model.config, batch_size, tokens, dtype=model.dtype, device=device)
        self._ends = torch.tensor(end_tokens, device=device)
        self._token = torch.zeros((batch_size, 1), dtype=torch.long, device=device)
        self._position = torch.zeros((batch_size, 1), dtype=torch.long, device=device)
        self._mask = torch.zeros((batch_size, 1, 1, tokens), dtype=torch.bool, device=device)
        self._summaries = torch.zeros((batch_size, tokens), dtype=torch.long, device=device)
        self._count = torch.zeros(1, dtype=torch.long, device=device)
        self._has_ended = torch.zeros((batch_size, 1), dtype=torch.bool, device=device)
        self._all_ended = torch.zeros(1, dtype=torch.bool, device=device)
        self._steps = StepLoop(self._all_ended)
        self._noise = torch.ones((batch_size, top_k), device=device) if top_k else None
        self._temperature = torch.ones(1, device=device)
        self._is_random = torch.zeros(1, device=device)
        self._prompt = torch.zeros((1, tokens), dtype=torch.long, device=device)
        self._positions = torch.arange(tokens, device=device)[None]
        self._last = torch.zeros(1, dtype=torch.long, device=device)
        # A model that is sampled from may be in training, and its weights must not be rearranged.
        has_row_step = batch_size == 1 and top_k is None and compiled is not uncompiled
        self._row_step = _row_step(model, self._cache) if has_row_step else None
        own_products = {"has_own_products": True, "overlaps": self._row_step.overlaps} if self._row_step else {}
        compiled = compiled or compile_with_inductor(batch_size, **own_products)
        self.own_kernels = self._row_step.kernels if self._row_step else []
        self._enter = compiled(self._before_layers)
        self._through = compiled(self._row_step.through_layer if self._row_step else _through_layer)
        self._leave = compiled(self._after_layers)
        prompt_passes = {length: partial(self._prefill_captured, length) for length in prompt_lengths_of(tokens)}
        with torch.no_grad():
            self._prefill_captured(
                2
            )  # bitsandbytes rearranges its weights in the first pass, which must not be compiled
            self._next = captured(self._step) if on_gpu else self._step
            pool = torch.cuda.graph_pool_handle() if on_gpu else None  # shared, since they never run at once
            longest_first = sorted(prompt_passes.items(), reverse=True) if batch_size == 1 else []
            self._prompt_passes = {length: captured(each, pool) if on_gpu else each for length, each in longest_first}

    def generate(
        self,
        input_ids: Any,
        attention_mask: Any,
        max_new_tokens: int,
        on_first_token: OnFirstToken,
        *,
        temperature: float | None = None,
    ) -> Any:
        """Generate: [batch, prompt + generated tokens].

        A sequence that ends before the others is padded.

        Greedy without a `temperature`; with one, tokens are drawn by torch's random generator. `input_ids` and
        `attention_mask` are [batch, prompt tokens], padded on the left. A batch smaller than the decoder's batch size is
        filled up with copies of its first sequence and takes as long as a full one. Raises ValueError for a temperature
        without `top_k`.
        """
        import torch

        if temperature is not None and self._noise is None:
            raise ValueError("this decoder is greedy: to draw tokens it has to be built with top_k")
        given = len(input_ids)
        with torch.no_grad():
            self._temperature.fill_(1.0 if temperature is None else temperature)
            self._is_random.fill_(float(temperature is not None))
            self._prefill(*(_filled_up(each, self.batch_size) for each in (input_ids, attention_mask)))
            generated = self._steps.run(self._next, max_new_tokens, on_first_token)
            return torch.cat([input_ids, self._summaries[:given, :generated]], dim=1)

    def logits(self, input_ids: Any, attention_mask: Any, summary: Any) -> Any:
        """The logits of each token of `summary` [batch, tokens].

        Returns [batch, tokens, vocabulary].

        They are computed as in generation, each token from the ones before it.
        """
        import torch

        given = len(input_ids)
        ids, mask, forced = (_filled_up(each, self.batch_size) for each in (input_ids, attention_mask, summary))
        with torch.no_grad():
            steps = [self._prefill(ids, mask).clone()]
            for number in range(forced.shape[1] - 1):
                self._token.copy_(forced[:, number : number + 1])
                steps.append(self._next().clone())
            return torch.stack(steps, dim=1)[:given]

    def _prefill(self, input_ids: Any, attention_mask: Any) -> Any:
        """Process the prompts and choose the first token.

        Returns its logits [batch, vocabulary].
        """
        tokens = input_ids.shape[1]
        attended = attention_mask.bool()
        logits = self._prefill_one(input_ids) if self._prompt_passes else self._prefill_batch(input_ids, attended)
        self._cache.slot.fill_(tokens)
        self._position.copy_(attention_mask.sum(-1, keepdim=True))
        self._mask.zero_()
        self._mask[:, 0, 0, :tokens] = attended
        self._count.zero_()
        self._has_ended.zero_()
        draw_noise(self._noise)
        self._choose_token(logits)
        return logits

    def _prefill_one(self, input_ids: Any) -> Any:
        """Pad a prompt on the right to a captured length.

        Attention is causal, so the padding has no effect on it.
        """
        tokens = input_ids.shape[1]
        self._prompt[:, :tokens] = input_ids
        self._last.fill_(tokens - 1)
        return self._prompt_passes[min(length for length in self._prompt_passes if length >= tokens)]()

    def _prefill_captured(self, length: int) -> Any:
        hidden = self._model.model(
            input_ids=self._prompt[:, :length],
            position_ids=self._positions[:, :length],
            past_key_values=self._cache,
        ).last_hidden_state
        return self._model.lm_head(hidden.index_select(1, self._last)[:, 0])

    def _prefill_batch(self, input_ids: Any, attended: Any) -> Any:
        hidden = self._model.model(
            input_ids=input_ids,
            attention_mask=_causal_mask(attended),
            position_ids=(attended.long().cumsum(-1) - 1).clamp(min=0),
            past_key_values=self._cache,
        ).last_hidden_state[:, -1]
        return self._model.lm_head(hidden)

    def _step(self) -> Any:
        """Generate one more token in each sequence.

        Returns its logits [batch, vocabulary].
        """
        hidden, rotation = self._enter()
        if self._row_step:
            for row_layer in self._row_step.layers:
                hidden = self._through(row_layer, hidden, rotation)
        else:
            for layer, keys in zip(self._model.model.layers, self._cache.layers, strict=True):
                hidden = self._through(layer, hidden, self._mask, rotation, keys)
        draw_noise(self._noise)
        return self._leave(hidden)

    def _before_layers(self) -> tuple[Any, Any]:
        """The hidden state, and cosine and sine of the rotary embedding.

        At batch size 1 the latter are one tensor [2, width].
        """
        self._mask.index_fill_(3, self._cache.slot, True)
        hidden = self._model.model.embed_tokens(self._token)
        rotation = self._model.model.rotary_emb(hidden, position_ids=self._position)
        return hidden, self._row_step.stacked(rotation) if self._row_step else rotation

    def _after_layers(self, hidden: Any) -> Any:
        head = self._row_step.logits if self._row_step else self._model.lm_head
        logits = head(self._model.model.norm(hidden)[:, -1])
        self._cache.slot.add_(1)
        self._position.add_(1)
        self._choose_token(logits)
        return logits

    def _choose_token(self, logits: Any) -> None:
        """Choose the next token of each sequence and store it.

        A sequence that has ended gets the pad token.
        """
        sampled = sample(logits, self._noise, self._temperature, self._is_random)
        chosen = sampled.masked_fill(self._has_ended, self._pad_token)
        self._token.copy_(chosen)
        self._summaries.index_copy_(1, self._count, chosen)
        self._count.add_(1)
        self._has_ended.logical_or_((chosen == self._ends).any(dim=-1, keepdim=True))
        self._all_ended.copy_(self._has_ended.all().view(1))


def _row_step(model: Any, cache: StaticKVCache) -> Any:
    """The decoding step of one sequence with Triton kernels.

    None for a model that they do not support.
    """
    from summarybench.engines.row_step import row_step

    return row_step(model, cache)


def uncompiled(piece: Callable[..., Any]) -> Callable[..., Any]:
    """The piece as it is, for GPUs that inductor's kernels are not used on."""
    return piece


def _through_layer(layer: Any, hidden: Any, mask: Any, rotation: Any, keys: LayerKVCache) -> Any:
    return layer(hidden, attention_mask=mask, position_embeddings=rotation, past_key_values=keys)


def _filled_up(tensor: Any, batch_size: int) -> Any:
    import torch

    missing = batch_size - len(tensor)
    return torch.cat([tensor, tensor[:1].expand(missing, -1)]) if missing else tensor


def _causal_mask(attended: Any) -> Any:
    """A mask [batch, 1, tokens, tokens] from [batch, tokens].

    Padding attends to itself: without anything to attend to, its softmax would be NaN.
    """
    import torch

    tokens = attended.shape[1]
    causal = torch.ones((tokens, tokens), dtype=torch.bool, device=attended.device).tril()
    itself = torch.eye(tokens, dtype=torch.bool, device=attended.device)
    return (causal & attended[:, None, None, :]) | itself
