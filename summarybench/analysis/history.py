"""The stored nights of each experiment as one series: has it slowed since its reference, when, and between which commits?

A pairwise verdict compares a run with the newest stored ones, so that a slow slide moves its baseline along. A series is
held against nights that stay the reference until a person accepts new ones.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from summarybench.analysis.cost import Consumption, consumption_of
from summarybench.analysis.quantities import Quantity, timings_of
from summarybench.core.files import READABLE_BY_ALL, write_atomically
from summarybench.core.numbers import significant
from summarybench.core.outcomes import InputError, Verdict
from summarybench.core.strict_json import InvalidValueError
from summarybench.machine.environment import VERSIONS
from summarybench.runs.baselines import HISTORY_FILE, Baselines, StoredRun, read_baselines
from summarybench.runs.comparison_records import HistoryRecord
from summarybench.runs.device_files import HistoryFile, SeriesRecord
from summarybench.runs.run_file import Entry
from summarybench.runs.validation import read_record
from summarybench.stats.change_points import change_points, shifts_at
from summarybench.stats.sequential import FEWEST_NIGHTS, Cusum, Reference, cusum, reference_of

SCHEMA = 1


class Trend(StrEnum):
    """What a series says of its experiment."""

    SLOWED = "SLOWED"
    FASTER = "FASTER"
    STEADY = "STEADY"
    COLLECTING = "COLLECTING"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesKey:
    """What all nights of a series have in common. `test` is the test's name with the experiment in brackets.

    `sample` is a digest of the rounds that were timed, and `host` the anonymous ID of the machine.
    """

    test: str
    workload: str
    sample: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One day (UTC) of a series: its speed in generated tokens per second, over all its runs, and the newest commit.

    `consumption` and `gpu_hour_price` are those of the newest run; the price is None if it states none.
    """

    date: str
    speed: float
    commit: str
    runs: tuple[str, ...]
    versions: Mapping[str, Any]
    consumption: Consumption
    gpu_hour_price: float | None

    @property
    def log_speed(self) -> float:
        return math.log(self.speed)


@dataclass(frozen=True, kw_only=True)  # not slotted: what is derived is kept
class Series:
    """The nights of one experiment with one workload on one host, oldest first, from the newest accepted night on."""

    experiment: str
    key: SeriesKey
    host_name: str
    nights: tuple[Night, ...]
    accepted: str | None = None

    @cached_property
    def log_speeds(self) -> list[float]:
        return [night.log_speed for night in self.nights]

    @cached_property
    def reference(self) -> Reference | None:
        """What the newest night is held against; None where there are too few nights before it."""
        newest = len(self.nights) - 1
        return reference_of(self.log_speeds, newest) if newest >= FEWEST_NIGHTS else None

    @property
    def reference_nights(self) -> int:
        """How many of the first nights are the reference; 0 while nights are collected."""
        return self.reference.nights if self.reference else 0

    @cached_property
    def slowing(self) -> Cusum:
        return cusum(self.log_speeds)

    @cached_property
    def quickening(self) -> Cusum:
        """The mirror image: the same test on the negative logarithms."""
        return cusum([-each for each in self.log_speeds])

    @property
    def trend(self) -> Trend:
        """What the tested nights say; COLLECTING while there are too few."""
        if self.reference is None:
            return Trend.COLLECTING
        if self.slowing.alarm is not None:
            return Trend.SLOWED
        return Trend.FASTER if self.quickening.alarm is not None else Trend.STEADY

    @property
    def _change(self) -> Cusum | None:
        return {Trend.SLOWED: self.slowing, Trend.FASTER: self.quickening}.get(self.trend)

    @property
    def alarm_night(self) -> int | None:
        """The index of the night that raised the alarm of a slower or faster series; None without one."""
        return self._change.alarm if self._change else None

    @property
    def ratio(self) -> float | None:
        """The mean speed since the change, or after the reference if there is none, ÷ the reference's."""
        if self.reference is None:
            return None
        first = self.reference_nights if self.first_changed is None else self.first_changed
        return math.exp(fmean(self.log_speeds[first:]) - self.reference.mean)

    @cached_property
    def first_changed(self) -> int | None:
        """The index of the night from which on the speed differs; None for a series without a change.

        The CUSUM says that there is a change. It is dated by the largest change point between the CUSUM's own first night and
        its alarm. Where there is none, as in a slide, the CUSUM's first night is the date.
        """
        found = self._change
        if found is None or found.since is None or found.alarm is None or self.reference is None:
            return None
        points = change_points(self.log_speeds, self.reference.standard_deviation)
        shifts = {
            point: abs(shift)
            for point, shift in shifts_at(self.log_speeds, points).items()
            if found.since <= point <= found.alarm
        }
        return max(shifts, key=shifts.__getitem__, default=found.since)

    @property
    def commits(self) -> tuple[str, str] | None:
        """The commits of the last night before the change and of the first one with it."""
        first = self.first_changed
        return None if first is None else (self.nights[first - 1].commit, self.nights[first].commit)

    @property
    def changed_versions(self) -> list[str]:
        """The versions that changed between those two nights, such as "torch 2.11.0 → 2.12.0"."""
        first = self.first_changed
        if first is None:
            return []
        before, after = self.nights[first - 1].versions, self.nights[first].versions
        return [
            f"{name} {before.get(name)} → {after.get(name)}" for name in after if before.get(name) != after.get(name)
        ]

    @property
    def nights_to_find(self) -> int | None:
        """After how many nights a slowdown of 3% would be found in 95%; None if 60 do not suffice."""
        from summarybench.stats.sequential_simulation import nights_to_detect

        if self.reference is None:
            return None
        return nights_to_detect(float(significant(self.reference.standard_deviation, 2)))

    def as_record(self) -> HistoryRecord:
        """The key `history` of the run file."""
        reference, first = self.reference, self.first_changed
        return {
            "trend": self.trend.value,
            "host": self.host_name,
            "nights": len(self.nights),
            "reference_nights": self.reference_nights,
            "reference_tokens_per_second": reference.tokens_per_second if reference else None,
            "standard_deviation": reference.standard_deviation if reference else None,
            "ratio": self.ratio,
            "since": None if first is None else self.nights[first].date,
            "commits": None if self.commits is None else list(self.commits),
        }


def read_series(folder: Path, finished: StoredRun | None = None) -> list[Series]:
    """Every series of a device's folder, as `series_of`. A run that is `finished` counts once, whether it is stored or not.

    Raises InputError for a file that cannot be used.
    """
    baselines = read_baselines(folder)
    if finished is not None and not baselines.has_all_of(finished.run):
        baselines = replace(baselines, runs=(*baselines.runs, finished))
    return series_of(baselines, read_accepted(folder))


def series_of(baselines: Baselines, accepted: Mapping[SeriesKey, str] = MappingProxyType({})) -> list[Series]:
    """Every series of a device's stored runs, in the order of the experiments' names.

    A run counts on the day (UTC) on which it began. Runs that do not say when are left out, and so are those of a disturbed
    device (INVALID), those with broken output, and the anchor. `accepted` has the dates of `read_accepted`.
    """
    found: dict[SeriesKey, list[tuple[StoredRun, Entry]]] = {}
    for stored in baselines.runs:
        for entry in stored.counted_entries:
            found.setdefault(key_of(stored, entry), []).append((stored, entry))
    series = (one_series(key, members, accepted) for key, members in found.items())
    return sorted(
        (each for each in series if each is not None),
        key=lambda each: (each.key.test, each.key.host, each.nights[0].date),
    )


def series_with(
    stored: StoredRun, entry: Entry, baselines: Baselines, accepted: Mapping[SeriesKey, str] = MappingProxyType({})
) -> Series | None:
    """The series that a run's experiment belongs to, that run counted once whether it is stored or not.

    None where the run does not count, as in `series_of`.
    """
    key = key_of(stored, entry)
    earlier = [
        (each, found)
        for each in baselines.runs
        if (found := each.counted_entry(entry.name)) and key_of(each, found) == key and found.seconds != entry.seconds
    ]
    return one_series(key, [*earlier, (stored, entry)], accepted) if _counts(stored, entry) else None


def one_series(
    key: SeriesKey, members: Iterable[tuple[StoredRun, Entry]], accepted: Mapping[SeriesKey, str]
) -> Series | None:
    """The series of these runs, which all have this key; None if none of them counts, as in `series_of`."""
    counting = sorted(
        ((stored, entry) for stored, entry in members if _counts(stored, entry)),
        key=lambda each: str(each[0].run["datetime"]),
    )
    first = accepted.get(key)
    nights = tuple(night for night in _nights(counting) if first is None or night.date >= first)
    if not nights:
        return None
    newest, entry = counting[-1]
    return Series(
        experiment=entry.experiment, key=key, host_name=newest.host.name or "unknown", nights=nights, accepted=first
    )


def _counts(stored: StoredRun, entry: Entry) -> bool:
    is_dated = bool(stored.run.get("datetime")) and not stored.is_anchor
    return is_dated and entry.extra_info.get("verdict") != Verdict.INVALID and not entry.broken_output


def key_of(stored: StoredRun, entry: Entry) -> SeriesKey:
    """The series to which a run's experiment belongs."""
    sample = hashlib.sha256(json.dumps(sorted(entry.timings)).encode()).hexdigest()[:16]
    return SeriesKey(
        test=entry.name,
        workload=entry.extra_info["workload"],
        sample=sample,
        host=stored.host.id or "unknown",
    )


def _nights(members: Sequence[tuple[StoredRun, Entry]]) -> Iterator[Night]:
    by_date: dict[str, list[tuple[StoredRun, Entry]]] = {}
    for stored, entry in members:
        by_date.setdefault(str(stored.run["datetime"])[:10], []).append((stored, entry))
    for date, runs in sorted(by_date.items()):
        newest, newest_entry = runs[-1]
        yield Night(
            date=date,
            speed=math.exp(fmean(math.log(speed_of(entry, members[0][1])) for _, entry in runs)),
            commit=newest.commit,
            runs=tuple(stored.label for stored, _ in runs),
            versions={name: newest.environment.get(name) for name in VERSIONS},
            consumption=consumption_of(newest_entry.extra_info, is_gpu=newest.is_of_gpu),
            gpu_hour_price=newest.gpu_hour_price,
        )


def speed_of(entry: Entry, lengths_of: Entry) -> float:
    """Generated tokens per second over all rounds, at the output lengths of another entry with the same rounds.

    Longer outputs are faster per token, because each has one first token. That is no change of the code.
    """
    timings = timings_of(entry, Quantity.SPEED, lengths_of).values()
    return sum(each.tokens for each in timings) / math.fsum(each.seconds for each in timings)


# Accepted references ---------------------------------------------------------------------------------------------


def read_accepted(folder: Path) -> dict[SeriesKey, str]:
    """The first date of each accepted reference of a device's folder. Raises InputError for a damaged file."""
    path = folder / HISTORY_FILE
    if not path.exists():
        return {}
    try:
        found: HistoryFile = read_record(path, HistoryFile)
        if found["schema"] != SCHEMA:
            raise InvalidValueError(f"schema is {found['schema']}, and this version reads {SCHEMA}")
        return {_series_key(each["series"]): each["since"] for each in found["accepted"]}
    except (OSError, InvalidValueError) as error:
        raise InputError(f"{path} does not hold accepted references ({error}); restore it or delete it") from error


def _series_key(record: SeriesRecord) -> SeriesKey:
    return SeriesKey(test=record["test"], workload=record["workload"], sample=record["sample"], host=record["host"])


def accept(folder: Path, series: Iterable[Series]) -> Path:
    """Let each of these series begin with its first changed night, so that its new speed becomes the reference.

    Raises InputError where the disk refuses.
    """
    accepted = read_accepted(folder) | {each.key: each.nights[each.first_changed or 0].date for each in series}
    records = [{"series": asdict(key), "since": since} for key, since in accepted.items()]
    path = folder / HISTORY_FILE
    try:
        write_atomically(
            path, json.dumps({"schema": SCHEMA, "accepted": records}, indent=1) + "\n", mode=READABLE_BY_ALL
        )
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return path
