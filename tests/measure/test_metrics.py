import pytest

from summarybench.measure.generation import GenerationRecord
from summarybench.measure.metrics import Speed, speed_of, time_to_first_token_seconds


def record(start, first_token, end, *, generated=10, document=100):
    return GenerationRecord(
        document_id=f"document at {start}",
        document_tokens=document,
        prompt_tokens=document + 20,
        generated_tokens=generated,
        truncated=False,
        hit_cap=False,
        start_seconds=start,
        first_token_seconds=first_token,
        end_seconds=end,
        summary="A summary.",
    )


def test_every_figure_is_a_ratio_of_sums_or_a_percentile():
    records = [record(0.0, 1.0, 3.0, generated=11, document=100), record(10.0, 12.0, 17.0, generated=21, document=300)]
    assert speed_of(records) == Speed(
        generated_tokens_per_second=32 / 10,
        decode_tokens_per_second=30 / 7,
        decode_steps_per_second=30 / 7,
        cache_tokens_per_second=(10 * 120 + 55 + 20 * 320 + 210) / 7,
        document_tokens_per_second=400 / 10,
        documents_per_second=2 / 10,
        time_to_first_token_p50_seconds=1.5,
        time_to_first_token_p95_seconds=None,
        seconds_per_document_p50=5.0,
        seconds_per_document_p95=None,
    )


def test_twenty_documents_carry_a_p95():
    speed = speed_of([record(0.0, float(number), 2.0 * number) for number in range(1, 21)])
    assert speed.time_to_first_token_p95_seconds == pytest.approx(19.05)
    assert speed.seconds_per_document_p95 == pytest.approx(38.1)


def test_one_document_carries_no_percentile():
    speed = speed_of([record(0.0, 1.0, 2.0)])
    assert speed.time_to_first_token_p50_seconds is None
    assert speed.seconds_per_document_p50 is None


def test_summaries_of_one_token_have_no_decode_speed():
    speed = speed_of([record(0.0, 1.0, 1.0, generated=1), record(2.0, 3.0, 3.5, generated=1)])
    assert speed.decode_tokens_per_second is None
    assert speed.generated_tokens_per_second == 2 / 2.5


def test_the_first_token_s_time_counts_from_the_start_of_its_own_document():
    assert time_to_first_token_seconds(record(10.0, 10.25, 12.0)) == 0.25
