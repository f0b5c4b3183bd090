"""Ways of running one model and precision, side by side."""

from __future__ import annotations

from summarybench.report.experiment import EAGER
from summarybench.report.figures.figure import Better, Figure, Group, Term
from summarybench.report.figures.values import HUNDREDTHS, WORD

WAY = Figure(
    key="way",
    name="Way",
    heading="way",
    format=WORD,
    value=lambda experiment: experiment.way,
    definition=(
        f"How the documents were run. “{EAGER}” means one document at a time through transformers' generate. The other ways "
        "are compiled, in batches, or continuous."
    ),
)
TIMES_EAGER = Figure(
    key="times-eager",
    name="Times eager",
    heading="× eager",
    format=HUNDREDTHS,
    better=Better.HIGHER,
    value=lambda _: None,  # needs the other experiments of its group: the table fills it in
    definition=(
        "Generated tokens per second ÷ those of the same model and precision, one document at a time and not compiled."
    ),
)

FRONTIER = Term(
    key="frontier",
    name="Efficient frontier",
    definition=(
        "The experiments that no other experiment beats in both figures of the chart. For each of the others, another "
        "experiment is at least as good in both."
    ),
)

GROUP = Group(
    title="Side by side",
    terms=(
        WAY,
        TIMES_EAGER,
        FRONTIER,
    ),
)
