"""GPU time, money and energy of summaries."""

from __future__ import annotations

from typing import Any

import pytest

from summarybench.analysis.cost import consumption_of
from summarybench.core.outcomes import InputError
from summarybench.core.price import parse_price

FLEET = {"servers": 3, "documents_per_second_alone": 1.0, "scaling_efficiency": 1.0}


def info(**more: Any) -> Any:
    """10 tokens a document, 2 documents a second, 9 joules a token."""
    speed = {"documents_per_second": 2.0, "generated_tokens_per_second": 20.0, "joules_per_token": 9.0}
    return {**speed, **more}


def served(command: str = "", **more: Any) -> Any:
    return info(served={"command": command, **more})


def test_cost_is_seconds_times_price_and_energy_is_joules():
    found = consumption_of(info(), is_gpu=True)
    assert found.cost_of_documents(1_000, 3.60) == pytest.approx(0.50)  # 500 s of 0.001 a second
    assert found.cost_of_tokens(1_000_000, 3.60) == pytest.approx(50.0)
    assert found.watt_hours_of_documents(1_000) == pytest.approx(25.0)  # 90 J a document
    assert found.watt_hours_of_tokens(1_000_000) == pytest.approx(2_500.0)


def test_without_a_price_there_is_no_cost_and_without_a_counter_no_energy():
    found = consumption_of(info(joules_per_token=None), is_gpu=True)
    assert (found.cost_of_documents(1, None), found.cost_of_tokens(1, None)) == (None, None)
    assert (found.watt_hours_of_documents(1), found.watt_hours_of_tokens(1)) == (None, None)


def test_processes_are_paid_until_the_last_one_ends():
    shards = [{"documents": 10, "generated_tokens": 100, "seconds": seconds} for seconds in (4.0, 5.0)]
    found = consumption_of(info(processes=2, scaling={"per_process": shards}), is_gpu=True)
    assert (found.gpus, found.gpu_seconds_per_document, found.gpu_seconds_per_token) == (2, 0.5, 0.05)
    assert found.joules_per_document == 90.0


def test_processes_of_one_cpu_share_one_machine():
    shards = [{"documents": 10, "generated_tokens": 100, "seconds": 5.0}] * 2
    found = consumption_of(info(processes=2, scaling={"per_process": shards}), is_gpu=False)
    assert (found.gpus, found.gpu_seconds_per_document) == (1, 0.25)


@pytest.mark.parametrize(
    ("served_info", "gpus"),
    [
        (served(), 1),
        (served("vllm serve m --port 1"), 1),
        (served("vllm serve m --tensor-parallel-size 4"), 4),
        (served("vllm serve m -tp 2 --data-parallel-size=3"), 6),
        (served("python -m sglang.launch_server --tp 2"), 2),
        (served("vllm serve m --tp-fraction 0.5"), 1),
        (served(fleet=FLEET), 3),
    ],
)
def test_each_server_has_as_many_gpus_as_its_command_asks_for(served_info, gpus):
    found = consumption_of(served_info, is_gpu=True)
    assert (found.gpus, found.gpu_seconds_per_document) == (gpus, gpus / 2)
    assert found.joules_per_token == (9.0 if gpus == 1 else None)  # the counter was one GPU's


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "-inf", "1e300", "2,50", "$2", ""])
def test_a_price_is_a_positive_number(text):
    with pytest.raises(InputError, match=r"^--gpu-hour-price .*: give the price of one GPU for an hour as a positive"):
        parse_price(text)


def test_a_price_has_no_currency():
    assert parse_price("2.50") == 2.5
