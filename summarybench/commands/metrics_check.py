"""`summarybench metrics-check RUN`: spoil a run's summaries on purpose, and print what each metric says of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from summarybench.analysis.corruptions import Summarized, check_metrics
from summarybench.core.files import write_where_asked
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.core.paths import user_path
from summarybench.documents.sources import embedded_documents
from summarybench.report.metrics_check import metrics_check_table
from summarybench.runs.baselines import open_run
from summarybench.runs.documents_table import read_documents_table
from summarybench.runs.run_file import Entry, device_of, entries_of

DOCUMENTS = "documents.parquet"
MOST_SUMMARIES = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=user_path, metavar="RUN", help="a results folder, such as results/latest")
    parser.add_argument(
        "--experiment", metavar="NAME", help="whose summaries (default: the first experiment with scored summaries)"
    )
    parser.add_argument(
        "--documents",
        type=int,
        default=MOST_SUMMARIES,
        metavar="N",
        help=f"how many summaries at most (default: {MOST_SUMMARIES})",
    )
    parser.add_argument(
        "--output",
        type=user_path,
        metavar="FILE",
        help="also write the summaries and what they are from, as the JSON that `summarybench docs` reads",
    )


def run(options: argparse.Namespace) -> int:
    """Print the table. Raises InputError for a run without texts or scores, and for an experiment that it does not have."""
    stored = open_run(options.run)
    entry = _entry(entries_of(stored.run), options.experiment, stored.path)
    rows = _rows(stored.path.with_name(DOCUMENTS), entry, options.documents)
    samples = [Summarized(text=row["text"], reference=row["reference"], summary=row["summary"]) for row in rows]
    print(metrics_check_table(check_metrics(samples)), end="")
    if options.output is not None:
        device = device_of(stored.run)
        facts = {
            "experiment": entry.experiment,
            "device": device.name,
            "commit": stored.commit,
            "datetime": stored.run["datetime"],
            "max_new_tokens": entry.extra_info["max_new_tokens"],
            "summaries": {row["document_id"]: row["summary"] for row in rows},
        }
        write_where_asked(options.output, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return ExitCode.CLEAN


def _entry(entries: Sequence[Entry], name: str | None, path: Path) -> Entry:
    scored = {each.experiment: each for each in reversed(entries) if each.texts}
    if name is None and scored:
        return list(scored.values())[-1]
    if name in scored:
        return scored[str(name)]
    there = ", ".join(reversed(scored)) or "none"
    raise InputError(f"{path} has no scored summaries of {name or 'any experiment'}; it has those of: {there}")


def _rows(table: Path, entry: Entry, most: int) -> Sequence[Mapping[str, Any]]:
    """The rows of documents.parquet with a document, a reference and a summary."""
    if most < 1:
        raise InputError(f"--documents {most}: give 1 or more")
    rows = [each for each in read_documents_table(table) if each["experiment"] == entry.experiment]
    return [each for each in rows if each["text"] and each["reference"]][:most]


def stored_table(facts: Mapping[str, Any]) -> str:
    """The table of summaries of the built-in documents. Raises KeyError for a document that is not among them."""
    documents = {each.id: each for each in embedded_documents().documents}
    samples = [
        Summarized(text=documents[each].text, reference=documents[each].reference, summary=summary)
        for each, summary in facts["summaries"].items()
    ]
    return metrics_check_table(check_metrics(samples))
