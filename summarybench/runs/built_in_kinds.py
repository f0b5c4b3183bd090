"""The facts of the kinds that come with the suite.

They are declared below the kinds because runs from before experiments stated their kind need them too, and run files are
read without the code of the kinds. A new kind declares its facts in its own file.
"""

from __future__ import annotations

from collections.abc import Mapping

from summarybench.core.numbers import GIB
from summarybench.runs.kind_facts import KindFacts, KindFigure, Unit

LARGEST_BATCH_FIGURES = (
    KindFigure(
        key="largest_safe_batch",
        name="Largest safe batch",
        heading="largest safe batch",
        short="largest\nsafe batch",
        unit="",
        format="d",
        higher_is_better=True,
        meaning="The largest batch size that ran without running out of memory.",
    ),
    KindFigure(
        key="predicted_largest_batch",
        name="Predicted largest batch",
        heading="predicted batch",
        short="predicted\nbatch",
        unit="",
        format="d",
        meaning="The largest batch size that was predicted to fit in memory.",
    ),
)
PROCESSES = KindFigure(
    key="processes",
    name="Processes",
    heading="processes",
    short="pro-\ncesses",
    unit="",
    format="d",
    meaning="The number of processes that generate at the same time, each with a GPU or a part of the CPUs.",
)
ONE_ALONE = KindFigure(
    key="scaling.tokens_per_second_alone",
    name="One process alone",
    heading="one alone tok/s",
    short="one alone\ntok/s",
    unit="tok/s",
    format=".1f",
    higher_is_better=True,
    meaning="Generated tokens per second of one process while the others wait.",
)
ALL_AT_ONCE = KindFigure(
    key="scaling.tokens_per_second",
    name="All processes at once",
    heading="all at once tok/s",
    short="all at once\ntok/s",
    unit="tok/s",
    format=".1f",
    higher_is_better=True,
    meaning="Generated tokens per second of all processes together.",
)
EACH_PROCESS = KindFigure(
    key="scaling.per_process.tokens_per_second",
    name="Each process",
    heading="each tok/s",
    short="each\ntok/s",
    unit="tok/s",
    format=".1f",
    meaning="Generated tokens per second of the slowest and of the fastest process while all generate.",
)
SCALING_EFFICIENCY = KindFigure(
    key="scaling_efficiency",
    name="Scaling efficiency",
    heading="efficiency",
    unit="",
    format=".3f",
    higher_is_better=True,
    meaning="Tokens per second of all n processes ÷ (n × those of one process alone); 1 is perfect scaling.",
)
BASELINE_SCALING_EFFICIENCY = KindFigure(
    key="baseline_scaling_efficiency",
    name="Scaling efficiency of the baseline",
    heading="stored efficiency",
    short="stored\nefficiency",
    unit="",
    format=".3f",
    meaning="The scaling efficiency of the baseline.",
)
FIDELITY_FIGURES = (
    KindFigure(
        key="fidelity.logit_error",
        name="Logit error",
        heading="logit error",
        short="logit\nerror",
        unit="",
        format=".3g",
        higher_is_better=False,
        meaning="‖logits − float32's‖ ÷ ‖float32's‖, over all tokens of float32's summaries.",
    ),
    KindFigure(
        key="fidelity.eager_logit_error",
        name="Logit error of the eager counterpart",
        heading="eager logit error",
        short="eager\nlogit error",
        unit="",
        format=".3g",
        higher_is_better=False,
        meaning="The logit error of the eager loader that does the same arithmetic; 0 for eager loaders, which are "
        "compared with float32 alone.",
    ),
    KindFigure(
        key="fidelity.ratio",
        name="Logit error ÷ that of the eager counterpart",
        heading="× eager error",
        short="× eager\nerror",
        unit="",
        format=".3f",
        higher_is_better=False,
        meaning="The compiled loader's logit error ÷ that of its eager counterpart. It is – for eager loaders, which have no "
        "counterpart.",
    ),
    KindFigure(
        key="fidelity.forced_tokens",
        name="Tokens whose logits are compared",
        heading="logits of tokens",
        short="logits of\ntokens",
        unit="",
        format="d",
        meaning="The number of tokens whose logits are compared with those of float32.",
    ),
    KindFigure(
        key="fidelity.agreement.equal_summaries",
        name="Equal summaries",
        heading="equal summaries",
        short="equal\nsummaries",
        unit="",
        format="d",
        higher_is_better=True,
        meaning="The number of summaries with the same tokens as those of the eager counterpart, or of float32 for an eager loader.",
    ),
    KindFigure(
        key="fidelity.eager_agreement.equal_summaries",
        name="Equal summaries of the eager counterpart",
        heading="equal in two eager passes",
        short="equal in two\neager passes",
        unit="",
        format="d",
        meaning="The number of summaries with the same tokens in two passes of the eager counterpart, or of float32 for an eager loader.",
    ),
)
FASTEST_FIGURES = (
    KindFigure(
        key="trial.batches_documents_per_second",
        name="Batches in the trial",
        heading="trial, batches: documents/s",
        short="trial, batches:\ndocs/s",
        unit="documents/s",
        format=".2f",
        higher_is_better=True,
        meaning="Documents per second of one batch, in a trial before the measurement that chooses the fastest way.",
    ),
    KindFigure(
        key="trial.singles_documents_per_second",
        name="Single documents in the trial",
        heading="trial, single documents: documents/s",
        short="trial, single:\ndocs/s",
        unit="documents/s",
        format=".2f",
        higher_is_better=True,
        meaning="Documents per second of one document alone, in the same trial; on a CPU only.",
    ),
    KindFigure(
        key="trial.at_once_documents_per_second",
        name="All at once in the trial",
        heading="trial, all at once: documents/s",
        short="trial, at once:\ndocs/s",
        unit="documents/s",
        format=".2f",
        higher_is_better=True,
        meaning="Documents per second of continuous batching over the whole sample, in the same trial.",
    ),
)
MEMORY_FIGURES = (
    KindFigure(
        key="predicted_memory_bytes",
        name="Predicted peak of this sample",
        heading="predicted peak GiB",
        short="predicted\npeak GiB",
        unit="GiB",
        format=".2f",
        divisor=GIB,
        meaning="The peak memory that was predicted before loading, from the model's shape, the loader and the batch size.",
    ),
    KindFigure(
        key="peak_memory_bytes",
        name="Measured peak of this sample",
        heading="measured peak GiB",
        short="measured\npeak GiB",
        unit="GiB",
        format=".2f",
        divisor=GIB,
        higher_is_better=False,
        meaning="The most memory in use during the rounds, which include the longest prompt of the sample.",
    ),
)
OVERHEAD_FIGURES = (
    KindFigure(
        key="overhead.ratio",
        name="Harness ÷ bare loop, all tokens",
        heading="all tokens",
        short="all\ntokens",
        unit="",
        format=".4f",
        higher_is_better=True,
        meaning="Tokens per second of the harness ÷ those of a bare loop around transformers' generate, over the tokens of all documents.",
    ),
    KindFigure(
        key="overhead.typical.ratio",
        name="Harness ÷ bare loop, typical document",
        heading="typical document",
        short="typical\ndocument",
        unit="",
        format=".4f",
        higher_is_better=True,
        meaning="Tokens per second of the harness ÷ those of a bare loop around transformers' generate, in the median document.",
    ),
    KindFigure(
        key="overhead.typical.lower_bound",
        name="Lower bound of the typical document",
        heading="lower bound",
        short="lower\nbound",
        unit="",
        format=".4f",
        higher_is_better=True,
        meaning="The one-sided lower confidence bound of the ratio in the typical document.",
    ),
)

SUMMARIZE = KindFacts(name="summarize", place=0)
BATCHING = KindFacts(name="batching", unit=Unit.BATCH, title="batching", place=1)
LARGEST_BATCH = KindFacts(
    name="largest_safe_batch",
    unit=Unit.BATCH,
    title="largest safe batch",
    compared_count="largest_safe_batch",
    place=2,
    figures=LARGEST_BATCH_FIGURES,
)
CONTINUOUS = KindFacts(name="continuous", unit=Unit.ROUND, title="continuous", place=3)
FASTEST = KindFacts(
    name="fastest", unit=Unit.BATCH, title="fastest", place=4, is_beside_eager=True, figures=FASTEST_FIGURES
)
DISTRIBUTED = KindFacts(
    name="distributed",
    title="distributed",
    is_own_speed=False,
    place=0,
    figures=(PROCESSES, ONE_ALONE, ALL_AT_ONCE, EACH_PROCESS, SCALING_EFFICIENCY, BASELINE_SCALING_EFFICIENCY),
)
FIDELITY = KindFacts(name="fidelity", title="fidelity", is_own_speed=False, place=0, figures=FIDELITY_FIGURES)
MEMORY = KindFacts(name="memory", title="memory", is_own_speed=False, figures=MEMORY_FIGURES)
OVERHEAD = KindFacts(name="overhead", title="overhead", is_own_speed=False, figures=OVERHEAD_FIGURES)

KINDS_BY_TEST: Mapping[str, KindFacts] = {
    f"test_{facts.name}": facts
    for facts in (
        SUMMARIZE,
        BATCHING,
        LARGEST_BATCH,
        CONTINUOUS,
        FASTEST,
        DISTRIBUTED,
        FIDELITY,
        MEMORY,
        OVERHEAD,
    )
}
"""The facts of each kind by the name of its test, which is all that older runs state."""
