"""One measured experiment as `extra_info` of the run file."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.analysis.faithfulness import as_record
from summarybench.analysis.quality import Quality
from summarybench.engines.engine import EngineFacts
from summarybench.machine.telemetry import as_extra_info
from summarybench.measure.generation import GenerationRecord, Measured
from summarybench.measure.metrics import Speed, speed_of, time_to_first_token_seconds
from summarybench.runs.journal_lines import Record
from summarybench.runs.kind_facts import KIND, KindFacts, Unit
from summarybench.runs.run_file import ROUGE_TYPES, SCHEMA
from summarybench.runs.workload import Workload


def extra_info_of(
    loaded: EngineFacts,
    workload: Workload,
    measured: Measured,
    quality: Quality | None,
    copy_bandwidth: float | None,
    kind: KindFacts,
) -> Record:
    """One experiment's facts and figures in plain JSON types.

    Lists have one item a document, in document order. `batch_document_ids` has one list for each round, in the order of
    `stats.data`. It is None for kinds whose rounds are not batches. `copy_bandwidth` is the device's in bytes per
    second, or None where it was not measured.
    """
    records = measured.records
    speed = speed_of(records)
    return {
        "schema": SCHEMA,
        "experiment": loaded.experiment.name,
        KIND: kind.as_record(),
        **_workload_fields(workload),
        "document_ids": [record.document_id for record in records],
        "batch_document_ids": [[record.document_id for record in a_round] for a_round in measured.rounds]
        if kind.unit is Unit.BATCH
        else None,
        "document_tokens": [record.document_tokens for record in records],
        "prompt_tokens": [record.prompt_tokens for record in records],
        "generated_tokens": [record.generated_tokens for record in records],
        "time_to_first_token_seconds": [time_to_first_token_seconds(record) for record in records],
        "host_rate_per_second": [record.host_rate_per_second for record in records],
        "summary_sha256": [record.summary_sha256 for record in records],
        "summary_characters": [len(record.summary.strip()) for record in records],
        "generated_tokens_per_second": speed.generated_tokens_per_second,
        "decode_tokens_per_second": speed.decode_tokens_per_second,
        "document_tokens_per_second": speed.document_tokens_per_second,
        "documents_per_second": speed.documents_per_second,
        **_quality_fields(quality),
        "cap_hits": sum(record.hit_cap for record in records),
        **_long_documents(records),
        "load_seconds": loaded.load_seconds,
        "compile_seconds": loaded.compile_seconds,
        "tuned_kernels": loaded.tuned_kernels,
        "speed_probes": list(loaded.speed_probes),
        "peak_memory_bytes": measured.peak_memory_bytes,
        "load_peak_memory_bytes": loaded.load_peak_memory_bytes,
        "weights_bytes": loaded.weights_bytes,
        "weights_read_bytes": loaded.weights_read_bytes,
        "cache_bytes_per_token": loaded.cache_bytes_per_token,
        "predicted_memory_bytes": loaded.predicted_memory_bytes,
        "copy_bandwidth_bytes_per_second": copy_bandwidth,
        "model_bandwidth_utilization": _utilization(loaded, speed, copy_bandwidth),
        **as_extra_info(measured.telemetry, measured.generated_tokens),
        "controls": {name: dict(figures) for name, figures in measured.machine_probes.items()},
    }


def _workload_fields(workload: Workload) -> Record:
    return {
        "model": workload.model,
        "loader": workload.loader,
        "batch_size": workload.batch_size,
        "max_new_tokens": workload.max_new_tokens,
        "max_prompt_tokens": workload.max_prompt_tokens,
        "weights": workload.weights,
        "workload": workload.fingerprint,
        "workload_settings": workload.as_dict(),
    }


LONG_DOCUMENTS = ("unread_tokens", "earlier_calls", "earlier_prompt_tokens", "earlier_generated_tokens")


def _long_documents(records: Sequence[GenerationRecord]) -> Record:
    """The counts of documents that did not fit in one prompt, by document only if there are any."""
    truncated = {"truncated_documents": sum(record.truncated for record in records)}
    if not any(record.unread_tokens or record.earlier_calls for record in records):
        return truncated
    counts = {name: [getattr(each, name) for each in records] for name in LONG_DOCUMENTS}
    return truncated | {"long_documents": counts}


def _quality_fields(quality: Quality | None) -> Record:
    """ROUGE scores, degenerate outputs and faithfulness.

    They are None or empty for synthetic weights, whose output is noise. Without references, there are no scores.
    """
    if quality is None:
        return {
            **dict.fromkeys((*ROUGE_TYPES, "rouge1_interval", "rouge1_floor", "lead3_rouge1")),
            **dict.fromkeys(("degenerate", "degenerate_document_ids", "faithfulness")),
            **{f"{name}_scores": [] for name in ROUGE_TYPES},
        }
    interval = quality.rouge1_interval
    return {
        **quality.means,
        **{f"{name}_scores": list(scores) for name, scores in quality.scores.items()},
        "rouge1_interval": None if interval is None else [interval.low, interval.high],
        "rouge1_floor": None if quality.floor is None else quality.floor.rouge1,
        "lead3_rouge1": quality.lead3_rouge1,
        "degenerate": {kind: len(ids) for kind, ids in quality.degenerate_document_ids.items()},
        "degenerate_document_ids": {kind: list(ids) for kind, ids in quality.degenerate_document_ids.items()},
        "faithfulness": as_record(quality.faithfulness),
    }


def _utilization(loaded: EngineFacts, speed: Speed, copy_bandwidth: float | None) -> float | None:
    """Bytes of weights and KV cache read per second of decoding ÷ copy bandwidth of the device. 1 is the limit."""
    weights_bytes, steps = loaded.weights_read_bytes, speed.decode_steps_per_second
    cache_bytes, cache_tokens = loaded.cache_bytes_per_token, speed.cache_tokens_per_second
    if copy_bandwidth is None or weights_bytes is None or cache_bytes is None or steps is None or cache_tokens is None:
        return None
    return (weights_bytes * steps + cache_bytes * cache_tokens) / copy_bandwidth
