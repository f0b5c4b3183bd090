"""The tables of README.md and docs/ that come from the stored runs of GPUs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from summarybench.analysis.device_noise import measures_gpu
from summarybench.catalogue.models import LOADERS, MODELS
from summarybench.catalogue.published import published_rows
from summarybench.core.numbers import MISSING, decimal
from summarybench.report.environment import versions_of
from summarybench.report.experiment import EAGER, ExperimentView, Source, experiments_of, label_of_server
from summarybench.report.figures import device, memory, quality, speed
from summarybench.report.figures.declared import declared_figure
from summarybench.report.figures.figure import Column, Figure
from summarybench.report.layout import columns_of
from summarybench.report.markdown import escaped, markdown_table
from summarybench.report.tables import SIDE_BY_SIDE, way_rows
from summarybench.runs import built_in_kinds
from summarybench.runs.baselines import StoredRun, read_baselines
from summarybench.runs.run_file import device_of


def stored_tables(baselines: Path) -> dict[str, str]:
    """Each table by its name. Raises InputError for a stored run that cannot be used."""
    stored = {folder: list(stored_experiments(folder)) for folder in sorted(baselines.glob("*")) if folder.is_dir()}
    newest = [each for experiments in stored.values() for each in newest_of(experiments)]
    of_one_process = [each for each in newest if not _is_distributed(each)]
    runs = [run for experiments in stored.values() for run in runs_with_ways(experiments)]
    return {
        "published": _as_published([each for own in stored.values() for each in _like_published(own)]),
        "measured": _measured(of_one_process),
        "scaling": _scaling([each for each in newest if _is_distributed(each)]),
        "headline": _headline([group for run in runs for group in run if _has_ways(group)]),
        "ways": _ways(runs),
        "fastest": _fastest(of_one_process),
    }


# The stored experiments ----------------------------------------------------------------------------------------------


def stored_experiments(folder: Path) -> Iterator[ExperimentView]:
    """Every experiment with a speed of its own in one device's folder of baselines, the oldest run first.

    CPUs are left out: two CPUs with the same name can differ more than any two results here.
    """
    baselines = read_baselines(folder)
    for stored in baselines.runs:
        if measures_gpu(device_of(stored.run), baselines):
            for each in experiments_of([Source(stored=stored, baselines=baselines)]):
                if each.kind.is_own_speed or _is_distributed(each):
                    yield each


def newest_of(experiments: Sequence[ExperimentView]) -> list[ExperimentView]:
    """The newest measurement of each experiment and workload."""
    return _last_of_each(experiments, lambda each: (each.entry.name, each.info["workload"]))


def _last_of_each(
    experiments: Iterable[ExperimentView], key: Callable[[ExperimentView], Hashable]
) -> list[ExperimentView]:
    return sorted({key(each): each for each in experiments}.values(), key=_order)


def _like_published(experiments: Sequence[ExperimentView]) -> list[ExperimentView]:
    """The newest measurement of each experiment with single documents and a model of the published table."""
    models = {row.model for row in published_rows()}
    alike = (each for each in experiments if _is_plain(each) and each.info["model"] in models)
    return _last_of_each(alike, lambda each: each.entry.name)


Ways: TypeAlias = Sequence[ExperimentView]
"""The experiments of one run with one model and precision, eager first."""


def runs_with_ways(experiments: Sequence[ExperimentView]) -> list[list[Ways]]:
    """The precisions of one model in each run that ran at least one of them in more than one way.

    A server whose label names the precision is one of its ways.
    """
    runs: dict[tuple[Path, str], dict[str, list[ExperimentView]]] = {}
    for each in experiments:
        if _is_way(each):
            precision = _precision(each)
            run = runs.setdefault((each.source.stored.path, each.info["model"]), {})
            run.setdefault(precision, []).append(each)
    return [
        [
            sorted(group, key=lambda each: (each.kind.place, each.info["batch_size"], each.info["loader"]))
            for group in run
        ]
        for run in ([*run.values()] for run in runs.values())
        if any(map(_has_ways, run))
    ]


def _has_ways(group: Ways) -> bool:
    return len({each.way for each in group}) > 1


def _is_distributed(experiment: ExperimentView) -> bool:
    """Whether several processes measured it, each with a GPU."""
    return built_in_kinds.ONE_ALONE.value_in(experiment.info) is not None


def _is_way(experiment: ExperimentView) -> bool:
    """Whether the kind is a way of running one model and precision, and compares its speed with others."""
    kind = experiment.kind
    return kind.place is not None and kind.is_own_speed and not kind.compared_count


def _is_plain(experiment: ExperimentView) -> bool:
    """Whether single documents were measured, which is the usual kind: it has no title."""
    return not experiment.kind.title


def _order(experiment: ExperimentView) -> tuple[Any, ...]:
    """By model, loader and kind, as the catalogue and the kinds are ordered."""
    info, place = experiment.info, experiment.kind.place
    return (
        _index(list(MODELS), info["model"]),
        _index(list(LOADERS), info["loader"]),
        len(LOADERS) if place is None else place,
        info["batch_size"],
        experiment.entry.name,
    )


def _index(known: Sequence[str], name: str) -> int:
    return known.index(name) if name in known else len(known)


# What the tables say about them --------------------------------------------------------------------------------------


def _text(experiment: ExperimentView, *shown: Figure) -> list[str]:
    """The figures without their intervals."""
    return [each.format.number(each.value(experiment)) for each in shown]


def _device(experiment: ExperimentView) -> str:
    return experiment.source.device_name


def _day(stored: StoredRun) -> str:
    return str(stored.run["datetime"])[:10]


def _weights(experiment: ExperimentView) -> str:
    return f"{experiment.info['weights']} weights"


def _when(experiment: ExperimentView) -> str:
    return f"{_day(experiment.source.stored)}, {_weights(experiment)}"


def conditions_of(experiment: ExperimentView) -> str:
    """What the rows of one table have in common: device, day, versions, weights, documents and limits."""
    stored = experiment.source.stored
    settings = experiment.info["workload_settings"]
    what = [
        _weights(experiment),
        *([f"documents {settings['document_source']}"] if settings.get("document_source") else []),
        f"prompts of at most {experiment.info['max_prompt_tokens']:,} tokens",
        f"{experiment.info['max_new_tokens']} new tokens at most",
    ]
    versions = ", ".join(versions_of(stored.environment))
    return f"{_device(experiment)}, {_day(stored)}: {versions}; {', '.join(what)}"


# The tables ----------------------------------------------------------------------------------------------------------

STEMMED_ROUGE1 = "ROUGE-1 (stemmed)"
TEXT_COLUMNS = ("experiment", "GPU", "measured", "way")
"""Headings of columns that hold texts."""

MEASURED = columns_of(
    speed.DOCUMENTS,
    speed.GENERATED,
    speed.DOCUMENT_TOKENS,
    Column(figure=quality.ROUGE1, heading=STEMMED_ROUGE1, has_interval=False),
    memory.PEAK,
    Column(figure=memory.PREDICTED, heading="predicted GiB"),
    device.UTILIZATION,
    device.JOULES,
)


def _measured(experiments: Sequence[ExperimentView]) -> str:
    groups: dict[str, list[ExperimentView]] = {}
    for each in experiments:
        groups.setdefault(conditions_of(each), []).append(each)
    parts = []
    for conditions, group in groups.items():
        rows = [[each.name, *(column.cell(column.figure.value(each)).text for column in MEASURED)] for each in group]
        headings = ["experiment", *(column.long_heading for column in MEASURED)]
        parts.append(f"**{escaped(conditions)}**\n\n{_table(headings, rows)}")
    return "\n".join(parts) if parts else "No run of a GPU is stored.\n"


NO_WAYS = "No run of several ways is stored.\n"


def _ways(runs: Sequence[Sequence[Ways]]) -> str:
    """A table for each run and model, with all conditions in its title."""

    def table(run: Sequence[Ways]) -> str:
        first = run[0][0]
        (documents,) = _text(first, speed.DOCUMENTS)
        title = f"{first.info['model']}, {documents} documents ({conditions_of(first)})"
        return _side_by_side(title, run, SIDE_BY_SIDE, lambda each: f"{_precision(each)}, {_way(each)}")

    return "\n".join(map(table, runs)) or NO_WAYS


def _headline(groups: Sequence[Ways]) -> str:
    """The run with the most ways, and the newest of several. Its versions are on the page of all ways."""
    if not groups:
        return NO_WAYS
    group = max(groups, key=lambda each: (len(each), _day(each[0].source.stored)))
    first = group[0]
    (documents,) = _text(first, speed.DOCUMENTS)
    title = f"{first.info['model']}, {first.precision}, {_device(first)}, {documents} documents ({_when(first)})"
    return _side_by_side(title, [group], [each for each in SIDE_BY_SIDE if each.figure is not device.UTILIZATION], _way)


def _side_by_side(
    title: str, run: Sequence[Ways], columns: Sequence[Column], name_of: Callable[[ExperimentView], str]
) -> str:
    rows = [
        [name_of(row.experiment), *(cell.text for cell in row.cells[1:])]
        for group in run
        for row in way_rows(group, columns)
    ]
    return f"**{escaped(title)}**\n\n{_table([column.long_heading for column in columns], rows)}"


def _precision(experiment: ExperimentView) -> str:
    return label_of_server(experiment.entry) or experiment.precision


def _way(experiment: ExperimentView) -> str:
    """How a precision was run. A server is named by its engine: the table says the precision."""
    if served := experiment.info.get("served"):
        load = experiment.way.rpartition(", ")[2]
        return f"{served['engine']} {served['engine_version']}, {load}"
    return experiment.way


FASTEST_HEADINGS = (
    "experiment",
    "GPU",
    "documents",
    "generated tok/s",
    "documents/s",
    "× one at a time, eager",
    "peak GiB",
)


def _fastest(experiments: Sequence[ExperimentView]) -> str:
    """`--fastest` beside the newest single documents of the same model and precision on the same GPU, eager."""
    fastest = [each for each in experiments if each.kind.is_beside_eager]
    if not fastest:
        return "No run with --fastest is stored.\n"
    return _table(FASTEST_HEADINGS, [_fastest_cells(each, _eager_way_of(each, experiments)) for each in fastest])


def _eager_way_of(experiment: ExperimentView, others: Sequence[ExperimentView]) -> ExperimentView | None:
    mine = experiment.source.stored.path.parent, experiment.info["model"], experiment.precision
    eager = [
        each
        for each in others
        if each.way == EAGER
        and _is_plain(each)
        and (each.source.stored.path.parent, each.info["model"], each.precision) == mine
    ]
    return max(eager, key=lambda each: str(each.source.stored.run["datetime"]), default=None)


def _fastest_cells(experiment: ExperimentView, eager: ExperimentView | None) -> list[str]:
    times = MISSING
    if eager is not None:
        ratio = float(experiment.info["generated_tokens_per_second"]) / float(eager.info["generated_tokens_per_second"])
        times = f"{decimal(ratio, 1)} ({eager.source.stored.label})"
    return [
        experiment.name,
        _device(experiment),
        *_text(experiment, speed.DOCUMENTS, speed.GENERATED, speed.DOCUMENTS_PER_SECOND),
        times,
        *_text(experiment, memory.PEAK),
    ]


PROCESSES, *SPEEDS_AND_EFFICIENCY = (
    declared_figure(built_in_kinds.DISTRIBUTED, each)
    for each in (
        built_in_kinds.PROCESSES,
        built_in_kinds.ONE_ALONE,
        built_in_kinds.ALL_AT_ONCE,
        built_in_kinds.SCALING_EFFICIENCY,
    )
)
SCALING = (PROCESSES, speed.DOCUMENTS, *SPEEDS_AND_EFFICIENCY)


def _scaling(experiments: Sequence[ExperimentView]) -> str:
    if not experiments:
        return "No run of several GPUs is stored.\n"
    headings = ["experiment", "GPU", *(each.heading for each in SCALING), "measured"]
    rows = [[each.name, _device(each), *_text(each, *SCALING), _when(each)] for each in experiments]
    return _table(headings, rows)


AS_PUBLISHED = (
    "experiment",
    "GPU",
    "document tok/s",
    "generated tok/s",
    "documents",
    "s/document",
    STEMMED_ROUGE1,
    "measured",
)


def _as_published(experiments: Sequence[ExperimentView]) -> str:
    rows = [
        [
            f"{row.model}-{row.loader}",
            row.family.upper(),
            decimal(row.document_tokens_per_second, 2),
            f"≤ {decimal(row.max_new_tokens / row.seconds_per_document, 1)}",
            str(row.documents),
            decimal(row.seconds_per_document, 3),
            _with_common_documents(row.rouge1_stemmed, row.rouge1_common_documents_stemmed),
            f"as published; unstemmed {_with_common_documents(row.rouge1, row.rouge1_common_documents)}",
        ]
        for row in published_rows()
    ]
    shown = (speed.DOCUMENT_TOKENS, speed.GENERATED, speed.DOCUMENTS, speed.MEAN_SECONDS, quality.ROUGE1)
    rows += [[each.name, _device(each), *_text(each, *shown), _when(each)] for each in experiments]
    return _table(AS_PUBLISHED, rows)


def _with_common_documents(own: float | None, common: float) -> str:
    """A published score on the row's own sample and, in brackets, on the sample that all rows have in common."""
    return f"{decimal(own, 3)} ({decimal(common, 3)})"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"{markdown_table(headings, rows, TEXT_COLUMNS)}\n"
