"""Continuous batching: what a round's figures are, that no request fails silently, and that its memory is bounded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from summarybench.core.outcomes import DeviceMemoryError, RequestsFailedError
from summarybench.engines.memory_model import MemoryPrediction
from summarybench.engines.paged import PAGE_TOKENS, PagedEngine, finished, limits_for
from summarybench.kinds.continuous import ContinuousKind
from summarybench.measure.continuous import Round, as_extra_info
from tests.conftest import FAKE_MODELS, REAL_MODELS
from tests.fake_engine import FakeManager

PROMPTS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
ONE = ("-m", "continuous", "-k", "default", "--max-new-tokens", "4")

FAKE_ENGINE = (
    FAKE_MODELS
    + """
    from summarybench.kinds.continuous import ContinuousKind
    from summarybench.kinds.registry import register
    from tests.fake_engine import FakeEngine, FakeManager

    class FakeContinuous(ContinuousKind):
        def start_engine(self, toolbox, loaded, prompts, max_new_tokens):
            return FakeEngine(FakeManager(TIME, OPTIONS))

    register(FakeContinuous())
"""
)


def with_engine(options: str = "") -> str:
    return FAKE_ENGINE.replace("OPTIONS", options)


# Requests --------------------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_prompts():
    results = finished(FakeManager(), PROMPTS, max_new_tokens=2)
    assert [each.generated_tokens for each in results] == [[3, 4], [7, 8], [11, 12]]


def test_failed_and_missing_requests_are_counted_and_the_thread_is_stopped():
    manager = FakeManager(failing=[1], lost=[2])
    with pytest.raises(RequestsFailedError) as raised:
        finished(manager, PROMPTS, max_new_tokens=2)
    assert str(raised.value) == "of 3 requests submitted at once 1 failed and 1 never came back: no such page"
    assert manager.stops == 1


def test_what_ended_the_engines_thread_is_told_in_one_line():
    manager = FakeManager(fatal=ValueError("no page\nfor it"))
    with pytest.raises(RequestsFailedError, match=r"0 failed and 3 never came back: no page for it$"):
        finished(manager, PROMPTS, max_new_tokens=2)


def test_memory_that_runs_out_in_the_engines_thread_is_raised_as_what_it_is():
    error = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(RuntimeError) as raised:
        finished(FakeManager(fatal=error), PROMPTS, max_new_tokens=2)
    assert raised.value is error


# Memory ----------------------------------------------------------------------------------------------------------


def predict(pages):
    return MemoryPrediction(weights_bytes=1_000, cache_bytes=10 * pages, workspace_bytes=5)


@pytest.mark.parametrize(
    ("free_bytes", "requests", "pages"),
    [(73, 3, 6), (72, 2, 5), (61, 1, 3)],  # documents of 3, 2 and 1 pages, and nine tenths of what is free
)
def test_as_many_requests_are_let_in_as_fit_with_the_longest_among_them(free_bytes, requests, pages):
    sequences = [PAGE_TOKENS, 3 * PAGE_TOKENS, PAGE_TOKENS + 1]
    limits = limits_for(sequences, predict, free_bytes, may_refuse=True)
    assert (limits.requests, limits.pages) == (requests, pages)


def test_document_that_does_not_fit_alone_is_refused_unless_predictions_are_off():
    with pytest.raises(DeviceMemoryError, match=r"out of memory \(predicted\): .* for one document at a time"):
        limits_for([3 * PAGE_TOKENS], predict, 10, may_refuse=True)
    assert limits_for([3 * PAGE_TOKENS], predict, 10, may_refuse=False).requests == 1


# Sessions --------------------------------------------------------------------------------------------------------


def test_round_is_the_whole_sample_and_its_figures_are_of_whole_rounds(project):
    project.use(with_engine())
    session = project.bench(*ONE, "--documents", "3", "--rounds", "2")
    assert session.exit_code == 0, session.output
    (benchmark,) = session.run["benchmarks"]
    info = benchmark["extra_info"]
    assert benchmark["stats"]["data"] == [2.0, 2.0]  # four steps of half a second
    assert info["generated_tokens_per_second"] == 2 * 3 * 4 / 4.0
    assert info["documents_per_second"] == 2 * 3 / 4.0
    assert info["finish_seconds"] == [2.0] * 3
    assert info["time_to_first_token_seconds"] == [0.5] * 3
    assert info["decode_tokens_per_second"] is None
    assert (info["batch_size"], info["predicted_memory_bytes"]) == (3, 1_234)
    assert info["workload_settings"]["loader_settings"]["paged_attention"] == "sdpa"
    a_round = {"seconds": 2.0, "generated_tokens": 12, "steps": 4, "changed_summaries": 0}
    assert info["continuous"]["rounds"] == [a_round, a_round]
    assert "smollm2-135m-instruct-default-continuous" in session.output
    assert (session.folder / "closed").read_text().count("closed") == 1


def test_profiler_adds_no_round(project):
    project.use(with_engine())
    session = project.bench(*ONE, "--documents", "3", "--rounds", "2", "--benchmark-cprofile=tottime")
    assert session.exit_code == 0, session.output
    (benchmark,) = session.run["benchmarks"]
    assert len(benchmark["stats"]["data"]) == len(benchmark["extra_info"]["continuous"]["rounds"]) == 2


@pytest.mark.parametrize(
    ("options", "exit_code", "told"),
    [
        ("failing=[0]", 1, "of 3 requests submitted at once 1 failed and 0 never came back: no such page"),
        ("lost=[1]", 1, "of 3 requests submitted at once 0 failed and 1 never came back: the engine gives no reason"),
        ("short=[2]", 1, "1 of 3 requests stopped before the token limit without an end token, the first after 1 of 4"),
        ("fatal=MemoryError('nothing left')", 1, "out of memory while generating: nothing left"),
        ("fatal=RuntimeError('CUDA error: fell off')", 11, "the GPU was lost: CUDA error: fell off"),
    ],
)
def test_failure_is_one_line_and_the_engine_is_closed(project, options, exit_code, told):
    project.use(with_engine(options))
    session = project.bench(*ONE, "--documents", "3")
    assert session.exit_code == exit_code, session.output
    assert told in session.run["outcomes"][0]["detail"]
    assert "Traceback" not in session.output
    assert (session.folder / "closed").exists()


def test_engine_is_closed_on_ctrl_c(project):
    project.use(with_engine("raises=KeyboardInterrupt()"))
    session = project.bench(*ONE, "--documents", "3")
    assert session.exit_code == 2
    assert (session.folder / "closed").exists()


def test_eight_rounds_of_the_same_documents_make_a_verdict_and_fewer_do_not(project):
    project.use(with_engine())
    assert project.bench(*ONE, "--documents", "3", "--rounds", "8", "--benchmark-save=main").exit_code == 0
    info = project.bench(*ONE, "--documents", "3", "--rounds", "8").infos["default"]
    assert (info["change"]["ratio"], info["change"]["documents"]) == (1.0, 8)
    assert "8 rounds, noise: processes" in info["verdict_detail"]
    fewer = project.bench(*ONE, "--documents", "3", "--rounds", "7").infos["default"]
    assert fewer["verdict"] == "INCOMPARABLE"
    assert "has 7 rounds in common with this run, and 8 are needed" in fewer["verdict_detail"]
    others = project.bench(*ONE, "--documents", "3", "--rounds", "8", "--seed", "1").infos["default"]
    assert "has 0 rounds in common" in others["verdict_detail"]


def test_kind_runs_only_when_named(project):
    assert not any(name.endswith("continuous") for name in project.bench("--documents", "1").outcomes)


def test_llama2_and_mistral_have_it_in_16_and_4_bits():
    names = {each.name for each in ContinuousKind().experiments() if "h100" in each.families}
    assert {
        f"{model}-{loader}-continuous"
        for model in ("llama2-7b-chat", "mistral-7b-instruct")
        for loader in ("fp16", "4-bit")
    } <= names


# The real engine -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_model(tiny_llama):
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(tiny_llama, attn_implementation="sdpa", trust_remote_code=False).eval()
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=0, pad_token_id=0)
    return model


@pytest.mark.slow
def test_engine_with_room_for_two_generates_what_the_model_generates_one_by_one(tiny_model):
    import torch

    prompts = [list(range(start, start + length)) for start, length in ((5, 300), (50, 20), (90, 7), (200, 120))]
    limits = limits_for([len(each) + 8 for each in prompts], predict, 49, may_refuse=True)
    assert (limits.requests, limits.pages) == (2, 3)
    engine = PagedEngine(tiny_model, limits, longest_sequence=308)
    try:
        results = engine.run(prompts, 8)
        again = engine.run(prompts, 8)
    finally:
        engine.close()
    alone = [tiny_model.generate(torch.tensor([each]), max_new_tokens=8)[0, len(each) :].tolist() for each in prompts]
    assert [each.generated_tokens for each in results] == alone
    assert [each.generated_tokens for each in again] == alone
    assert not engine._manager.is_running()
    assert all(len(each.timestamps) == len(each.generated_tokens) for each in results)  # none was evicted
    assert engine.settings["paged_attention"] == tiny_model.config._attn_implementation == "sdpa"


@pytest.mark.slow
def test_prompt_that_no_page_is_left_for_is_told(tiny_model):
    limits = limits_for([PAGE_TOKENS], predict, 1_000, may_refuse=True)
    engine = PagedEngine(tiny_model, limits, longest_sequence=PAGE_TOKENS)
    try:
        with pytest.raises(RequestsFailedError, match="of 2 requests submitted at once"):
            engine.run([[7] * 20, [7] * 400], 4)
    finally:
        engine.close()


@pytest.mark.slow
def test_embedded_model_goes_through_a_real_session(project):
    project.use(REAL_MODELS)
    session = project.bench(*ONE, "--documents", "2", "--rounds", "1")
    assert session.exit_code == 0, session.output
    info = session.infos["default"]
    assert len(info["finish_seconds"]) == 2
    assert max(info["finish_seconds"]) <= session.run["benchmarks"][0]["stats"]["data"][0]
    assert info["continuous"]["requests_in_flight"] == 2


# Utilization ---------------------------------------------------------------------------------------------------------


def test_utilization_counts_the_weights_once_a_step_and_the_cache_of_each_document_without_padding():
    records = [
        SimpleNamespace(prompt_tokens=prompt, generated_tokens=generated, document_tokens=1, seconds=1.0)
        for prompt, generated in ((500, 10), (100, 20))
    ]
    cache_tokens = 9 * 500 + 45 + 19 * 100 + 190
    rounds = [
        Round(seconds=4.0, generated_tokens=30, steps=25, changed_summaries=0, cache_tokens=cache_tokens),
    ] * 2
    limits = SimpleNamespace(
        predicted=SimpleNamespace(total_bytes=1), requests=2, pages=3, page_tokens=4, step_tokens=5
    )
    info = as_extra_info(
        SimpleNamespace(records=records, generated_tokens=60),
        rounds,
        limits,
        weights_read_bytes=1_000,
        cache_bytes_per_token=2,
        copy_bandwidth=1e4,
    )
    assert info["model_bandwidth_utilization"] == (25 * 1_000 + 2 * cache_tokens) / 4.0 / 1e4
