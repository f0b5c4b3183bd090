"""The speed of each experiment over the stored runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from summarybench.report.experiment import ExperimentView, minute_of
from summarybench.runs.baselines import StoredRun
from summarybench.runs.run_file import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One run of an experiment: its speed in generated tokens per second, and the verdict that it had then."""

    date: str
    label: str
    speed: float
    verdict: str
    is_anchor: bool
    is_shown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The runs of one experiment with one workload on one device, oldest first."""

    label: str
    number: int
    measurements: tuple[Measurement, ...]


def histories_of(experiments: Sequence[ExperimentView]) -> Iterator[History]:
    """One history for each experiment and workload. Several runs of a report share it."""
    same: dict[tuple[str, str, str], list[ExperimentView]] = {}
    for each in experiments:
        same.setdefault((each.source.device_name, each.entry.name, each.info["workload"]), []).append(each)
    for alike in same.values():
        yield _history(alike)


def _history(alike: Sequence[ExperimentView]) -> History:
    first = alike[0]
    shown = {_key(each.source.stored, each.entry): each.source.stored for each in alike}
    known = dict(shown)
    for stored in first.source.baselines.runs if first.source.baselines else ():
        found = stored.entry(first.entry.name)
        if found is not None and found.extra_info["workload"] == first.info["workload"]:
            known[_key(stored, found)] = stored
    measurements = (_measurement(stored, first.entry.name, key in shown) for key, stored in known.items())
    return History(
        label=first.label.partition(" · ")[0],
        number=first.number,
        measurements=tuple(sorted(measurements, key=lambda each: (each.date, each.label))),
    )


def _key(stored: StoredRun, entry: Entry) -> tuple[str, tuple[float, ...]]:
    """The same for a run and the baseline that it was stored as: they are one measurement."""
    return str(stored.run.get("datetime", "")), entry.seconds


def _measurement(stored: StoredRun, name: str, is_shown: bool) -> Measurement:
    entry = stored.entry(name)
    if entry is None:
        raise ValueError(f"{stored.path} does not hold {name}")
    info = entry.extra_info
    return Measurement(
        date=minute_of(stored),
        label=stored.label,
        speed=float(info["generated_tokens_per_second"]),
        verdict=info["verdict"],
        is_anchor=stored.is_anchor,
        is_shown=is_shown,
    )
