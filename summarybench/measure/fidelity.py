"""Does a compiled loader compute what its eager counterpart computes, and how far is each format from float32?

Both are compared with float32, and with each other. An eager loader is compared with float32 alone.

Teacher-forced over float32's greedy summaries, so that every loader predicts the same tokens: how far are its logits from
float32's? Free-running: how many summaries are equal to the other side's, token by token? Half precision on a GPU need not
repeat itself, so the other side is compared with a second run of its own too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from summarybench.analysis.quality import DEGENERATE
from summarybench.analysis.quality_change import QualityComparison, documents_needed, judge, mcnemar, paired_difference
from summarybench.analysis.rouge import rouge_f1
from summarybench.catalogue.models import REFERENCE_LOADER, Experiment
from summarybench.core.numbers import significant
from summarybench.core.outcomes import JudgementError, first_line
from summarybench.documents.document import Document
from summarybench.documents.languages import ENGLISH, Language
from summarybench.documents.prompts import Prompt
from summarybench.engines.engine import LogitsEngine, TextGenerator, note_nothing
from summarybench.engines.loaded_model import LoadedModel
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS

MOST_TIMES_THE_EAGER_ERROR = 1.1

Tokens = Sequence[int]
Result = TypeVar("Result")


class Lend(Protocol):
    """Loads an experiment's model for one call.

    The device holds no other model, and its memory is released afterwards.
    """

    def __call__(self, experiment: Experiment, use: Callable[[LoadedModel], Result]) -> Result: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Float32's greedy summaries.

    Their logits do not fit in memory: they are files in `folder`.
    """

    summaries: tuple[tuple[int, ...], ...]
    folder: Path

    @property
    def tokens(self) -> int:
        return sum(map(len, self.summaries))

    def logits(self, index: int) -> Any:
        """The logits of one summary in float32: [tokens, vocabulary]."""
        import numpy
        import torch

        return torch.from_numpy(numpy.load(self.folder / f"{index}.npy", allow_pickle=False))


def make_reference(model: LogitsEngine, prompts: Sequence[Prompt], max_new_tokens: int, folder: Path) -> Reference:
    """Generate the greedy summaries and store their logits.

    Raises JudgementError where the disk has no room for them.
    """
    import numpy

    summaries: list[tuple[int, ...]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, prompt in enumerate(prompts):
            summary, logits = model.summary_with_logits(prompt.token_ids, max_new_tokens)
            numpy.save(folder / f"{index}.npy", logits.numpy())
            summaries.append(tuple(summary))
    except OSError as error:
        raise JudgementError(
            f"float32's logits cannot be stored in {folder.parent} ({first_line(error)}): make room there, or set TMPDIR"
        ) from error
    return Reference(summaries=tuple(summaries), folder=folder)


def summaries_of(model: TextGenerator, prompts: Sequence[Prompt], max_new_tokens: int) -> list[list[int]]:
    """The tokens of each prompt's greedy summary, including the end token.

    Prompts are summarized one at a time.
    """
    found: list[list[int]] = []
    for prompt in prompts:
        prepared = model.prepare([prompt.token_ids])
        found += model.generated_ids(model.generate(prepared, max_new_tokens, note_nothing), prepared)
    return found


def logit_error(model: LogitsEngine, prompts: Sequence[Prompt], reference: Reference) -> float:
    """‖logits − reference‖ ÷ ‖reference‖ (L2) over all tokens and the vocabulary.

    Raises JudgementError where a logit is not a finite number.
    """
    squared_error = squared_reference = 0.0
    for index, (prompt, summary) in enumerate(zip(prompts, reference.summaries, strict=True)):
        expected = reference.logits(index).double()
        squared_error += float((model.forced_logits(prompt.token_ids, summary) - expected).square().sum())
        squared_reference += float(expected.square().sum())
    error = math.sqrt(squared_error / squared_reference)
    if not math.isfinite(error):
        raise JudgementError("the logits are not finite: the range of this dtype is too small for this model")
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two sides agree on the summaries of the same documents.

    `equal_tokens` counts the tokens before the first difference in each pair. `tokens` counts the tokens of the longer
    summary of each pair.
    """

    documents: int
    equal_summaries: int
    equal_tokens: int
    tokens: int


def agreement_of(now: Sequence[Tokens], before: Sequence[Tokens]) -> Agreement:
    """Compare summaries of the same documents in the same order."""
    pairs = [(list(a), list(b)) for a, b in zip(now, before, strict=True)]
    return Agreement(
        documents=len(pairs),
        equal_summaries=sum(a == b for a, b in pairs),
        equal_tokens=sum(equal_from_the_start(a, b) for a, b in pairs),
        tokens=sum(max(len(a), len(b)) for a, b in pairs),
    )


def equal_from_the_start(a: Tokens, b: Tokens) -> int:
    alike = (index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(alike, min(len(a), len(b)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerSide:
    """The results of the eager counterpart for the same prompts, or of float32 for an eager loader.

    `again` is its agreement with a second pass of its own.
    """

    loader: str
    logit_error: float
    summaries: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    again: Agreement


def eager_side(
    model: LogitsEngine, loader: str, prompts: Sequence[Prompt], max_new_tokens: int, reference: Reference
) -> EagerSide:
    """Summarize the prompts twice with the eager counterpart, and compute its logit error.

    Raises as `logit_error`.
    """
    first, second = (summaries_of(model, prompts, max_new_tokens) for _ in range(2))
    return EagerSide(
        loader=loader,
        logit_error=logit_error(model, prompts, reference),
        summaries=tuple(map(tuple, first)),
        texts=tuple(model.decode(summary) for summary in first),
        again=agreement_of(second, first),
    )


def reference_side(
    model: TextGenerator, prompts: Sequence[Prompt], max_new_tokens: int, reference: Reference
) -> EagerSide:
    """Float32's own results, to compare an eager loader with. Its error is 0, and it summarizes the prompts once more."""
    again = summaries_of(model, prompts, max_new_tokens)
    return EagerSide(
        loader=REFERENCE_LOADER,
        logit_error=0.0,
        summaries=reference.summaries,
        texts=tuple(model.decode(summary) for summary in reference.summaries),
        again=agreement_of(again, reference.summaries),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """A compiled loader beside its eager counterpart, or an eager loader beside float32.

    `quality` is None for too few documents to compare.
    """

    eager: EagerSide
    logit_error: float
    forced_tokens: int
    agreement: Agreement
    quality: QualityComparison | None

    @property
    def is_beside_counterpart(self) -> bool:
        """Whether the other side computes the same, so that a difference is a fault and not the format's own."""
        return self.eager.loader != REFERENCE_LOADER

    @property
    def ratio(self) -> float | None:
        """The logit error ÷ the counterpart's; None where the counterpart's is zero."""
        return self.logit_error / self.eager.logit_error if self.eager.logit_error else None

    def as_extra_info(self) -> dict[str, Any]:
        """The key `fidelity` of the run file."""
        return {
            "reference_loader": REFERENCE_LOADER,
            "eager_loader": self.eager.loader,
            "logit_error": self.logit_error,
            "eager_logit_error": self.eager.logit_error,
            "ratio": self.ratio,
            "forced_tokens": self.forced_tokens,
            "agreement": asdict(self.agreement),
            "eager_agreement": asdict(self.eager.again),
            "quality_change": self.quality.as_extra_info() if self.quality else None,
        }


class RecordingModel:
    """A model that keeps the tokens it generates.

    So the summaries that are compared with the counterpart's are the ones that were timed.
    """

    def __init__(self, model: TextGenerator) -> None:
        self.summaries: list[list[int]] = []
        self._model = model
        self.prepare = model.prepare
        self.generate: Callable[..., Any] = model.generate
        self.decode = model.decode
        self.ends_by_itself = model.ends_by_itself

    def generated_ids(self, output: Any, prepared: Any) -> list[list[int]]:
        found = self._model.generated_ids(output, prepared)
        self.summaries += found
        return found


def quality_beside(
    texts: Sequence[str], eager: EagerSide, documents: Sequence[Document], language: Language = ENGLISH
) -> QualityComparison | None:
    """Compare ROUGE-1 and degenerate outputs with the counterpart's, over the documents that have a reference.

    The documents are in the same order as the texts. None if too few have one.
    """
    sides = [zip(side, documents, strict=True) for side in (texts, eager.texts)]
    now, before = (
        [
            rouge_f1(text, document.reference, language=language)["rouge1"]
            for text, document in side
            if document.reference
        ]
        for side in sides
    )
    if len(now) < MINIMUM_COMMON_DOCUMENTS:
        return None
    difference = paired_difference(now, before)
    return QualityComparison(
        against=f"{eager.loader} of this session",
        verdict=judge(difference),
        difference=difference,
        documents_needed=documents_needed(difference),
        changed_summaries=sum(a != b for a, b in zip(texts, eager.texts, strict=True)),
        mcnemar={
            kind: mcnemar(
                *(_ids_with(partial(has_it, language=language), side, documents) for side in (texts, eager.texts))
            )
            for kind, has_it in DEGENERATE.items()
        },
    )


def _ids_with(has_it: Callable[[str], bool], texts: Sequence[str], documents: Sequence[Document]) -> frozenset[str]:
    return frozenset(document.id for text, document in zip(texts, documents, strict=True) if has_it(text))


def assert_faithful(fidelity: Fidelity) -> None:
    """Check that a compiled loader's logit error is at most 1.1 times its eager counterpart's.

    Raises JudgementError where it is larger. A loader without a counterpart has the error of its format, which is not judged.
    """
    if not fidelity.is_beside_counterpart:
        return
    most = MOST_TIMES_THE_EAGER_ERROR * fidelity.eager.logit_error
    if fidelity.logit_error > most:
        raise JudgementError(
            f"logit error {significant(fidelity.logit_error, 3)} of float32's logits, and at most {significant(most, 3)} is allowed: "
            f"{MOST_TIMES_THE_EAGER_ERROR} times that of {fidelity.eager.loader}, which compiles nothing"
        )
