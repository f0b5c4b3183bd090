"""The tables of docs/results/servers.md: stored runs of servers, beside what the author of the first table published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from summarybench.catalogue.published import published_by_mlperf, published_throughput
from summarybench.commands.docs_tables import newest_of, stored_experiments
from summarybench.core.numbers import MISSING, decimal
from summarybench.report.experiment import ExperimentView
from summarybench.report.figures import quality, speed
from summarybench.report.figures.declared import figures_of_kind
from summarybench.report.markdown import markdown_table
from summarybench.runs.profile_record import Scenario, scenario_of

NONE_STORED = "No run of a server is stored yet.\n"
TEXT_COLUMNS = ("model", "way", "GPU", "measured")
BESIDE_MLPERF = ("model", "way", "GPU", "documents/s", "new tokens", "source")
AT_ONCE = ("model", "way", "GPU", "documents/s", "documents", "new tokens", "ROUGE-1", "measured")


def server_tables(baselines: Path) -> dict[str, str]:
    """Each table by its name. Raises InputError for a stored run that cannot be used."""
    folders = [folder for folder in sorted(baselines.glob("*")) if folder.is_dir()]
    stored = [each for folder in folders for each in newest_of(list(stored_experiments(folder)))]
    served = [each for each in stored if "served" in each.info]
    return {"later": _later(served), "served": _served(served), "mlperf": _mlperf(stored)}


def _later(served: Sequence[ExperimentView]) -> str:
    """The published rows, and the stored ones with all documents at once."""
    rows = [
        [
            row.model,
            row.way,
            row.family.upper(),
            decimal(row.documents_per_second, 3),
            str(row.documents),
            f"≤ {row.max_new_tokens}",
            MISSING if row.rouge1 is None else f"{decimal(row.rouge1, 3)} unstemmed",
            "as published",
        ]
        for row in published_throughput()
    ]
    rows += [
        [
            each.info["model"],
            each.way,
            each.source.device_name,
            speed.DOCUMENTS_PER_SECOND.text(each),
            speed.DOCUMENTS.text(each),
            f"≤ {each.info['max_new_tokens']}",
            quality.ROUGE1.format.number(quality.ROUGE1.value(each)),
            f"{each.source.date[:10]}, {each.info['weights']} weights",
        ]
        for each in served
        if each.info["batch_size"] == len(each.info["document_ids"])
    ]
    return f"{markdown_table(AT_ONCE, rows, TEXT_COLUMNS)}\n"


def _mlperf(stored: Sequence[ExperimentView]) -> str:
    """MLPerf's rows, and for the same GPUs the fastest stored experiment of each model and precision with one GPU."""
    families = dict.fromkeys(row.family for row in published_by_mlperf())
    fastest: dict[tuple[str, str, str], ExperimentView] = {}
    for each in sorted(stored, key=_documents_per_second):
        if (
            each.source.record.family in families
            and each.consumption.gpus == 1
            and scenario_of(each.kind, each.info) is Scenario.OFFLINE
        ):
            fastest[each.source.device_name, each.info["model"], _format(each)] = each
    rows = [
        [
            row.model,
            row.way,
            row.family.upper(),
            decimal(row.documents_per_second, 1),
            "≤ 128",
            f"{row.round} {row.scenario}, {row.date}: {row.source}",
        ]
        for row in published_by_mlperf()
    ]
    rows += [
        [
            each.info["model"],
            each.way if "served" in each.info else f"{each.precision}, {each.way}",
            each.source.device_name,
            decimal(_documents_per_second(each), 1),
            f"≤ {each.info['max_new_tokens']}",
            f"this suite, {each.source.date[:10]}, {each.info['weights']} weights: {each.source.stored.label}",
        ]
        for each in sorted(fastest.values(), key=lambda each: (each.source.device_name, -_documents_per_second(each)))
    ]
    return f"{markdown_table(BESIDE_MLPERF, rows, (*TEXT_COLUMNS, 'source'))}\n"


def _documents_per_second(experiment: ExperimentView) -> float:
    return float(experiment.info["documents_per_second"])


def _format(experiment: ExperimentView) -> str:
    """What the weights were loaded as; a server's set-up says that."""
    return experiment.way if "served" in experiment.info else experiment.precision


def _served(served: Sequence[ExperimentView]) -> str:
    """Every stored experiment with a server, with the figures that its kind declares."""
    if not served:
        return NONE_STORED
    figures = figures_of_kind(served[0].kind)
    shown = [each for each in figures if any(each.value(experiment) is not None for experiment in served)]
    headings = ("model", "way", "GPU", speed.GENERATED.heading, *(each.heading for each in shown), "engine", "measured")
    rows = [
        [
            each.info["model"],
            each.way,
            each.source.device_name,
            speed.GENERATED.text(each),
            *(figure.text(each) for figure in shown),
            f"{each.info['served']['engine']} {each.info['served']['engine_version']}",
            f"{each.source.date[:10]}, {each.info['weights']} weights",
        ]
        for each in served
    ]
    return f"{markdown_table(headings, rows, (*TEXT_COLUMNS, 'engine'))}\n"
