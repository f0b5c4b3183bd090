"""Students beside the teachers that they were distilled from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from summarybench.report.experiment import ExperimentView
from summarybench.report.figures.cost import MONEY, cost_per_thousand_documents
from summarybench.report.figures.figure import Better, Estimate, Figure, Format, Group
from summarybench.report.figures.values import HUNDREDTHS, TENTHS, WHOLE_PERCENT, WORD, estimate_of


def _teacher_change(experiment: ExperimentView) -> Mapping[str, Any]:
    return experiment.info.get("teacher_change") or {}


def _speed_ratio(experiment: ExperimentView) -> Estimate | None:
    return estimate_of(_teacher_change(experiment).get("generated_tokens_per_second"))


def _margin_points(experiment: ExperimentView) -> float | None:
    margin = _teacher_change(experiment).get("margin")
    return None if margin is None else 100 * margin


def _student_quality(experiment: ExperimentView) -> str | None:
    quality = _teacher_change(experiment).get("quality_change")
    return None if quality is None else str(quality["verdict"])


def _faithfulness(experiment: ExperimentView) -> str | None:
    change = _teacher_change(experiment).get("faithfulness_change")
    return None if change is None else str(change["verdict"])


def _saving(experiment: ExperimentView) -> float | None:
    """The teacher's cost of 1,000 documents less the student's; None without a price or in an older run."""
    cost, ratio = cost_per_thousand_documents(experiment), _teacher_change(experiment).get("seconds_ratio")
    return None if cost is None or ratio is None else cost / ratio - cost


STUDENT_SPEED = Figure(
    key="student-speed",
    name="Student's speed",
    heading="tok/s ratio",
    short="tok/s\nratio",
    format=HUNDREDTHS,
    better=Better.HIGHER,
    value=_speed_ratio,
    definition="Generated tokens per second of the student ÷ those of its teacher, with the 95% interval.",
)
STUDENT_SECONDS = Figure(
    key="student-seconds",
    name="Student's seconds per document",
    heading="s/doc ratio",
    short="s/doc\nratio",
    format=HUNDREDTHS,
    better=Better.LOWER,
    value=lambda experiment: _teacher_change(experiment).get("seconds_ratio"),
    definition=(
        "Seconds per document of the student ÷ those of its teacher, which is also the ratio of their costs at any price. It "
        "includes the effect of longer or shorter summaries."
    ),
)
STUDENT_SAVING = Figure(
    key="student-saving",
    name="Saved per 1,000 documents",
    heading="saved per 1,000 docs",
    short="saved/1k\ndocs",
    unit=MONEY,
    format=Format(spec=".4f"),
    better=Better.HIGHER,
    value=_saving,
    definition=(
        "The teacher's cost per 1,000 documents minus the student's, at the stated price of a GPU-hour. The cost of the training ÷ "
        "this saving is the number of documents, in thousands, after which the training has paid for itself."
    ),
)
STUDENT_WEIGHTS = Figure(
    key="student-weights",
    name="Student's weights",
    heading="weights ratio",
    short="weights\nratio",
    format=WHOLE_PERCENT,
    better=Better.LOWER,
    value=lambda experiment: _teacher_change(experiment).get("weights_ratio"),
    definition="The size of the student's weights ÷ that of its teacher's.",
)
STUDENT_PEAK = Figure(
    key="student-peak",
    name="Student's peak memory",
    heading="peak ratio",
    short="peak\nratio",
    format=WHOLE_PERCENT,
    better=Better.LOWER,
    value=lambda experiment: _teacher_change(experiment).get("peak_memory_ratio"),
    definition="The student's peak memory ÷ its teacher's.",
)
STUDENT_ROUGE1 = Figure(
    key="student-rouge",
    name="Student's ROUGE-1",
    heading="ROUGE-1 ratio",
    short="ROUGE-1\nratio",
    format=WHOLE_PERCENT,
    better=Better.HIGHER,
    value=lambda experiment: _teacher_change(experiment).get("rouge1_ratio"),
    definition="The student's mean ROUGE-1 ÷ its teacher's.",
)
STUDENT_MARGIN = Figure(
    key="student-margin",
    name="Margin",
    heading="margin points",
    short="margin\npoints",
    unit="points",
    format=TENTHS,
    value=_margin_points,
    definition="The loss of ROUGE-1 that is accepted, in points (100 × F1).",
)
STUDENT_QUALITY = Figure(
    key="student-quality",
    name="Student's quality verdict",
    heading="quality",
    format=WORD,
    is_verdict=True,
    value=_student_quality,
    definition="The quality verdict of the student against its teacher, with this margin.",
)

STUDENT_LENGTH = Figure(
    key="student-length",
    name="Student's length",
    heading="length ratio",
    short="length\nratio",
    format=HUNDREDTHS,
    value=lambda experiment: _teacher_change(experiment).get("length_ratio"),
    definition="The characters of the student's summaries ÷ those of its teacher's.",
)
STUDENT_FAITHFULNESS = Figure(
    key="student-faithfulness",
    name="Student's faithfulness verdict",
    heading="faithfulness",
    format=WORD,
    is_verdict=True,
    value=_faithfulness,
    definition=(
        "The student against its teacher: the worst of the verdicts on summaries with new numbers, dates and names. The margin is "
        "5 points, as in comparisons with a baseline."
    ),
)

GROUP = Group(
    title="Students beside their teachers",
    terms=(
        STUDENT_SPEED,
        STUDENT_SECONDS,
        STUDENT_SAVING,
        STUDENT_WEIGHTS,
        STUDENT_PEAK,
        STUDENT_ROUGE1,
        STUDENT_MARGIN,
        STUDENT_QUALITY,
        STUDENT_LENGTH,
        STUDENT_FAITHFULNESS,
    ),
)
