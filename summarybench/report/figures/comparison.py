"""The comparison with the baseline and the anchor."""

from __future__ import annotations

from summarybench.report.figures.figure import Better, Figure, Group, Term
from summarybench.report.figures.values import THOUSANDTHS, WORD, estimate_of

VERDICT = Figure(
    key="verdict",
    name="Verdict",
    heading="verdict",
    format=WORD,
    value=lambda experiment: experiment.verdict,
    is_verdict=True,
    definition=(
        "The result of the comparison with the baseline. REGRESSED: the ratio is 0.985 or less, and its one-sided 99% upper "
        "bound is below 1. IMPROVED: the ratio is 1 ÷ 0.985 or more, and its one-sided 99% lower bound is above 1. If there "
        "were two passes, each pass alone must show such a ratio. UNCHANGED: the 95% interval lies within 1 ± the tolerance "
        "(5% by default). UNCALIBRATED: the noise that was measured would decide, and the noise that is assumed for the rest "
        "does not. INCONCLUSIVE: none of these. INCOMPARABLE: the stored run measured other work. INVALID: the device "
        "was throttled or shared. NO BASELINE: nothing comparable is stored."
    ),
)
RATIO = Figure(
    key="ratio",
    name="Ratio",
    heading="ratio",
    format=THOUSANDTHS,
    better=Better.HIGHER,
    value=lambda experiment: estimate_of(experiment.change),
    definition=(
        "Generated tokens per second now ÷ those of the baseline, paired over the documents that both runs have and at the "
        "baseline's output lengths. Below 1 is slower. The 95% interval in brackets uses Student's t. Its standard error "
        "combines the noise of documents, processes, nights and hosts."
    ),
)
ANCHOR = Figure(
    key="anchor",
    name="Ratio to the anchor",
    heading="ratio to anchor",
    format=THOUSANDTHS,
    better=Better.HIGHER,
    value=lambda experiment: estimate_of(experiment.anchor),
    definition=(
        "The same ratio to the anchor, a stored run that is never replaced. It shows a slow decline, which comparisons with "
        "the newest baseline cannot show."
    ),
)

CAUSE = Term(
    key="cause",
    name="Cause",
    definition=(
        "What a change of speed is attributed to. The part that the machine probes explain is subtracted; only probes that "
        "the speed depends on count. CODE: the rest is beyond its noise. GPU: it is not, and copy bandwidth or matrix product "
        "explain half of the change or more. HOST: kernel launches do (on a CPU, any probe). UNKNOWN: the probes do not allow "
        "a conclusion. WORKLOAD, only in older runs: summaries of another length explained half of the change or more."
    ),
)
PROBES = Term(
    key="probes",
    name="Machine probes",
    definition=(
        "Small benchmarks of the machine that no model and no library affects, run before and after each experiment. The "
        "figure is the geometric mean of both. A probe counts as changed if it differs by more than 3% and by more than three "
        "of its standard deviations."
    ),
)

GROUP = Group(
    title="Comparison",
    terms=(
        VERDICT,
        RATIO,
        ANCHOR,
        CAUSE,
        PROBES,
    ),
)
