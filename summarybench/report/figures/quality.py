"""ROUGE, its floor, and summaries that are empty, repeating or cut off."""

from __future__ import annotations

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.figure import Better, Estimate, Figure, Format, Group, Term
from summarybench.report.figures.values import COUNT, THOUSANDTHS, WORD


def _empty(experiment: ExperimentView) -> int | None:
    counts = experiment.info["degenerate"]
    return None if counts is None else counts["empty"]


def _repeating(experiment: ExperimentView) -> int | None:
    counts = experiment.info["degenerate"]
    return None if counts is None else counts["repeating"]


def _scored(experiment: ExperimentView) -> int | None:
    """The number of documents that ROUGE is of; None where it is of all or of none."""
    scores = experiment.info["rouge1_scores"]
    return sum(each is not None for each in scores) if None in scores else None


def _quality_verdict(experiment: ExperimentView) -> str | None:
    change = experiment.info["quality_change"]
    return None if change is None else change["verdict"]


ROUGE1 = Figure(
    key="rouge",
    name="ROUGE-1",
    heading="ROUGE-1",
    short="ROUGE-1",
    format=Format(spec=".3f", has_brackets=False),
    better=Better.HIGHER,
    value=lambda experiment: (
        None
        if experiment.rouge1 is None
        else Estimate(experiment.rouge1, *(experiment.info["rouge1_interval"] or (None, None)))
    ),
    definition=(
        "F1 score of the words that summary and reference share (rouge_score), 0 to 1; words are compared by their "
        "stems in English and where --language has a stemmer; the mean over documents, "
        "with its 95% interval by Student's t."
    ),
)
ROUGE2 = Figure(
    key="rouge2",
    name="ROUGE-2",
    heading="ROUGE-2",
    short="ROUGE\n-2",
    format=THOUSANDTHS,
    better=Better.HIGHER,
    value=lambda experiment: experiment.info["rouge2"],
    definition="F1 score of the word pairs that summary and reference share, 0 to 1; the mean over documents.",
)
ROUGE_L = Figure(
    key="rougel-whole",
    name="ROUGE-L",
    heading="ROUGE-L",
    short="ROUGE\n-L",
    format=THOUSANDTHS,
    better=Better.HIGHER,
    value=lambda experiment: experiment.info.get("rougeL"),
    definition="F1 score of the longest common subsequence of the whole texts, 0 to 1; the mean over documents.",
)
ROUGE_LSUM = Figure(
    key="rougel",
    name="ROUGE-Lsum",
    heading="ROUGE-Lsum",
    short="ROUGE\n-Lsum",
    format=THOUSANDTHS,
    better=Better.HIGHER,
    value=lambda experiment: experiment.info["rougeLsum"],
    definition=("F1 score of the longest common subsequences, sentence by sentence, 0 to 1; the mean over documents."),
)
LEAD3 = Figure(
    key="lead3",
    name="Lead-3",
    heading="lead-3",
    short="lead\n-3",
    format=THOUSANDTHS,
    value=lambda experiment: experiment.info["lead3_rouge1"],
    definition="ROUGE-1 of the document's own first three sentences. A useful model should score higher.",
)
SCORED = Figure(
    key="scored",
    name="Scored",
    heading="scored",
    format=COUNT,
    value=_scored,
    definition="Documents with a reference summary, where not all have one. ROUGE, lead-3 and the quality verdict are of these alone.",
)
FLOOR = Figure(
    key="floor",
    name="Floor",
    heading="floor",
    format=Format(spec=".3f", missing="none"),
    value=lambda experiment: experiment.info["rouge1_floor"],
    definition=(
        "The ROUGE-1 that the summaries must not fall short of by more than chance. The test fails if the one-sided 99% upper "
        "bound of the mean ROUGE-1 is below it, counting the sampling error of the floor too."
    ),
)
QUALITY = Figure(
    key="quality",
    name="Quality verdict",
    heading="quality verdict",
    format=WORD,
    is_verdict=True,
    value=_quality_verdict,
    definition=(
        "ROUGE-1 now minus that of the baseline, paired by document, in points (100 × F1). NON-INFERIOR: the one-sided 99% "
        "lower bound is above −1.5 points. INFERIOR: the upper bound is below 0, and the mean is −1.5 or less; it fails if "
        "Holm's correction over all quality comparisons of the session confirms it. INCONCLUSIVE: neither."
    ),
)
EMPTY = Figure(
    key="empty",
    name="Empty",
    heading="empty",
    format=COUNT,
    better=Better.LOWER,
    value=_empty,
    definition="Summaries without any text. They end at once, so they make a model look fast.",
)
REPEATING = Figure(
    key="repeating",
    name="Repeating",
    heading="repeating",
    short="rep.",
    format=COUNT,
    better=Better.LOWER,
    value=_repeating,
    definition=(
        "Summaries of 24 words or more that repeat themselves: fewer than half of their three-word sequences are distinct."
    ),
)
CAP_HITS = Figure(
    key="cap",
    name="Cut off",
    heading="cut off",
    short="cut\noff",
    format=COUNT,
    value=lambda experiment: experiment.info["cap_hits"],
    definition="Summaries that reached the token limit and were cut off there. This is normal if the limit is low.",
)
TRUNCATED = Figure(
    key="truncated",
    name="Truncated",
    heading="truncated",
    short="trun-\ncated",
    format=COUNT,
    value=lambda experiment: experiment.info["truncated_documents"],
    definition="Documents that lost their end so that the prompt fits its limit. The instruction is never cut.",
)
CHANGED = Term(
    key="changed",
    name="Changed",
    definition="Summaries whose text differs from the baseline's (by SHA-256).",
)

GROUP = Group(
    title="Quality",
    terms=(
        ROUGE1,
        ROUGE2,
        ROUGE_L,
        ROUGE_LSUM,
        LEAD3,
        SCORED,
        FLOOR,
        QUALITY,
        EMPTY,
        REPEATING,
        CAP_HITS,
        TRUNCATED,
        CHANGED,
    ),
)
