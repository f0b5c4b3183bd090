"""The tables of README.md and docs/ that come from the stored runs of GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import LOADERS, MODELS
from summarybench.catalogue.published import published_rows
from summarybench.machine.device import GIB
from summarybench.machine.environment import VERSIONS
from summarybench.report.markdown import escaped, markdown_row
from summarybench.report.page import USUAL_TEST
from summarybench.report.terminal import EAGER, way_of
from summarybench.runs.baselines import StoredRun, read_baselines
from summarybench.runs.run_file import Entry, device_of

KINDS = (USUAL_TEST, "test_batching", "test_largest_safe_batch", "test_continuous", "test_fastest")
"""The order of a loader's rows."""
WAYS = (USUAL_TEST, "test_batching", "test_continuous", "test_fastest")
"""The kinds that are ways of running one model and precision over the same documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One experiment of a stored GPU run."""

    stored: StoredRun
    entry: Entry

    @property
    def info(self) -> Mapping[str, Any]:
        return self.entry.extra_info

    @property
    def date(self) -> str:
        return str(self.stored.run["datetime"])[:10]

    @property
    def weights(self) -> str:
        return f"{self.info['weights']} weights"

    @property
    def conditions(self) -> str:
        """What the rows of one table have in common: where, when, with which versions, and of what."""
        machine = self.stored.environment
        settings = self.info["workload_settings"]
        versions = [f"{name} {machine[name]}" for name in VERSIONS if machine.get(name) is not None]
        what = [
            self.weights,
            *([f"documents {settings['document_source']}"] if settings.get("document_source") else []),
            f"{self.info['max_new_tokens']} new tokens at most",
        ]
        return f"{machine['device']}, {self.date}: {', '.join(versions)}; {', '.join(what)}"

    @property
    def is_spread(self) -> bool:
        """Whether several processes, each with a GPU, measured it."""
        return "scaling" in self.info

    @property
    def precision(self) -> str:
        """The loader's name, whether it is compiled or not."""
        return str(self.info["loader"]).removesuffix("-compiled")

    @property
    def way(self) -> str:
        """How documents were run: `eager`, or `compiled, batch 8`."""
        return way_of(self.info)

    @property
    def tokens_per_second(self) -> float:
        return float(self.info["generated_tokens_per_second"])

    @property
    def order(self) -> tuple[Any, ...]:
        models, loaders = list(MODELS), list(LOADERS)
        return (
            _place(models, self.info["model"]),
            _place(loaders, self.info["loader"]),
            _place(KINDS, self.entry.test),
            self.info["batch_size"],
            self.entry.name,
        )


def _place(known: Sequence[str], name: str) -> int:
    return known.index(name) if name in known else len(known)


def stored_tables(baselines: Path) -> dict[str, str]:
    """Each table by its name. Raises InputError for a stored run that cannot be used."""
    stored = {folder: list(stored_rows(folder)) for folder in sorted(baselines.glob("*")) if folder.is_dir()}
    newest = [row for rows in stored.values() for row in newest_of(rows)]
    of_one = [row for row in newest if not row.is_spread]
    groups = [group for rows in stored.values() for group in ways_of(rows)]
    return {
        "published": _as_published([row for row in of_one if row.entry.test == USUAL_TEST]),
        "measured": _measured(of_one),
        "scaling": _scaling([row for row in newest if row.is_spread]),
        "headline": _headline(groups),
        "ways": _ways(groups),
        "fastest": _fastest(of_one),
    }


def stored_rows(folder: Path) -> Iterator[Row]:
    """Every entry of speed in one device's folder of baselines, the oldest run first.

    CPUs are left out: two with one name differ by more than there is to show.
    """
    for stored in read_baselines(folder).runs:
        if not device_of(stored.run).is_gpu:
            continue
        for benchmark in stored.run["benchmarks"]:
            entry = stored.entry(benchmark["name"])
            row = None if entry is None else Row(stored=stored, entry=entry)
            if row and (row.entry.is_own_speed or row.is_spread):
                yield row


def newest_of(rows: Sequence[Row]) -> list[Row]:
    """The newest row of each experiment and workload."""
    newest = {(row.entry.name, row.info["workload"]): row for row in rows}
    return sorted(newest.values(), key=lambda row: row.order)


def ways_of(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each run that ran one model and precision in more than one way, eager first."""
    groups: dict[tuple[Path, str, str], list[Row]] = {}
    for row in rows:
        if row.entry.test in WAYS and not row.is_spread:
            groups.setdefault((row.stored.path, row.info["model"], row.precision), []).append(row)
    return [
        sorted(group, key=lambda row: (_place(WAYS, row.entry.test), row.info["batch_size"], row.info["loader"]))
        for group in groups.values()
        if len({row.way for row in group}) > 1
    ]


# The tables ------------------------------------------------------------------------------------------------------

STEMMED_ROUGE1 = "ROUGE-1 (stemmed)"

MEASURED: Mapping[str, Callable[[Row], str]] = {
    "experiment": lambda row: row.entry.experiment,
    "documents": lambda row: str(len(row.info["document_ids"])),
    "generated tok/s": lambda row: _number(row.info, "generated_tokens_per_second", 1),
    "document tok/s": lambda row: _number(row.info, "document_tokens_per_second", 1),
    STEMMED_ROUGE1: lambda row: _number(row.info, "rouge1", 3),
    "peak GiB": lambda row: _gib(row.info, "peak_memory_bytes"),
    "predicted GiB": lambda row: _gib(row.info, "predicted_memory_bytes"),
    "bandwidth utilization": lambda row: _number(row.info, "model_bandwidth_utilization", 3),
    "J/token": lambda row: _number(row.info, "joules_per_token", 2),
}


def _measured(rows: Sequence[Row]) -> str:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.conditions, []).append(row)
    parts = []
    for conditions, group in groups.items():
        cells = [[cell(row) for cell in MEASURED.values()] for row in group]
        parts += [f"**{escaped(conditions)}**\n", _table(list(MEASURED), cells)]
    return "\n".join(parts) if parts else "No run of a GPU is stored.\n"


UTILIZATION = "bandwidth utilization"
WAY: Mapping[str, Callable[[Row], str]] = {
    "way": lambda row: row.way,
    "generated tok/s": lambda row: _number(row.info, "generated_tokens_per_second", 1),
    "documents/s": lambda row: _number(row.info, "documents_per_second", 2),
    UTILIZATION: lambda row: _number(row.info, "model_bandwidth_utilization", 3),
    "peak GiB": lambda row: _gib(row.info, "peak_memory_bytes"),
}
NO_WAYS = "No run of several ways is stored.\n"


def _ways(groups: Sequence[Sequence[Row]]) -> str:
    """A table for each of them, with all versions in its title."""

    def titled(group: Sequence[Row]) -> str:
        first = group[0]
        documents = len(first.info["document_ids"])
        return f"{first.info['model']}, {first.precision}, {documents} documents ({first.conditions})"

    return "\n".join(_side_by_side(titled(group), group, WAY) for group in groups) or NO_WAYS


def _headline(groups: Sequence[Sequence[Row]]) -> str:
    """The run with the most ways, the newest of several; its versions are on the page of all of them."""
    if not groups:
        return NO_WAYS
    group = max(groups, key=lambda each: (len(each), each[0].date))
    first = group[0]
    device, documents = first.stored.environment["device"], len(first.info["document_ids"])
    title = f"{first.info['model']}, {first.precision}, {device}, {documents} documents ({first.date}, {first.weights})"
    return _side_by_side(title, group, {name: cell for name, cell in WAY.items() if name != UTILIZATION})


def _side_by_side(title: str, group: Sequence[Row], columns: Mapping[str, Callable[[Row], str]]) -> str:
    """One table of ways; the speeds are divided by eager's, where eager is among them."""
    eager = next((row for row in group if row.way == EAGER), None)
    cells = []
    for row in group:
        way, speed, *others = (cell(row) for cell in columns.values())
        times = "–" if eager is None else f"{row.tokens_per_second / eager.tokens_per_second:.2f}"
        cells.append([way, speed, times, *others])
    way, speed, *others = columns
    return f"**{escaped(title)}**\n\n{_table([way, speed, '× eager', *others], cells)}"


FASTEST_HEADINGS = (
    "experiment",
    "GPU",
    "documents",
    "generated tok/s",
    "documents/s",
    "× one at a time, eager",
    "peak GiB",
)


def _fastest(rows: Sequence[Row]) -> str:
    """`--fastest` beside the newest single documents of the same model and precision on the same GPU, eager."""
    fastest = [row for row in rows if row.entry.test == "test_fastest"]
    if not fastest:
        return "No run with --fastest is stored.\n"
    return _table(FASTEST_HEADINGS, [_fastest_cells(row, _eager_twin(row, rows)) for row in fastest])


def _eager_twin(row: Row, rows: Sequence[Row]) -> Row | None:
    def is_twin(other: Row) -> bool:
        return (
            other.entry.test == USUAL_TEST
            and other.way == EAGER
            and other.stored.path.parent == row.stored.path.parent
            and (other.info["model"], other.precision) == (row.info["model"], row.precision)
        )

    return max(filter(is_twin, rows), key=lambda other: str(other.stored.run["datetime"]), default=None)


def _fastest_cells(row: Row, eager: Row | None) -> list[str]:
    times = "–" if eager is None else f"{row.tokens_per_second / eager.tokens_per_second:.1f} ({eager.stored.label})"
    return [
        row.entry.experiment,
        str(row.stored.environment["device"]),
        str(len(row.info["document_ids"])),
        _number(row.info, "generated_tokens_per_second", 1),
        _number(row.info, "documents_per_second", 2),
        times,
        _gib(row.info, "peak_memory_bytes"),
    ]


SCALING: Mapping[str, Callable[[Row], str]] = {
    "experiment": lambda row: row.entry.experiment,
    "GPU": lambda row: str(row.stored.environment["device"]),
    "processes": lambda row: str(row.info["processes"]),
    "documents": lambda row: str(len(row.info["document_ids"])),
    "one alone tok/s": lambda row: _number(row.info["scaling"], "tokens_per_second_alone", 1),
    "all at once tok/s": lambda row: _number(row.info["scaling"], "tokens_per_second", 1),
    "efficiency": lambda row: _number(row.info, "scaling_efficiency", 3),
    "measured": lambda row: f"{row.date}, {row.weights}",
}


def _scaling(rows: Sequence[Row]) -> str:
    if not rows:
        return "No run of several GPUs is stored.\n"
    return _table(list(SCALING), [[cell(row) for cell in SCALING.values()] for row in rows])


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


def _as_published(rows: Sequence[Row]) -> str:
    cells = [
        [
            f"{row.model}-{row.loader}",
            row.family.upper(),
            f"{row.document_tokens_per_second:.2f}",
            f"≤ {row.max_new_tokens / row.seconds_per_document:.1f}",
            str(row.documents),
            f"{row.seconds_per_document:.3f}",
            _with_common_documents(row.rouge1_stemmed, row.rouge1_common_documents_stemmed),
            f"as published; unstemmed {_with_common_documents(row.rouge1, row.rouge1_common_documents)}",
        ]
        for row in published_rows()
    ]
    cells += [
        [
            row.entry.experiment,
            row.stored.environment["device"],
            _number(row.info, "document_tokens_per_second", 1),
            _number(row.info, "generated_tokens_per_second", 1),
            str(len(row.info["document_ids"])),
            f"{1 / row.info['documents_per_second']:.2f}",
            _number(row.info, "rouge1", 3),
            f"{row.date}, {row.weights}",
        ]
        for row in rows
    ]
    return _table(AS_PUBLISHED, cells)


def _with_common_documents(own: float | None, common: float) -> str:
    """A published row's score on its own sample and, in brackets, on the sample that all rows have in common."""
    return f"{'–' if own is None else f'{own:.3f}'} ({common:.3f})"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Texts to the left, figures to the right."""
    texts = {"experiment", "GPU", "measured", "way"}
    sides = ["---" if heading in texts else "---:" for heading in headings]
    return "\n".join(map(markdown_row, [headings, sides, *([escaped(cell) for cell in row] for row in rows)])) + "\n"


def _number(info: Mapping[str, Any], name: str, digits: int) -> str:
    """A figure; a dash where it was not measured, or not known yet when the run was stored."""
    value = info.get(name)
    return "–" if value is None else f"{value:.{digits}f}"


def _gib(info: Mapping[str, Any], name: str) -> str:
    value = info.get(name)
    return "–" if value is None else f"{value / GIB:.2f}"
