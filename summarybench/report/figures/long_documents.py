"""Documents that did not fit in one prompt: what was left unread, and what reading them cost."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Figure, Format, Group, Part
from summarybench.report.figures.values import COUNT, HUNDREDTHS, TENTHS, THOUSANDTHS
from summarybench.runs.extra_info import LongDocuments

WHOLE = Format(spec=".0f")


def _facts(experiment: ExperimentView) -> LongDocuments | None:
    """None where all documents fitted."""
    facts = experiment.info.get("long_documents")
    return facts if facts and _places(facts) else None


def _places(facts: LongDocuments) -> list[int]:
    """The places of the documents that did not fit."""
    pairs = zip(facts["unread_tokens"], facts["earlier_calls"], strict=True)
    return [place for place, (unread, calls) in enumerate(pairs) if unread or calls]


def _long(experiment: ExperimentView) -> Part | None:
    facts = _facts(experiment)
    return None if facts is None else Part(len(_places(facts)), len(facts["unread_tokens"]))


def _unread(experiment: ExperimentView) -> Part | None:
    facts = _facts(experiment)
    if facts is None:
        return None
    places = _places(facts)
    unread = sum(facts["unread_tokens"])
    return Part(unread, unread + sum(experiment.info["document_tokens"][place] for place in places))


def _calls(experiment: ExperimentView) -> float | None:
    facts = _facts(experiment)
    return None if facts is None else 1 + fmean(facts["earlier_calls"][place] for place in _places(facts))


def _tokens(experiment: ExperimentView, of_last: Sequence[int], earlier: Sequence[int]) -> float | None:
    facts = _facts(experiment)
    return None if facts is None else fmean(of_last[place] + earlier[place] for place in _places(facts))


def _prompt_tokens(experiment: ExperimentView) -> float | None:
    facts = _facts(experiment)
    return facts and _tokens(experiment, experiment.info["prompt_tokens"], facts["earlier_prompt_tokens"])


def _generated_tokens(experiment: ExperimentView) -> float | None:
    facts = _facts(experiment)
    return facts and _tokens(experiment, experiment.info["generated_tokens"], facts["earlier_generated_tokens"])


def _seconds(experiment: ExperimentView) -> float | None:
    facts, ids = _facts(experiment), experiment.info["document_ids"]
    return None if facts is None else fmean(experiment.document_seconds[ids[place]] for place in _places(facts))


def _rouge1(experiment: ExperimentView) -> float | None:
    facts, scores = _facts(experiment), experiment.info["rouge1_scores"]
    if facts is None or not scores:
        return None
    found = [score for place in _places(facts) if (score := scores[place]) is not None]
    return fmean(found) if found else None


LONG = Figure(
    key="long-documents",
    name="Long documents",
    heading="long documents",
    short="long\ndocs",
    format=COUNT,
    value=_long,
    definition=(
        "Documents that do not fit in one prompt, of all documents. The other figures of this table are those of these "
        "documents alone."
    ),
)
UNREAD = Figure(
    key="unread-tokens",
    name="Unread tokens",
    heading="unread tokens",
    short="unread\ntokens",
    unit="tokens",
    format=COUNT,
    better=Better.LOWER,
    value=_unread,
    definition="Tokens of the long documents that were cut off, so that the model never read them, of all their tokens.",
)
CALLS = Figure(
    key="calls",
    name="Calls per long document",
    heading="calls/document",
    short="calls\n/doc",
    format=TENTHS,
    value=_calls,
    definition="How often the model was called for a long document: the mean. The answer to the last call is the summary.",
)
PROMPT_TOKENS = Figure(
    key="prompt-tokens-of-calls",
    name="Prompt tokens per long document",
    heading="prompt tokens/document",
    short="prompt\ntok/doc",
    unit="tokens",
    format=WHOLE,
    value=_prompt_tokens,
    definition="Tokens of the prompts of all calls for a long document, instruction and chat template included: the mean.",
)
GENERATED_TOKENS = Figure(
    key="generated-tokens-of-calls",
    name="Generated tokens per long document",
    heading="generated tokens/document",
    short="gen.\ntok/doc",
    unit="tokens",
    format=WHOLE,
    value=_generated_tokens,
    definition="Tokens that were generated in all calls for a long document, those of partial summaries included: the mean.",
)
SECONDS = Figure(
    key="seconds-per-long-document",
    name="Seconds per long document",
    heading="s/document",
    short="s\n/doc",
    unit="s",
    format=HUNDREDTHS,
    better=Better.LOWER,
    value=_seconds,
    definition="A long document's share of the seconds of its round, in which all its calls are timed: the mean.",
)
ROUGE1 = Figure(
    key="rouge-of-long-documents",
    name="ROUGE-1 of long documents",
    heading="ROUGE-1",
    format=THOUSANDTHS,
    better=Better.HIGHER,
    value=_rouge1,
    definition="Mean ROUGE-1 F1 of the summaries of long documents.",
)

GROUP = Group(
    title="Long documents",
    terms=(
        LONG,
        UNREAD,
        CALLS,
        PROMPT_TOKENS,
        GENERATED_TOKENS,
        SECONDS,
        ROUGE1,
    ),
)
