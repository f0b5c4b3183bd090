"""`extra_info` of a run file: the facts and figures of one experiment. Each key is declared here and nowhere else.

The keys about comparisons are in comparison_records.py, and those of single kinds in kind_records.py.
docs/reference/run-file.md is made from these declarations. Keys may be added, and are never renamed or removed: stored runs
stay readable. A key that older runs lack is filled in by migration.py, which alone knows what they meant.
"""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from summarybench.runs.comparison_records import Confirmation, Decision, HistoryKeys, ProbeRecord, StudentKeys
from summarybench.runs.declared_keys import SMALLEST_POSITIVE, Key
from summarybench.runs.faithfulness_record import FaithfulnessRecord
from summarybench.runs.kind_records import KindKeys, KindRecord

Scalar = str | int | float | bool | None


class WorkloadSettings(TypedDict):
    """Everything that must be equal for two runs to be comparable."""

    model: NotRequired[Annotated[str, Key("the model's name in the catalogue")]]
    revision: NotRequired[Annotated[str, Key("the hub's commit of the weights, or a digest of what was read")]]
    weights: NotRequired[
        Annotated[str, Key("source of the weights: `hub`, `path`, `embedded`, `synthetic` or `server`")]
    ]
    loader: NotRequired[Annotated[str, Key("how the weights were loaded")]]
    loader_settings: Annotated[
        dict[str, Scalar], Key("dtype, attention, quantization and the engine's settings", at_least=None)
    ]
    prompt_template: NotRequired[Annotated[str, Key("digest of the chat template and the instruction")]]
    document_source: NotRequired[Annotated[str, Key("where the documents come from")]]
    document_revision: NotRequired[
        Annotated[str, Key("the hub's commit of the documents, or a digest of what was read")]
    ]
    max_prompt_tokens: NotRequired[Annotated[int, Key("the limit of prompt tokens", unit="tokens")]]
    max_new_tokens: NotRequired[Annotated[int, Key("the limit of generated tokens", unit="tokens")]]
    batch_size: NotRequired[Annotated[int, Key("documents generated together")]]
    processes: NotRequired[Annotated[int, Key("processes that measured together; absent for one")]]
    language: NotRequired[Annotated[str, Key("code of the documents' language; absent for English")]]
    long_documents: NotRequired[
        Annotated[str, Key("how documents are read that do not fit in one prompt; absent if they are truncated")]
    ]


class DegenerateCounts(TypedDict):
    """How many summaries only look fast."""

    empty: Annotated[int, Key("summaries that are empty or only whitespace")]
    repeating: Annotated[int, Key("summaries whose three-word sequences are mostly duplicates")]


class DegenerateIds(TypedDict):
    """Which documents have such summaries."""

    empty: Annotated[list[str], Key("ids of the documents with empty summaries")]
    repeating: Annotated[list[str], Key("ids of the documents with repeating summaries")]


class Telemetry(TypedDict):
    """What the GPU did during the timed rounds. Null is unknown."""

    throttled_share: Annotated[dict[str, float], Key("share of the measured time by reason of throttling", at_most=1)]
    temperature_celsius_max: Annotated[
        int | None, Key("highest temperature at a round's edge", unit="°C", at_least=None)
    ]
    sm_clock_mhz: Annotated[list[int | None], Key("lowest and highest clock at a round's edge", unit="MHz", length=2)]
    power_watts_mean: Annotated[float | None, Key("mean power during the rounds", unit="W")]
    power_limit_watts: Annotated[float | None, Key("lowest power limit that was enforced", unit="W")]
    foreign_processes: Annotated[int | None, Key("most other processes seen on the GPU")]
    note: Annotated[str | None, Key("what could not be measured, in words")]


class LongDocuments(TypedDict):
    """Documents that did not fit in one prompt. Lists have one item per document, zero for those that fitted."""

    unread_tokens: Annotated[list[int], Key("tokens that were cut off and never read", unit="tokens")]
    earlier_calls: Annotated[list[int], Key("calls of the model before the one whose answer is the summary")]
    earlier_prompt_tokens: Annotated[list[int], Key("tokens of their prompts", unit="tokens")]
    earlier_generated_tokens: Annotated[list[int], Key("tokens of their answers", unit="tokens")]


class ModelScores(TypedDict):
    """The scores that one model of --scorer gave the summaries."""

    kind: Annotated[str, Key("`nli` or `bertscore`", may_be_empty=False)]
    source: Annotated[str, Key("name of the scorer's folder, or its hub id at a commit")]
    digest: Annotated[str, Key("digest of the scorer's files")]
    means: Annotated[dict[str, float], Key("mean over documents, by the name of the score", at_least=-1, at_most=1)]
    scores: Annotated[
        dict[str, list[float | None]],
        Key(
            "score of each document, by the name of the score; null without the reference that it needs",
            at_least=-1,
            at_most=1,
        ),
    ]


class Measurements(TypedDict):
    """What was measured in one experiment, and how."""

    schema: Annotated[int, Key("version of this schema", at_least=1)]
    kind: Annotated[KindRecord, Key("the kind of benchmark")]
    experiment: Annotated[
        str, Key("name of the experiment: model, loader and the kind's parameters", may_be_empty=False)
    ]
    model: Annotated[str, Key("the model's name in the catalogue", may_be_empty=False)]
    loader: Annotated[str, Key("how the weights were loaded", may_be_empty=False)]
    batch_size: Annotated[int, Key("documents generated together", at_least=1)]
    max_new_tokens: Annotated[int, Key("the limit of generated tokens", unit="tokens", at_least=1)]
    max_prompt_tokens: Annotated[int, Key("the limit of prompt tokens", unit="tokens", at_least=1)]
    weights: Annotated[
        str, Key("source of the weights: `hub`, `path`, `embedded`, `synthetic` or `server`", may_be_empty=False)
    ]
    workload: Annotated[str, Key("sha256 of `workload_settings`; equal for comparable runs", may_be_empty=False)]
    workload_settings: Annotated[WorkloadSettings, Key("what the fingerprint is made of")]

    document_ids: Annotated[list[str], Key("hash of each document's url and section name", may_be_empty=False)]
    batch_document_ids: Annotated[
        list[list[str]] | None, Key("ids of each batch's documents, in the order of the rounds; null without batches")
    ]
    document_tokens: Annotated[list[int], Key("the document's tokens in its prompts", unit="tokens")]
    prompt_tokens: Annotated[
        list[int], Key("the whole prompt's tokens, with instruction and template; of the last call", unit="tokens")
    ]
    generated_tokens: Annotated[list[int], Key("the summary's tokens, with the end token", unit="tokens", at_least=1)]
    time_to_first_token_seconds: Annotated[list[float], Key("from the start of the round to the first token", unit="s")]
    host_rate_per_second: Annotated[
        list[float | None],
        Key(
            "host probe just before the round: kernel launches, on a CPU loop iterations; null if not taken",
            "1/s",
            at_least=SMALLEST_POSITIVE,
        ),
    ]
    summary_sha256: Annotated[list[str], Key("the generated text's sha256", may_be_empty=False)]
    summary_characters: NotRequired[
        Annotated[list[int], Key("the generated text's length, without blanks at its ends", unit="characters")]
    ]

    generated_tokens_per_second: Annotated[float, Key("Σ generated tokens ÷ Σ seconds; this is compared", "tokens/s")]
    decode_tokens_per_second: Annotated[
        float | None, Key("tokens after the first ÷ seconds after the first; null if unknown", "tokens/s")
    ]
    document_tokens_per_second: Annotated[float, Key("Σ document tokens ÷ Σ seconds", "tokens/s")]
    documents_per_second: Annotated[float, Key("documents ÷ Σ seconds", "1/s")]

    rouge1: Annotated[float | None, Key("mean ROUGE-1 F1; null if not scored", at_most=1)]
    rouge2: Annotated[float | None, Key("mean ROUGE-2 F1; null if not scored", at_most=1)]
    rougeL: NotRequired[
        Annotated[float | None, Key("mean ROUGE-L F1; null if not scored, absent in older runs", at_most=1)]
    ]
    rougeLsum: Annotated[float | None, Key("mean ROUGE-Lsum F1; null if not scored", at_most=1)]
    rouge1_scores: Annotated[
        list[float | None],
        Key("ROUGE-1 F1 of each document, null without a reference; empty if none is scored", at_most=1),
    ]
    rouge2_scores: Annotated[
        list[float | None],
        Key("ROUGE-2 F1 of each document, null without a reference; empty if none is scored", at_most=1),
    ]
    rougeL_scores: NotRequired[
        Annotated[
            list[float | None],
            Key("ROUGE-L F1 of each document, likewise; absent in older runs", at_most=1),
        ]
    ]
    rougeLsum_scores: Annotated[
        list[float | None],
        Key("ROUGE-Lsum F1 of each document, null without a reference; empty if none is scored", at_most=1),
    ]
    rouge1_interval: Annotated[list[float] | None, Key("95% interval of the mean ROUGE-1", at_most=1, length=2)]
    rouge1_floor: Annotated[float | None, Key("lowest acceptable ROUGE-1; null if none is known", at_most=1)]
    lead3_rouge1: Annotated[float | None, Key("ROUGE-1 of the documents' first three sentences", at_most=1)]
    degenerate: Annotated[DegenerateCounts | None, Key("summaries that only look fast; null if not scored")]
    degenerate_document_ids: Annotated[
        DegenerateIds | None, Key("documents with such summaries; null if not scored or not recorded by document")
    ]
    faithfulness: Annotated[
        FaithfulnessRecord | None, Key("each summary against its document; null if not scored or not recorded")
    ]
    cap_hits: Annotated[int, Key("summaries that were cut at the token limit")]
    truncated_documents: Annotated[int, Key("documents that were cut to fit the prompt limit")]
    long_documents: NotRequired[
        Annotated[LongDocuments, Key("documents that did not fit in one prompt; absent if all did, and in older runs")]
    ]
    dropped_documents: NotRequired[
        Annotated[dict[str, int], Key("rows of the source that were left out, by reason; older runs lack it")]
    ]

    model_scores: NotRequired[
        Annotated[dict[str, ModelScores], Key("scores by the name of the --scorer; absent without scorers")]
    ]

    load_seconds: Annotated[float, Key("duration of loading the model", unit="s")]
    compile_seconds: Annotated[
        float | None, Key("duration of compiling for this test; null if nothing is compiled", unit="s")
    ]
    tuned_kernels: Annotated[str | None, Key("digest of the kernels that the compiler chose; null if unknown")]
    peak_memory_bytes: Annotated[
        int | None, Key("peak memory during the rounds; null if unknown", unit="bytes", at_least=1)
    ]
    load_peak_memory_bytes: Annotated[int | None, Key("peak memory during loading; null if unknown", unit="bytes")]
    weights_bytes: Annotated[int | None, Key("weights in memory; null if unknown", unit="bytes", at_least=1)]
    weights_read_bytes: Annotated[int | None, Key("weights that one decode step reads; null if unknown", unit="bytes")]
    cache_bytes_per_token: Annotated[
        int | None, Key("keys and values of one token in all layers; null if unknown", unit="bytes")
    ]
    predicted_memory_bytes: Annotated[int | None, Key("peak memory as predicted; null if unknown", unit="bytes")]
    copy_bandwidth_bytes_per_second: Annotated[float | None, Key("copy bandwidth of the device", unit="bytes/s")]
    model_bandwidth_utilization: Annotated[
        float | None,
        Key(
            "bytes of weights and KV cache read for decoding ÷ copy bandwidth; of weights alone without `cache_bytes_per_token`"
        ),
    ]
    joules_per_token: Annotated[float | None, Key("energy per generated token; null if unknown", unit="J")]
    telemetry: Annotated[Telemetry, Key("what the GPU did during the rounds")]
    controls: Annotated[dict[str, ProbeRecord], Key("machine probes by name; empty if none were measured")]
    speed_probes: Annotated[list[str], Key("names of the machine probes that the speed depends on")]
    carried_from: NotRequired[Annotated[str, Key("name of the earlier run that measured it, in a resumed run")]]


class ExtraInfo(Measurements, Decision, Confirmation, HistoryKeys, KindKeys, StudentKeys):
    """Facts and figures of one experiment. Lists have one item per document, in document order, unless they say otherwise."""
