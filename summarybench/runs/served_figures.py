"""The figures of a server under load, as its kind of benchmark declares them."""

from __future__ import annotations

from dataclasses import replace

from summarybench.runs import built_in_kinds
from summarybench.runs.kind_facts import KindFigure


def _milliseconds(key: str, name: str, short: str, meaning: str) -> tuple[KindFigure, ...]:
    """The 50th, 90th and 99th percentile of seconds that are recorded under this key."""
    return tuple(
        KindFigure(
            key=f"served.{key}.p{percent}",
            name=f"{name}, {percent}th percentile",
            heading=f"{short} p{percent} ms",
            short=f"{short}\np{percent} ms",
            unit="ms",
            format=".1f",
            divisor=0.001,
            higher_is_better=False,
            meaning=f"{meaning} The {percent}th percentile over all requests, as the client sees it.",
        )
        for percent in (50, 90, 99)
    )


GOODPUT = KindFigure(
    key="served.goodput_per_second",
    name="Goodput",
    heading="goodput/s",
    short="good-\nput/s",
    unit="",
    format=".2f",
    higher_is_better=True,
    meaning="Documents per second whose request met the objective of --slo.",
)
GREATEST_RATE = KindFigure(
    key="served.rate_search.greatest_rate_per_second",
    name="Greatest rate within the objective",
    heading="rate in SLO/s",
    short="rate in\nSLO/s",
    unit="",
    format=".2f",
    higher_is_better=True,
    meaning="The greatest mean rate of requests at which 99% of them met the objective, found by --sweep.",
)
FLEET_EFFICIENCY = KindFigure(
    key="served.fleet.scaling_efficiency",
    name="Scaling efficiency of a fleet",
    heading="efficiency",
    unit="",
    format=".3f",
    higher_is_better=True,
    meaning="Documents per second of n servers ÷ (n × those of one alone with its part of the documents).",
)
FIGURES = (
    KindFigure(
        key="documents_per_second",
        name="Documents per second of a server",
        heading="documents/s",
        short="docs\n/s",
        unit="",
        format=".2f",
        higher_is_better=True,
        meaning="Documents that were summarized ÷ seconds from a round's first request to its last answer.",
    ),
    *_milliseconds(
        "time_to_first_token_seconds",
        "Time to first token of a server",
        "TTFT",
        "Milliseconds from sending a request until its first token arrives.",
    ),
    *_milliseconds(
        "seconds_per_output_token",
        "Time per output token",
        "TPOT",
        "Milliseconds per token after the first, as the mean of each request.",
    ),
    *_milliseconds(
        "end_to_end_seconds",
        "End-to-end latency",
        "E2E",
        "Milliseconds from sending a request until its answer is complete.",
    ),
    KindFigure(
        key="served.failed_requests",
        name="Failed requests",
        heading="failed",
        unit="",
        format="d",
        higher_is_better=False,
        meaning="Requests that a server did not answer. A single one fails the test.",
    ),
    GOODPUT,
    GREATEST_RATE,
    FLEET_EFFICIENCY,
)

WORDS = (
    ("a bare loop around transformers' generate", "a bare streaming loop over the same requests"),
    ("the harness", "the client"),
    ("Harness", "Client"),
    ("Lower bound of the typical document", "Lower bound of the client's typical document"),
)
"""What the figures of the overhead in this process are called for a client."""


def _of_client(figure: KindFigure) -> KindFigure:
    name, meaning = figure.name, figure.meaning
    for harness, client in WORDS:
        name, meaning = name.replace(harness, client), meaning.replace(harness, client)
    return replace(figure, name=name, meaning=meaning)


OVERHEAD_FIGURES = (
    *map(_of_client, built_in_kinds.OVERHEAD_FIGURES),
    KindFigure(
        key="served_overhead.first_token_seconds",
        name="Time to first token of the client",
        heading="client TTFT ms",
        short="client\nTTFT ms",
        unit="ms",
        format=".2f",
        divisor=0.001,
        higher_is_better=False,
        meaning="Median milliseconds until the suite's client sees the first token.",
    ),
    KindFigure(
        key="served_overhead.bare_first_token_seconds",
        name="Time to first token of a bare loop",
        heading="bare TTFT ms",
        short="bare\nTTFT ms",
        unit="ms",
        format=".2f",
        divisor=0.001,
        higher_is_better=False,
        meaning="Median milliseconds until a bare streaming loop sees the first token of the same requests.",
    ),
    KindFigure(
        key="served_overhead.client_cpu_share",
        name="CPU time of the client",
        heading="client cores",
        short="client\ncores",
        unit="",
        format=".2f",
        higher_is_better=False,
        meaning="CPU time of the client ÷ duration with 256 requests in flight; 1 is one core.",
    ),
)
