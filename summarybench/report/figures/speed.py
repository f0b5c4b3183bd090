"""Tokens, documents and seconds."""

from __future__ import annotations

from summarybench.report.figures.figure import Better, Figure, Group
from summarybench.report.figures.values import COUNT, HUNDREDTHS, TENTHS, THOUSANDTHS, percentiles
from summarybench.stats.intervals import percentile

DOCUMENTS = Figure(
    key="documents",
    name="Documents",
    heading="documents",
    short="docs",
    format=COUNT,
    value=lambda experiment: len(experiment.info["document_ids"]),
    definition="The number of documents that were summarized.",
)
GENERATED = Figure(
    key="generated",
    name="Generated tokens per second",
    heading="generated tok/s",
    short="gen.\ntok/s",
    unit="tokens/s",
    format=TENTHS,
    better=Better.HIGHER,
    value=lambda experiment: experiment.info["generated_tokens_per_second"],
    definition=(
        "Σ generated tokens ÷ Σ seconds over all documents. The end token counts, padding does not. Verdicts compare this "
        "figure."
    ),
)
DOCUMENT_TOKENS = Figure(
    key="document",
    name="Document tokens per second",
    heading="document tok/s",
    short="doc.\ntok/s",
    unit="tokens/s",
    format=TENTHS,
    better=Better.HIGHER,
    value=lambda experiment: experiment.info["document_tokens_per_second"],
    definition="Σ document tokens ÷ Σ seconds. The first published table called this “tokens/sec”.",
)
DECODE = Figure(
    key="decode",
    name="Decode tokens per second",
    heading="decode tok/s",
    unit="tokens/s",
    format=TENTHS,
    better=Better.HIGHER,
    value=lambda experiment: experiment.info["decode_tokens_per_second"],
    definition=(
        "Σ (generated tokens − 1) ÷ Σ (end − first token): the speed after the prompt has been processed. Continuous batching "
        "has no such figure."
    ),
)
DOCUMENTS_PER_SECOND = Figure(
    key="documents-per-second",
    name="Documents per second",
    heading="documents/s",
    short="docs\n/s",
    unit="documents/s",
    format=HUNDREDTHS,
    better=Better.HIGHER,
    value=lambda experiment: experiment.info["documents_per_second"],
    definition="Documents ÷ Σ seconds of the rounds.",
)
FIRST_TOKEN = Figure(
    key="ttft",
    name="Time to first token",
    heading="TTFT p50 s",
    short="TTFT\np50 s",
    unit="s",
    format=THOUSANDTHS,
    better=Better.LOWER,
    value=lambda experiment: percentile(experiment.info["time_to_first_token_seconds"], 50),
    definition=("Seconds from the prompt on the device to the choice of the first token; the median over documents."),
)
SECONDS = Figure(
    key="seconds",
    name="Seconds per document",
    heading="s/document p50 / p95",
    short="s/document\np50 / p95",
    unit="s",
    format=HUNDREDTHS,
    better=Better.LOWER,
    value=lambda experiment: percentiles(list(experiment.document_seconds.values())),
    definition=(
        "Seconds from the prompt on the device to the last token. A document of a batch has an equal share of the batch's "
        "seconds, and a document of several rounds the mean of them. p50 is the median over documents. p95 is the 95th "
        "percentile; it needs 20 documents, and with fewer the report shows –."
    ),
)
MEAN_SECONDS = Figure(
    key="mean-seconds",
    name="Mean seconds per document",
    heading="s/document",
    unit="s",
    format=HUNDREDTHS,
    better=Better.LOWER,
    value=lambda experiment: 1 / experiment.info["documents_per_second"],
    definition="Σ seconds ÷ documents.",
)

GROUP = Group(
    title="Speed",
    terms=(
        DOCUMENTS,
        GENERATED,
        DOCUMENT_TOKENS,
        DECODE,
        DOCUMENTS_PER_SECOND,
        FIRST_TOKEN,
        SECONDS,
        MEAN_SECONDS,
    ),
)
