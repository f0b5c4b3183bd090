"""How raw records become named figures with units. Each formula stands beside its figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from summarybench.measure.generation import GenerationRecord
from summarybench.stats.intervals import percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """The speed of one experiment over its documents; percentiles are None where the documents are too few to carry them."""

    generated_tokens_per_second: float
    """Σ generated tokens ÷ Σ seconds: the figure that is compared with the baseline."""
    decode_tokens_per_second: float | None
    """Σ (generated − 1) ÷ Σ (end − first token); None where every summary is one token long."""
    decode_steps_per_second: float | None
    """The same of each round's longest summary: how often the weights are read. At batch size 1 the two are one."""
    document_tokens_per_second: float
    """Σ document tokens ÷ Σ seconds: what the first published table calls tokens/sec."""
    documents_per_second: float
    time_to_first_token_p50_seconds: float | None
    time_to_first_token_p95_seconds: float | None
    seconds_per_document_p50: float | None
    seconds_per_document_p95: float | None


def time_to_first_token_seconds(record: GenerationRecord) -> float:
    """From the prompt on the device to the first token chosen; in a batch, of all its rows."""
    return record.first_token_seconds - record.start_seconds


def speed_of(records: Sequence[GenerationRecord]) -> Speed:
    """All figures of speed, from nothing but the records."""
    seconds = [record.seconds for record in records]
    total_seconds = fsum(seconds)
    decode_seconds = fsum(record.decode_seconds for record in records)
    steps: dict[tuple[int, str], int] = {}
    for record in records:
        steps[record.round_key] = max(steps.get(record.round_key, 0), record.generated_tokens - 1)
    decoded_tokens = sum(record.generated_tokens - 1 for record in records)
    first_tokens = [time_to_first_token_seconds(record) for record in records]
    return Speed(
        generated_tokens_per_second=sum(record.generated_tokens for record in records) / total_seconds,
        decode_tokens_per_second=decoded_tokens / decode_seconds if decoded_tokens else None,
        decode_steps_per_second=sum(steps.values()) / decode_seconds if decoded_tokens else None,
        document_tokens_per_second=sum(record.document_tokens for record in records) / total_seconds,
        documents_per_second=len(records) / total_seconds,
        time_to_first_token_p50_seconds=percentile(first_tokens, 50),
        time_to_first_token_p95_seconds=percentile(first_tokens, 95),
        seconds_per_document_p50=percentile(seconds, 50),
        seconds_per_document_p95=percentile(seconds, 95),
    )
