"""The speed of each experiment over the stored runs, and what the test on its series of nights says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from summarybench.analysis.cost import Consumption, consumption_of
from summarybench.analysis.history import Series, SeriesKey, Trend, key_of, one_series, read_accepted, speed_of
from summarybench.core.numbers import decimal, deviation
from summarybench.machine.device import slugify
from summarybench.report.experiment import ExperimentView, Source, minute_of
from summarybench.runs.baselines import StoredRun
from summarybench.runs.comparison_records import HistoryRecord
from summarybench.runs.run_file import Entry

SHORT_COMMIT = 8
CHANGED = (Trend.SLOWED, Trend.FASTER)
ROW_HEADINGS = ("experiment", "history", "nights", "reference tok/s", "now ÷ reference", "one night varies by", "since")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One run of an experiment, and the verdict that it had then.

    `speed` is generated tokens per second at the output lengths of the first run. `gpu_hour_price` is the page's, or the one
    that the run states.
    """

    date: str
    label: str
    speed: float
    verdict: str
    is_anchor: bool
    is_shown: bool
    consumption: Consumption
    gpu_hour_price: float | None

    @property
    def cost(self) -> float | None:
        """Of a million generated tokens; None without a price."""
        return self.consumption.cost_of_tokens(1_000_000, self.gpu_hour_price)

    @property
    def watt_hours(self) -> float | None:
        """Of a million generated tokens; None if unknown."""
        return self.consumption.watt_hours_of_tokens(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The runs of one experiment with one workload on one host, oldest first, and their series of nights.

    `series` is None if none of the runs counts as a night.
    """

    label: str
    number: int
    measurements: tuple[Measurement, ...]
    series: Series | None = None

    def places_of(self, night: int) -> list[int]:
        """The indices of the measurements that make up one night of the series."""
        if self.series is None:
            return []
        runs, date = self.series.nights[night].runs, self.series.nights[night].date
        return [
            place
            for place, each in enumerate(self.measurements)
            if each.label in runs and each.date.startswith(date) and not each.is_anchor
        ]

    @property
    def finding(self) -> str:
        """What the test says, in one line; empty while there are too few nights."""
        record = self.series.as_record() if self.series else None
        return finding_of(record) if record else ""


def finding_of(record: HistoryRecord) -> str:
    """What a series shows, such as SLOWED to 0.948 since 2026-10-21, between commits 1a2b3c4d and 5e6f7a8b.

    Empty while nights are collected.
    """
    if record["trend"] == Trend.COLLECTING:
        return ""
    if record["trend"] == Trend.STEADY:
        return f"{Trend.STEADY} at {decimal(record['ratio'], 3)}"
    return f"{record['trend']} to {decimal(record['ratio'], 3)} {_since(record)}"


def _since(record: HistoryRecord) -> str:
    if record["since"] is None or record["commits"] is None:
        return ""
    before, after = (commit[:SHORT_COMMIT] for commit in record["commits"])
    where = f"within commit {after}" if before == after else f"between commits {before} and {after}"
    return f"since {record['since']}, {where}"


def history_rows(experiments: Sequence[ExperimentView]) -> list[list[str]]:
    """The tested series that the experiments continue, one row each under ROW_HEADINGS."""
    return [
        [
            each.label,
            record["trend"],
            f"{record['nights']}, {record['reference_nights']} of them the reference",
            decimal(record["reference_tokens_per_second"], 1),
            decimal(record["ratio"], 3),
            deviation(record["standard_deviation"] or 0.0),
            _since(record).removeprefix("since ") or "–",
        ]
        for each in experiments
        if (record := each.info.get("history")) and record["trend"] != Trend.COLLECTING
    ]


def histories_of(experiments: Sequence[ExperimentView]) -> Iterator[History]:
    """One history for each series of nights that an experiment of the report belongs to."""
    same: dict[tuple[str, SeriesKey], list[ExperimentView]] = {}
    for each in experiments:
        same.setdefault((slugify(each.source.device_name), key_of(each.source.stored, each.entry)), []).append(each)
    for (_, key), alike in same.items():
        yield _history(key, alike)


def _history(key: SeriesKey, alike: Sequence[ExperimentView]) -> History:
    first = alike[0]
    shown = {_identity(each.source.stored, each.entry): (each.source.stored, each.entry) for each in alike}
    known = dict(shown)
    baselines = first.source.baselines
    for stored in baselines.runs if baselines else ():
        found = stored.entry(first.entry.name)
        if found is not None and key_of(stored, found) == key:
            known[_identity(stored, found)] = (stored, found)
    members = sorted(known.values(), key=lambda each: (minute_of(each[0]), each[0].label))
    _, lengths_of = members[0]
    measurements = (
        _measurement(
            stored, entry, speed_of(entry, lengths_of), first.source, is_shown=_identity(stored, entry) in shown
        )
        for stored, entry in members
    )
    return History(
        label=first.label.partition(" · ")[0],
        number=first.number,
        measurements=tuple(measurements),
        series=one_series(key, members, read_accepted(baselines.folder) if baselines else {}),
    )


def _identity(stored: StoredRun, entry: Entry) -> tuple[str, tuple[float, ...]]:
    """The same for a run and the baseline that it was stored as: they are one measurement."""
    return str(stored.run.get("datetime", "")), entry.seconds


def _measurement(stored: StoredRun, entry: Entry, speed: float, source: Source, *, is_shown: bool) -> Measurement:
    return Measurement(
        date=minute_of(stored),
        label=stored.label,
        speed=speed,
        verdict=entry.extra_info["verdict"],
        is_anchor=stored.is_anchor,
        is_shown=is_shown,
        consumption=consumption_of(entry.extra_info, is_gpu=stored.is_of_gpu),
        gpu_hour_price=source.price or stored.gpu_hour_price,
    )
