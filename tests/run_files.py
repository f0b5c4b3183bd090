"""Hand-made run files: every key that a real one has, and figures a test can count on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from summarybench.catalogue.models import EXPERIMENTS
from summarybench.core.outcomes import Verdict
from summarybench.machine.device import GIB, DeviceRecord
from summarybench.machine.probes import EVERY_PROBE, OF_THE_GPU
from summarybench.runs.built_in_kinds import KINDS_BY_TEST
from summarybench.runs.comparison_records import FirstPassRecord
from summarybench.runs.kind_facts import Unit
from summarybench.runs.migration import migrated

A100 = DeviceRecord(
    kind="cuda",
    name="NVIDIA A100-SXM4-40GB",
    slug="nvidia-a100-sxm4-40gb",
    family="a100",
    memory_bytes=40 * GIB,
    compute_dtype="bfloat16",
)
MACHINE = {
    "device": "NVIDIA A100-SXM4-40GB",
    "device_memory_bytes": 40 * GIB,
    "driver": "580.95.05",
    "cuda": "13.0",
    "cpu": "an EPYC",
    "cpu_count": 12,
    "host": "0123456789ab",
    "python": "3.11.7",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "bitsandbytes": "0.50.2",
    "accelerate": "1.15.0",
}


def benchmark(name: str = "llama2-7b-chat-4-bit", *, seconds: tuple[float, ...] = (2.0,) * 8, **info: Any) -> Any:
    """One experiment of a run: 100 tokens a document, which are 'document 1' and on; `info` goes over its extra_info."""
    experiment = next(each for each in EXPERIMENTS if each.name == name)
    count = len(seconds)
    extra_info = {
        "schema": 1,
        "experiment": name,
        "model": experiment.model,
        "loader": experiment.loader,
        "batch_size": 1,
        "max_new_tokens": 100,
        "max_prompt_tokens": 2_048,
        "weights": "hub",
        "workload": "a workload",
        "workload_settings": {"max_new_tokens": 100, "loader_settings": {"dtype": "float16"}},
        "document_ids": [f"document {number}" for number in range(1, count + 1)],
        "batch_document_ids": None,
        "document_tokens": [500] * count,
        "prompt_tokens": [550] * count,
        "generated_tokens": [100] * count,
        "time_to_first_token_seconds": [0.25] * count,
        "host_rate_per_second": [None] * count,
        "summary_sha256": ["0" * 64] * count,
        "generated_tokens_per_second": 100 * count / sum(seconds),
        "decode_tokens_per_second": 99 * count / (sum(seconds) - 0.25 * count),
        "document_tokens_per_second": 500 * count / sum(seconds),
        "documents_per_second": count / sum(seconds),
        "rouge1": 0.25,
        "rouge2": 0.0625,
        "rougeL": 0.1,
        "rougeLsum": 0.125,
        "rouge1_scores": [0.25] * count,
        "rouge2_scores": [0.0625] * count,
        "rougeL_scores": [0.1] * count,
        "rougeLsum_scores": [0.125] * count,
        "rouge1_interval": [0.2, 0.3],
        "rouge1_floor": 0.1875,
        "lead3_rouge1": 0.25,
        "faithfulness": None,
        "degenerate": {"empty": 0, "repeating": 1},
        "degenerate_document_ids": {"empty": [], "repeating": ["document 1"]},
        "cap_hits": 2,
        "truncated_documents": 3,
        "summary_characters": [400] * count,
        "dropped_documents": {},
        "load_seconds": 12.5,
        "compile_seconds": None,
        "tuned_kernels": None,
        "peak_memory_bytes": 5 * GIB,
        "load_peak_memory_bytes": 4 * GIB,
        "weights_bytes": 4 * GIB,
        "predicted_memory_bytes": 6 * GIB,
        "copy_bandwidth_bytes_per_second": 1.2e12,
        "model_bandwidth_utilization": 0.5,
        "weights_read_bytes": 4 * GIB,
        "cache_bytes_per_token": 512 * 1024,
        "joules_per_token": 4.0,
        "controls": {},
        "speed_probes": list(OF_THE_GPU if "compiled" in experiment.loader else EVERY_PROBE),
        "telemetry": {
            "throttled_share": {},
            "temperature_celsius_max": 60,
            "sm_clock_mhz": [1_410, 1_410],
            "power_watts_mean": 250.0,
            "power_limit_watts": 400.0,
            "foreign_processes": 0,
            "note": None,
        },
        "verdict": Verdict.NO_BASELINE.value,
        "verdict_detail": f"no baseline for '{name}'",
        "baseline": None,
        "change": None,
        "attribution": None,
        "anchor": None,
        "first_pass": None,
        "first_token_change": None,
        "decode_change": None,
        "environment_differences": [],
        "quality_change": None,
        "faithfulness_change": None,
        "history": None,
    }
    return {
        "name": f"test_summarize[{name}]",
        "fullname": f"benchmarks/test_summarize.py::test_summarize[{name}]",
        "extra_info": extra_info | kind_implied_by(info) | info | completed(info, extra_info),
        "stats": {"data": list(seconds)},
    }


def kind_implied_by(info: dict[str, Any]) -> dict[str, Any]:
    """The key `kind` where these keys imply another one than the test's name does."""
    if "largest_safe_batch" not in info:
        return {}
    unit = Unit.BATCH if info.get("batch_document_ids") else Unit.DOCUMENT
    return {"kind": replace(KINDS_BY_TEST["test_largest_safe_batch"], unit=unit).as_record()}


CHANGE = {
    "ratio": 1.0,
    "low": 0.99,
    "high": 1.01,
    "confidence": 0.95,
    "p_value": 0.5,
    "documents": 8,
    "baseline_runs": 1,
    "passes": 1,
}
"""No change. A test gives the figures that it is about; a record has all of them."""
ANCHOR = {"file": "0001_anchor.json", "commit": "a commit", "verdict": "UNCHANGED", **CHANGE}
BASELINE = {"file": "0001_main.json", "run": "0001_main.json", "commit": "a commit", "runs": ["0001_main.json"]}


def completed(info: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """What `info` implies: records about comparisons with all their keys, and no scores where there is no mean of them."""
    whole: dict[str, Any] = {"change": CHANGE, "anchor": ANCHOR, "baseline": BASELINE, "attribution": {"detail": ""}}
    found: dict[str, Any] = {key: record | info[key] for key, record in whole.items() if info.get(key)}
    if info.get("rouge1", measured["rouge1"]) is None:
        found["rouge1_scores"] = []  # synthetic weights: nothing was scored
    if first := info.get("first_pass"):
        keys = FirstPassRecord.__annotations__.keys() & measured.keys()
        passed = {key: measured[key] for key in keys} | {"run": "the first pass", "seconds": [2.0] * 8} | first
        found["first_pass"] = passed | completed({"change": passed["change"]}, measured)
    return found


def faithfulness_of_documents(**lists: list[Any]) -> dict[str, list[Any]]:
    """The record `faithfulness` of 8 summaries in which nothing is new; `lists` go over it."""
    counts = dict.fromkeys(("numbers", "novel_numbers", "dates", "novel_dates", "names", "novel_names"), [0] * 8)
    figures = {"compression": [10.0] * 8, "length_ratio": [1.0] * 8, "coverage": [1.0] * 8, "density": [2.0] * 8}
    return dict.fromkeys(("novel_words", "novel_bigrams", "novel_trigrams"), [0.0] * 8) | counts | figures | lists


def outcome(name: str, what: str, detail: str = "") -> dict[str, Any]:
    nodeid = f"benchmarks/test_summarize.py::test_summarize[{name}]"
    return {
        "nodeid": nodeid,
        "experiment": name,
        "outcome": what,
        "detail": detail,
        "quality_only": False,
        "machine_only": False,
        "wrong_input": False,
        "is_final": True,
    }


def run_of(*benchmarks: Any, outcomes: tuple[dict[str, Any], ...] = (), **machine: Any) -> dict[str, Any]:
    """A run on an A100, as it is read; `machine` goes over its machine_info."""
    run = {
        "machine_info": MACHINE | machine,
        "commit_info": {"id": "a commit"},
        "benchmarks": list(benchmarks),
        "outcomes": list(outcomes),
    }
    return cast(dict[str, Any], migrated(run))


def replicates(experiment: str, speeds: tuple[float, ...], **facts: Any) -> dict[str, Any]:
    """A group of replicates as spread.json has it: one run per speed, 8 documents; `facts` go over it."""
    return {
        "experiment": experiment,
        "workload": "a workload",
        "measured": [f"2026-01-{number:02}T00:00:00+00:00" for number in range(1, len(speeds) + 1)],
        "documents": 8,
        "generated_tokens_per_second": list(speeds),
        "speed_deviation": 0.01,
        "document_deviation": 0.1,
        "controls": {},
    } | facts
