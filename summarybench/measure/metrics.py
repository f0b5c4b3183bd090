"""The speed of an experiment, computed from its raw records.

Each figure has its formula beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from summarybench.analysis.utilization import cache_tokens_read
from summarybench.measure.generation import GenerationRecord
from summarybench.stats.intervals import percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The speed of one experiment over its documents.

    Percentiles are None where there are too few documents.
    """

    generated_tokens_per_second: float
    """Σ generated tokens ÷ Σ seconds: the figure that is compared with the baseline."""
    decode_tokens_per_second: float | None
    """Σ (generated − 1) ÷ Σ (end − first token); None where every summary has one token."""
    decode_steps_per_second: float | None
    """The same for each round's longest summary: how often the weights are read. At batch size 1 both are equal."""
    cache_tokens_per_second: float | None
    """Σ cached tokens that the decode steps read ÷ the seconds of decoding."""
    document_tokens_per_second: float
    """Σ document tokens ÷ Σ seconds: the first published table calls it tokens/sec."""
    documents_per_second: float
    time_to_first_token_p50_seconds: float | None
    time_to_first_token_p95_seconds: float | None
    seconds_per_document_p50: float | None
    seconds_per_document_p95: float | None


def time_to_first_token_seconds(record: GenerationRecord) -> float:
    """Seconds from the prompt on the device to the first token.

    In a batch, the first token of every document counts.
    """
    return record.first_token_seconds - record.start_seconds


def speed_of(records: Sequence[GenerationRecord]) -> Speed:
    """All figures of speed, computed from the records alone."""
    seconds = [record.seconds for record in records]
    total_seconds = fsum(seconds)
    decode_seconds = fsum(record.decode_seconds for record in records)
    rounds: dict[tuple[int, str], list[GenerationRecord]] = {}
    for record in records:
        rounds.setdefault(record.round_key, []).append(record)
    steps = sum(max(record.generated_tokens for record in a_round) - 1 for a_round in rounds.values())
    cache_tokens = sum(
        cache_tokens_read([each.prompt_tokens for each in a_round], [each.generated_tokens for each in a_round])
        for a_round in rounds.values()
    )
    decoded_tokens = sum(record.generated_tokens - 1 for record in records)
    first_tokens = [time_to_first_token_seconds(record) for record in records]
    return Speed(
        generated_tokens_per_second=sum(record.generated_tokens for record in records) / total_seconds,
        decode_tokens_per_second=decoded_tokens / decode_seconds if decoded_tokens else None,
        decode_steps_per_second=steps / decode_seconds if decoded_tokens else None,
        cache_tokens_per_second=cache_tokens / decode_seconds if decoded_tokens else None,
        document_tokens_per_second=sum(record.document_tokens for record in records) / total_seconds,
        documents_per_second=len(records) / total_seconds,
        time_to_first_token_p50_seconds=percentile(first_tokens, 50),
        time_to_first_token_p95_seconds=percentile(first_tokens, 95),
        seconds_per_document_p50=percentile(seconds, 50),
        seconds_per_document_p95=percentile(seconds, 95),
    )
