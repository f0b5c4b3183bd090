"""The bytes that decoding reads: weights and KV cache, also of runs from before they counted the cache."""

from __future__ import annotations

import pytest

from summarybench.analysis.utilization import cache_tokens_read, utilization_of
from summarybench.catalogue.kv_cache import cache_bytes_per_token
from summarybench.catalogue.models import MODELS
from summarybench.runs.run_file import entries_of, read_run
from tests.forked import ROOT
from tests.run_files import benchmark, run_of

H100 = ROOT / "baselines" / "nvidia-h100-80gb-hbm3"


@pytest.mark.parametrize(
    ("prompts", "generated", "tokens"),
    [
        ([10], [1], 0),
        ([10], [3], 11 + 12),
        ([10, 4], [3, 2], 2 * (11 + 12)),
    ],
    ids=["first-token-only", "one-document", "batch-padded-to-its-longest-prompt-and-decoded-until-its-last-end"],
)
def test_each_step_reads_the_cache_of_the_whole_batch(prompts, generated, tokens):
    assert cache_tokens_read(prompts, generated) == tokens


@pytest.mark.parametrize(
    ("model", "dtype", "kib"),
    [("llama2-7b-chat", "float16", 512), ("llama2-7b-chat", "float32", 1024), ("mistral-7b-instruct", "bfloat16", 128)],
)
def test_cache_of_one_token_follows_from_the_model_s_shape(model, dtype, kib):
    assert cache_bytes_per_token(MODELS[model].shape, dtype) == kib * 1024


@pytest.mark.parametrize(
    ("run", "name", "weights_alone", "utilization"),
    [
        ("0008_throughput", "test_batching[llama2-7b-chat-fp16-batch32]", 0.084, 0.309),
        ("0008_throughput", "test_batching[llama2-7b-chat-fp16-batch8]", 0.221, 0.281),
        ("0008_throughput", "test_summarize[llama2-7b-chat-fp16]", 0.236, 0.241),
    ],
)
def test_stored_runs_count_the_cache_too(run, name, weights_alone, utilization):
    (entry,) = (each for each in entries_of(read_run(H100 / f"{run}.json")) if each.name == name)
    assert entry.extra_info["model_bandwidth_utilization"] == pytest.approx(weights_alone, abs=5e-4)
    assert utilization_of(entry) == pytest.approx(utilization, abs=5e-4)


def stored(**info):
    """An old run's entry: 8 documents of 550 + 100 tokens, 2 s each, 0.25 s to the first token."""
    return entries_of(run_of(benchmark(**{"cache_bytes_per_token": None, **info})))[0]


def test_old_run_adds_the_cache_read_per_second_of_decoding():
    tokens = 99 * 550 + 99 * 100 / 2
    assert utilization_of(stored()) == pytest.approx(0.5 + tokens * 512 * 1024 / 1.75 / 1.2e12)


def test_round_over_the_whole_sample_counts_all_its_seconds_and_no_padding():
    rounds = [{"seconds": 4.0, "generated_tokens": 30}] * 2
    found = stored(
        seconds=(4.0, 4.0),
        document_ids=["a", "b"],
        prompt_tokens=[500, 100],
        generated_tokens=[10, 20],
        sample_rounds=rounds,
        kind={"name": "continuous", "unit": "round"},
    )
    tokens = 9 * 500 + 45 + 19 * 100 + 190
    assert utilization_of(found) == pytest.approx(0.5 + tokens * 512 * 1024 / 4.0 / 1.2e12)


def test_run_that_states_its_cache_has_counted_it():
    assert utilization_of(stored(cache_bytes_per_token=1)) == 0.5


@pytest.mark.parametrize(
    "info",
    [
        {"model": "a-student"},
        {"workload_settings": {}},
        {"copy_bandwidth_bytes_per_second": None},
        {"model_bandwidth_utilization": None},
    ],
    ids=["another-model", "no-dtype", "no-copy-bandwidth", "not-measured"],
)
def test_old_run_without_the_facts_has_no_utilization(info):
    assert utilization_of(stored(**info)) is None
