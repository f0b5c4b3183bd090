"""Faithfulness of runs from before it was recorded, from the texts in their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from summarybench.documents.languages import ENGLISH, LANGUAGES
from summarybench.runs.baselines import StoredRun
from summarybench.runs.documents_table import read_documents_table
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.faithfulness_record import FaithfulnessRecord
from summarybench.runs.schema import Benchmark

DOCUMENTS = "documents.parquet"


def with_faithfulness(stored: StoredRun) -> StoredRun:
    """The run with the faithfulness of each scored experiment that lacks it, where its folder has the texts.

    A run without texts is returned unchanged. Raises InputError if the file of texts cannot be read.
    """
    table = stored.path.with_name(DOCUMENTS)
    lacking = [each for each in stored.run["benchmarks"] if _lacks(each["extra_info"])]
    if stored.path.name != "run.json" or not table.is_file() or not lacking:
        return stored
    rows = {(each["experiment"], each["document_id"]): each for each in read_documents_table(table)}
    benchmarks = [_completed(each, rows) if each in lacking else each for each in stored.run["benchmarks"]]
    return replace(stored, run={**stored.run, "benchmarks": benchmarks})


def _lacks(info: ExtraInfo) -> bool:
    """Whether the summaries were scored, or at least checked, and faithfulness was not recorded."""
    return info["faithfulness"] is None and info["degenerate"] is not None


def _completed(benchmark: Benchmark, rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> Benchmark:
    info = benchmark["extra_info"]
    own = [rows.get((info["experiment"], each), {}) for each in info["document_ids"]]
    if not all(each.get("text") and each.get("summary") is not None for each in own):
        return benchmark
    derived: ExtraInfo = {**info, "faithfulness": _record(own, info)}
    return {**benchmark, "extra_info": derived}


def _record(rows: Sequence[Mapping[str, Any]], info: ExtraInfo) -> FaithfulnessRecord | None:
    from summarybench.analysis.faithfulness import as_record, faithfulness_of

    language = LANGUAGES.get(info["workload_settings"].get("language", ""), ENGLISH)
    return as_record(
        [faithfulness_of(each["summary"], each["text"], each.get("reference") or "", language) for each in rows]
    )
