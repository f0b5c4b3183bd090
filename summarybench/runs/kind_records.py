"""What a run file states about kinds of benchmarks, and the keys that only some kinds have."""

from __future__ import annotations

import math
from typing import Annotated, NotRequired, TypedDict

from summarybench.runs.comparison_records import QualityChangeRecord
from summarybench.runs.declared_keys import SMALLEST_POSITIVE, Key
from summarybench.runs.kind_facts import Unit


class KindFigureRecord(TypedDict):
    """A figure that only one kind of benchmark has, as its kind declares it."""

    key: Annotated[str, Key("the key of `extra_info`; dots lead into nested objects", may_be_empty=False)]
    heading: Annotated[str, Key("the column's heading")]
    unit: Annotated[str, Key("the unit of the number")]
    format: Annotated[str, Key("Python's format specification of the number")]
    meaning: Annotated[str, Key("the definition in one sentence")]
    name: NotRequired[Annotated[str, Key("the full name; empty: the heading")]]
    short: NotRequired[Annotated[str, Key("the column's heading in the terminal; empty: the heading")]]
    divisor: NotRequired[Annotated[float, Key("the number is divided by it first", at_least=SMALLEST_POSITIVE)]]
    higher_is_better: NotRequired[Annotated[bool | None, Key("which way the figure improves; null for neither")]]


class KindRecord(TypedDict):
    """The kind of benchmark that measured the experiment."""

    name: Annotated[str, Key("the kind's name", may_be_empty=False)]
    unit: Annotated[str, Key("what one round measures, and what comparisons pair", choices=Unit)]
    title: Annotated[str, Key("follows the experiment's name where kinds must be told apart; empty for the usual kind")]
    compared_count: Annotated[str, Key("the key of the number that is compared instead of the speed; empty for none")]
    is_own_speed: Annotated[bool, Key("whether the speed is the experiment's own, undisturbed and over all documents")]
    place: Annotated[
        int | None, Key("the order of kinds, from the plainest to the fastest; null: not shown side by side")
    ]
    is_beside_eager: Annotated[
        bool, Key("whether tables of stored results show it beside single documents of the same precision, eager")
    ]
    figures: Annotated[list[KindFigureRecord], Key("the figures that only this kind has")]


class SampleRound(TypedDict):
    """One round over the whole sample."""

    seconds: Annotated[float, Key("duration of the round", unit="s", at_least=SMALLEST_POSITIVE)]
    generated_tokens: Annotated[int, Key("tokens of all summaries", unit="tokens", at_least=1)]


class ContinuousRound(TypedDict):
    """One pass over the whole sample through continuous batching."""

    seconds: Annotated[float, Key("duration of the pass", unit="s", at_least=SMALLEST_POSITIVE)]
    generated_tokens: Annotated[int, Key("tokens of all summaries", unit="tokens", at_least=1)]
    steps: Annotated[int, Key("steps of the engine")]
    changed_summaries: Annotated[int, Key("summaries that differ from the first round's")]


class Continuous(TypedDict):
    """Continuous batching: its rounds and the engine's limits."""

    rounds: Annotated[list[ContinuousRound], Key("one per round")]
    requests_in_flight: Annotated[int, Key("most requests in one step")]
    page_tokens: Annotated[int, Key("tokens per page of the KV cache", unit="tokens")]
    pages: Annotated[int, Key("pages of the KV cache")]
    step_tokens: Annotated[int, Key("most tokens in one step", unit="tokens")]


class PercentilesRecord(TypedDict):
    """Percentiles over all requests of all rounds. Null where too few requests carry one."""

    p50: Annotated[float | None, Key("median", unit="s")]
    p90: Annotated[float | None, Key("90th percentile", unit="s")]
    p99: Annotated[float | None, Key("99th percentile", unit="s")]


class ObjectiveRecord(TypedDict):
    """A service-level objective: the most seconds to the first token, and for each token after it."""

    name: Annotated[str, Key("the objective's name", may_be_empty=False)]
    first_token_seconds: Annotated[float, Key("most seconds to the first token", unit="s")]
    seconds_per_token: Annotated[float, Key("most seconds per later token", unit="s")]


class RateStepRecord(TypedDict):
    """One pass over the sample with requests that arrive at random, at one mean rate."""

    arrivals_per_second: Annotated[float, Key("mean rate of requests", "1/s")]
    documents_per_second: Annotated[float, Key("documents that were summarized per second", "1/s")]
    within_objective: Annotated[float, Key("share of the requests that met the objective", at_most=1)]
    is_within: Annotated[bool, Key("whether 99% of the requests met the objective, and none failed")]
    first_failure: NotRequired[
        Annotated[str | None, Key("why the first request failed; null if none did; absent in older runs")]
    ]
    time_to_first_token_seconds: Annotated[PercentilesRecord, Key("from sending a request to its first token")]
    seconds_per_output_token: Annotated[PercentilesRecord, Key("mean of a request's tokens after the first")]


class RateSearchRecord(TypedDict):
    """The search for the greatest rate of requests at which the objective is met."""

    saturated_documents_per_second: Annotated[float, Key("documents per second with all requests at once", "1/s")]
    greatest_rate_per_second: Annotated[float, Key("greatest rate within the objective; 0 if none was", "1/s")]
    steps: Annotated[list[RateStepRecord], Key("the passes of the search, in their order")]


class FleetRecord(TypedDict):
    """Several servers behind one sample, against one of them with its part of it."""

    servers: Annotated[int, Key("servers that share the documents", at_least=2)]
    documents_per_second_alone: Annotated[float, Key("documents per second of the first server alone", "1/s")]
    scaling_efficiency: Annotated[float, Key("documents per second of all n ÷ n times that of one alone")]


class ServedRecord(TypedDict):
    """A server under load: who answered, and how fast. Seconds are those that the client saw."""

    engine: Annotated[str, Key("the server's engine, such as `vllm`", may_be_empty=False)]
    engine_version: Annotated[str, Key("the engine's version; `unknown` if the server does not say")]
    command: Annotated[str, Key("the command that started the server; empty if the suite did not start it")]
    requests: Annotated[int, Key("requests of all rounds", at_least=1)]
    failed_requests: Annotated[int, Key("requests that were not answered")]
    first_failure: Annotated[str | None, Key("why the first of them failed; null if none did")]
    resent_requests: NotRequired[
        Annotated[
            int, Key("requests sent again, because the server had closed their idle connection before they arrived")
        ]
    ]
    concurrency: Annotated[int | None, Key("requests in flight in a closed loop; null for an open one", at_least=1)]
    arrivals_per_second: Annotated[
        float | None, Key("mean rate of requests in an open loop; null for a closed one", "1/s")
    ]
    time_to_first_token_seconds: Annotated[PercentilesRecord, Key("from sending a request to its first token")]
    seconds_per_output_token: Annotated[PercentilesRecord, Key("mean of a request's tokens after the first")]
    end_to_end_seconds: Annotated[PercentilesRecord, Key("from sending a request to the end of its answer")]
    mean_in_flight: Annotated[float, Key("mean number of requests in flight")]
    goodput_per_second: Annotated[
        float | None, Key("documents per second that met the objective; null without an objective", "1/s")
    ]
    within_objective: Annotated[float | None, Key("share of the requests that met the objective", at_most=1)]
    objective: Annotated[ObjectiveRecord | None, Key("the objective; null if none was given")]
    cached_prompt_tokens: Annotated[int, Key("prompt tokens that the server says it took from a cache", unit="tokens")]
    prompts_counted_otherwise: Annotated[
        int | None, Key("prompts whose tokens the server counts differently from our tokenizer; null without one")
    ]
    changed_summaries: Annotated[int, Key("summaries that differ from the first round's")]
    client_cpu_share: Annotated[float, Key("CPU time of the client ÷ duration of the rounds; 1 is one core")]
    rate_search: NotRequired[Annotated[RateSearchRecord, Key("only for the experiment of --sweep")]]
    fleet: NotRequired[Annotated[FleetRecord, Key("only for several servers")]]
    fleet_failure: NotRequired[
        Annotated[str, Key("why `fleet` is missing: the first server answered no request when alone")]
    ]


class ServedOverheadRecord(TypedDict):
    """The suite's client against a bare streaming loop, besides its speed in `overhead`."""

    first_token_seconds: Annotated[float, Key("median time to the first token, as the client sees it", unit="s")]
    bare_first_token_seconds: Annotated[float, Key("the same, as the bare loop sees it", unit="s")]
    client_cpu_share: Annotated[
        float | None, Key("CPU time of the client ÷ duration with 256 requests in flight; null if not measured")
    ]


class ProcessSpeedRecord(TypedDict):
    """One of several processes that measured together."""

    process: Annotated[int, Key("rank of the process")]
    device: Annotated[str, Key("its device")]
    documents: Annotated[int, Key("documents that it summarized")]
    generated_tokens: Annotated[int, Key("tokens that it generated", unit="tokens")]
    seconds: Annotated[float, Key("duration of its rounds together", unit="s")]
    tokens_per_second: Annotated[float, Key("its throughput", unit="tokens/s")]


class ScalingRecord(TypedDict):
    """Several processes against one."""

    tokens_per_second: Annotated[float, Key("throughput of all processes at once", unit="tokens/s")]
    tokens_per_second_alone: Annotated[float, Key("throughput of process 0 alone", unit="tokens/s")]
    per_process: Annotated[list[ProcessSpeedRecord], Key("one per process")]


class TypicalOverhead(TypedDict):
    """The harness against a bare loop in the typical document. Null for too few documents."""

    ratio: Annotated[float, Key("median over documents", at_least=SMALLEST_POSITIVE)]
    low: Annotated[float | None, Key("lower bound of the median")]
    high: Annotated[float | None, Key("upper bound of the median", at_most=math.inf)]
    confidence: Annotated[float, Key("confidence of the interval", at_most=1)]
    lower_bound: Annotated[float | None, Key("one-sided lower bound", at_least=SMALLEST_POSITIVE)]
    bound_confidence: Annotated[float, Key("confidence of the one-sided bound", at_most=0.999999)]
    documents: Annotated[int, Key("documents that were measured both ways")]


class OverheadRecord(TypedDict):
    """The harness's tokens per second ÷ a bare loop's."""

    ratio: Annotated[float, Key("over all tokens", at_least=SMALLEST_POSITIVE)]
    low: Annotated[float, Key("lower bound of the ratio")]
    high: Annotated[float, Key("upper bound of the ratio", at_most=math.inf)]
    confidence: Annotated[float, Key("confidence of the interval", at_most=1)]
    typical: Annotated[TypicalOverhead | None, Key("in the typical document; null in runs that did not estimate it")]


class AgreementRecord(TypedDict):
    """How many summaries of two loaders are the same."""

    documents: Annotated[int, Key("documents that were compared")]
    equal_summaries: Annotated[int, Key("documents with the same tokens")]
    equal_tokens: Annotated[int, Key("tokens before the first difference", unit="tokens")]
    tokens: Annotated[int, Key("tokens of the longer summary of each pair", unit="tokens", at_least=1)]


class FidelityRecord(TypedDict):
    """A compiled loader and its eager counterpart, each compared with float32; or an eager loader compared with float32."""

    reference_loader: Annotated[str, Key("the loader with float32 weights")]
    eager_loader: Annotated[str, Key("the eager counterpart; for an eager loader, the reference loader")]
    logit_error: Annotated[float, Key("relative error of the loader's logits")]
    eager_logit_error: Annotated[float, Key("relative error of the eager counterpart's logits")]
    ratio: Annotated[float | None, Key("logit error ÷ the eager counterpart's; null if that is 0")]
    forced_tokens: Annotated[int, Key("tokens whose logits were compared", unit="tokens")]
    agreement: Annotated[AgreementRecord, Key("summaries against the eager counterpart's")]
    eager_agreement: Annotated[AgreementRecord, Key("the eager counterpart's summaries in two passes")]
    quality_change: Annotated[
        QualityChangeRecord | None, Key("quality against the eager counterpart's; null for too few documents")
    ]


class LookupRecord(TypedDict):
    """Decoding with drafts beside plain decoding. Lists have one item per document, in document order."""

    draft_tokens: Annotated[int, Key("most drafts of a step", unit="tokens", at_least=1)]
    first_tokens: Annotated[
        list[int], Key("tokens that arrived together with the first one", unit="tokens", at_least=1)
    ]
    steps: Annotated[list[int], Key("forward passes after the first tokens")]
    drafted_tokens: Annotated[list[int], Key("drafts that those steps verified", unit="tokens")]
    tokens_per_step: Annotated[float | None, Key("tokens after the first ones ÷ steps; null without a step")]
    accepted_share: Annotated[
        float | None, Key("tokens beyond one per step ÷ drafted tokens; null without drafts", at_most=1)
    ]
    plain_tokens_per_second: Annotated[float, Key("generated tokens per second of plain decoding", "tokens/s")]
    ratio: Annotated[float, Key("generated tokens per second ÷ those of plain decoding")]
    step_cost: Annotated[float | None, Key("seconds of a step ÷ those of a plain step; null without a step")]
    agreement: Annotated[AgreementRecord, Key("summaries against those of plain decoding")]
    largest_tie: Annotated[
        float, Key("largest difference of two logits at a first difference, in spacings of the dtype; 0 for none")
    ]


class Trial(TypedDict):
    """The trial by which the fastest way was chosen. Speeds are documents per second."""

    batch_size: Annotated[int, Key("documents of a batch", at_least=1)]
    batches_documents_per_second: NotRequired[Annotated[float, Key("speed of one batch")]]
    singles_documents_per_second: NotRequired[Annotated[float, Key("speed of one document alone; on a CPU only")]]
    at_once_documents_per_second: NotRequired[
        Annotated[float, Key("speed of continuous batching over the sample, for loaders that have it")]
    ]


class KindKeys(TypedDict):
    """The keys that only some kinds of benchmarks have. A new kind may add keys that are not declared here."""

    sample_rounds: NotRequired[
        Annotated[list[SampleRound], Key("one per round; only for kinds whose round is the whole sample")]
    ]
    largest_safe_batch: NotRequired[Annotated[int, Key("largest batch size that ran")]]
    predicted_largest_batch: NotRequired[Annotated[int, Key("largest batch size as predicted")]]
    batch_tries: NotRequired[
        Annotated[list[list[int | bool]], Key("batch sizes in the order of the tries, and whether each ran")]
    ]
    trial: NotRequired[Annotated[Trial, Key("fastest way: the speeds of the ways that were tried")]]
    continuous: NotRequired[Annotated[Continuous, Key("continuous batching")]]
    finish_seconds: NotRequired[
        Annotated[list[float], Key("continuous batching: from the start to the end of each summary", unit="s")]
    ]
    served: NotRequired[Annotated[ServedRecord, Key("a server under load")]]
    served_overhead: NotRequired[Annotated[ServedOverheadRecord, Key("the client against a bare streaming loop")]]
    processes: NotRequired[Annotated[int, Key("processes that measured together", at_least=1)]]
    scaling_efficiency: NotRequired[Annotated[float, Key("throughput of n processes ÷ n times that of one")]]
    baseline_scaling_efficiency: NotRequired[
        Annotated[float | None, Key("the baseline's scaling efficiency; null if unknown")]
    ]
    scaling: NotRequired[Annotated[ScalingRecord, Key("several processes against one")]]
    overhead: NotRequired[Annotated[OverheadRecord, Key("the harness against a bare loop")]]
    fidelity: NotRequired[Annotated[FidelityRecord, Key("a loader against float32")]]
    lookup: NotRequired[
        Annotated[LookupRecord, Key("decoding with drafts, by prompt lookup or by a student, beside plain decoding")]
    ]
