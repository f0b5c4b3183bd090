"""Scorers: models that read a summary beside its document or its reference, and say how good it is.

NLI: for each sentence of the summary, the highest probability that a sentence of the document entails it; the mean over the
summary's sentences (SummaC-ZS, Laban et al., TACL 2022). BERTScore: each token is matched with the most similar token of the
other text, by the cosine of the encoder's last hidden states (Zhang et al., ICLR 2020), without idf weights and rescaling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

from summarybench.documents.words import sentences
from summarybench.engines.pretrained import load_classifier, load_encoder, load_tokenizer
from summarybench.engines.scorer_models import ScorerKind, ScorerSource
from summarybench.machine.device import Device

MOST_TOKENS = 512
"""The most tokens of one input, as most encoders were trained with. Longer texts lose their end."""
PAIRS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredText:
    """A summary, with the document that it is of and the reference summary; that is empty where there is none."""

    document: str
    summary: str
    reference: str


class Scorer(Protocol):
    """Scores summaries. Each kind of scorer has scores of its own; see `ScorerKind.figures`."""

    def score(self, text: ScoredText) -> Mapping[str, float]:
        """The scores of one summary by name, from 0 to 1; below 0 only for a BERTScore of unlike texts."""


@contextmanager
def opened_scorer(source: ScorerSource, device: Device) -> Iterator[Scorer]:
    """Load a scorer on the device, and release its memory at the end.

    Raises UnavailableError and CheckpointError for a checkpoint that cannot be loaded.
    """
    tokenizer = load_tokenizer(source.folder)
    if source.kind is ScorerKind.NLI and source.entailment is not None:
        scorer: Scorer = NliScorer(_placed(load_classifier(source.folder), device), tokenizer, source.entailment)
    else:
        scorer = BertScorer(_placed(load_encoder(source.folder), device), tokenizer)
    try:
        yield scorer
    finally:
        del scorer
        device.release_memory()


def _placed(model: Any, device: Device) -> Any:
    return model.to(device.torch_name).eval()


def _most_tokens(model: Any, tokenizer: Any) -> int:
    """RoBERTa's positions begin after its pad token: two fewer than the configuration states."""
    positions = getattr(model.config, "max_position_embeddings", MOST_TOKENS)
    return int(min(MOST_TOKENS, tokenizer.model_max_length, positions - 2))


class NliScorer:
    """`entailment` is the number of the label."""

    def __init__(self, model: Any, tokenizer: Any, entailment: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._entailment = entailment
        self._most_tokens = _most_tokens(model, tokenizer)

    def score(self, text: ScoredText) -> Mapping[str, float]:
        """`entailment`. A summary without a sentence is entailed by nothing: 0."""
        premises, claims = sentences(text.document), sentences(text.summary)
        if not premises or not claims:
            return {"entailment": 0.0}
        pairs = [(premise, claim) for claim in claims for premise in premises]
        found = self._probabilities(pairs)
        by_claim = [found[start : start + len(premises)] for start in range(0, len(found), len(premises))]
        return {"entailment": fmean(max(each) for each in by_claim)}

    def _probabilities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The probability that the first text of each pair entails the second. Of a pair that is too long, the longer text is cut."""
        import torch

        found: list[float] = []
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            premises, claims = zip(*pairs[start : start + PAIRS_AT_ONCE], strict=True)
            inputs = self._tokenizer(
                list(premises),
                list(claims),
                truncation="longest_first",
                max_length=self._most_tokens,
                padding=True,
                return_tensors="pt",
            ).to(self._model.device)
            with torch.inference_mode():
                logits = self._model(**inputs).logits  # [pairs, labels]
            found += logits.float().softmax(dim=-1)[:, self._entailment].tolist()
        return found


class BertScorer:
    """Scores against the reference."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._most_tokens = _most_tokens(model, tokenizer)

    def score(self, text: ScoredText) -> Mapping[str, float]:
        """`precision`, `recall` and `f1`. All are 0 where a text has no token."""
        summary, reference = self._states(text.summary), self._states(text.reference)  # [tokens, hidden]
        if not len(summary) or not len(reference):
            return {"precision": 0.0, "recall": 0.0, "f1": 0.0}
        similar = summary @ reference.T  # [summary tokens, reference tokens]
        precision = float(similar.max(dim=1).values.mean())
        recall = float(similar.max(dim=0).values.mean())
        total = precision + recall
        return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / total if total > 0 else 0.0}

    def _states(self, text: str) -> Any:
        """The last hidden states of the text's own tokens, each of length 1. Special tokens are left out."""
        import torch

        inputs = self._tokenizer(
            text,
            truncation=True,
            max_length=self._most_tokens,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        is_text = inputs.pop("special_tokens_mask")[0] == 0
        with torch.inference_mode():
            states = self._model(**inputs.to(self._model.device)).last_hidden_state[0].float().cpu()
        return torch.nn.functional.normalize(states[is_text], dim=-1)
