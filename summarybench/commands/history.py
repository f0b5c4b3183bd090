"""`summarybench history`: has an experiment slowed over the stored nights, since when, and between which commits?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from summarybench.analysis.history import Night, Series, Trend, accept, read_series
from summarybench.commands.command import add_baselines_argument
from summarybench.core.invocation import this_invocation
from summarybench.core.numbers import counted, decimal, deviation, percent
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.core.paths import user_path
from summarybench.core.price import parse_price
from summarybench.runs.baselines import open_run
from summarybench.runs.run_file import device_of
from summarybench.stats.sequential import FALSE_ALARMS_PER_NIGHT, FEWEST_NIGHTS, NIGHTS_TO_FIND, SOUGHT_RATIO
from summarybench.stats.slowdowns import slowdown_of

SHORT_COMMIT = 12
MILLION = 1_000_000
MOST_NAMED = 3
"""The most series with too few nights that are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_baselines_argument(parser, "stored runs")
    parser.add_argument("--device", metavar="NAME", help="only this folder of the baselines (default: all of them)")
    parser.add_argument(
        "--run",
        type=user_path,
        metavar="RUN",
        help="also count this finished run, whether it is stored or not, and show only the folder of its device",
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="how to print what was found (default: text)"
    )
    parser.add_argument(
        "--gpu-hour-price",
        metavar="PRICE",
        help="what one GPU costs for an hour, in your currency; replaces the price that the runs state",
    )
    parser.add_argument(
        "--accept",
        metavar="TEXT",
        help="accept the new speed of the changed experiments whose name contains TEXT: their reference begins anew with the "
        "first night of the change",
    )


def run(options: argparse.Namespace) -> int:
    """Print every series; 1 where one has slowed. Raises InputError where the stored runs cannot be used."""
    price = None if options.gpu_hour_price is None else parse_price(options.gpu_hour_price)
    finished = None if options.run is None else open_run(options.run)
    folders = (
        _folders(options.baselines, options.device)
        if finished is None
        else [options.baselines / device_of(finished.run).slug]
    )
    if options.accept is not None:
        _accept(folders, options.accept)
    found = {folder.name: read_series(folder, finished) for folder in folders}
    if options.format == "json":
        print(
            json.dumps(
                {"devices": {slug: [_record(each, price) for each in series] for slug, series in found.items()}},
                indent=1,
            )
        )
    else:
        print("\n".join(_lines(found, price)))
    has_slowed = any(each.trend is Trend.SLOWED for series in found.values() for each in series)
    return ExitCode.FAILED if has_slowed else ExitCode.CLEAN


def _folders(baselines: Path, device: str | None) -> list[Path]:
    folders = sorted(path for path in baselines.glob("*") if path.is_dir())
    if device is not None:
        chosen = [path for path in folders if path.name == device]
        if not chosen:
            there = ", ".join(path.name for path in folders) or "nothing"
            raise InputError(f"--device {device}: no such folder in {baselines}; stored there: {there}")
        return chosen
    if not folders:
        raise InputError(
            f"{baselines} holds no stored runs; the command adopt stores one, and so does --benchmark-save=NAME"
        )
    return folders


def _accept(folders: Sequence[Path], text: str) -> None:
    """Raises InputError where no changed series is meant."""
    found = 0
    for folder in folders:
        changed = [
            each for each in read_series(folder) if text in each.key.test and each.trend in (Trend.SLOWED, Trend.FASTER)
        ]
        if changed:
            print(f"accepted in {accept(folder, changed)}: {', '.join(each.experiment for each in changed)}")
        found += len(changed)
    if not found:
        raise InputError(f"--accept {text}: no experiment with this in its name has slowed or become faster")


# Text ------------------------------------------------------------------------------------------------------------


def _lines(found: dict[str, list[Series]], price: float | None) -> Iterator[str]:
    for slug, series in found.items():
        yield f"{slug}:"
        tested = sorted(
            (each for each in series if each.trend is not Trend.COLLECTING),
            key=lambda each: list(Trend).index(each.trend),
        )
        for each in tested:
            yield f"  {each.experiment} on {each.host_name}: {_describe(each)}"
            if spent := _describe_cost(each.nights[-1], price):
                yield f"    the newest night: {spent}"
            if each.first_changed is not None:
                yield from (f"    {line}" for line in _change_lines(each))
        collecting = [each for each in series if each.trend is Trend.COLLECTING]
        if collecting:
            collecting.sort(key=lambda each: -len(each.nights))
            named = [f"{each.experiment} ({counted(each.nights, 'night')})" for each in collecting[:MOST_NAMED]]
            more = [f"and {len(collecting) - MOST_NAMED} more"] if len(collecting) > MOST_NAMED else []
            yield (
                f"  {counted(collecting, 'series has', 'series have')} too few nights to be tested: {', '.join([*named, *more])}"
            )
    yield (
        f"A series (the nights of one experiment on one host) is tested from {FEWEST_NIGHTS + 1} nights on. With unchanged "
        f"code, it raises a false alarm on about {percent(FALSE_ALARMS_PER_NIGHT, 1)} of nights."
    )


def _describe(series: Series) -> str:
    nights = counted(series.nights, "night")
    since = f" since {series.accepted}, when its reference was accepted" if series.accepted else ""
    reference = series.reference
    if reference is None or series.ratio is None:
        raise ValueError(f"{series.experiment} has too few nights to be described")
    return (
        f"{series.trend}: {decimal(series.ratio, 3)} of its reference ({series.reference_nights} of {nights}{since}; one night varies by "
        f"{deviation(reference.standard_deviation)}); {_describe_reach(series)}"
    )


def _describe_cost(night: Night, price: float | None) -> str:
    """What a million generated tokens took in money and energy; empty if neither is known."""
    found, paid = night.consumption, price or night.gpu_hour_price
    money, energy = found.cost_of_tokens(MILLION, paid), found.watt_hours_of_tokens(MILLION)
    parts = [
        *([f"{decimal(money, 3)} at {decimal(paid, 2)} per GPU-hour"] if money is not None else []),
        *([f"{decimal(energy, 1)} Wh"] if energy is not None else []),
    ]
    return f"a million tokens took {', '.join(parts)}" if parts else ""


def _describe_reach(series: Series) -> str:
    slowdown = f"a slowdown of {percent(slowdown_of(SOUGHT_RATIO))}"
    needed = series.nights_to_find
    if needed is None:
        return f"{slowdown} is out of reach: {NIGHTS_TO_FIND} nights do not find it in 95%"
    return f"{slowdown} is found within {counted(needed, 'night')} in 95%"


def _change_lines(series: Series) -> Iterator[str]:
    first, commits = series.first_changed, series.commits
    if first is None or commits is None:
        return
    before, after = (commit[:SHORT_COMMIT] for commit in commits)
    where = f"within commit {after}" if before == after else f"between commits {before} and {after}"
    yield f"since {series.nights[first].date}, {where}{_describe_versions(series)}"
    if series.trend is Trend.SLOWED:
        yield f"if that is meant: {this_invocation().command('history', '--accept', series.experiment)}"


def _describe_versions(series: Series) -> str:
    return f"; also changed: {', '.join(series.changed_versions)}" if series.changed_versions else ""


# JSON ------------------------------------------------------------------------------------------------------------


def _record(series: Series, price: float | None) -> dict[str, Any]:
    reference, first = series.reference, series.first_changed
    return {
        "experiment": series.experiment,
        **asdict(series.key),
        "host_name": series.host_name,
        "trend": series.trend.value,
        "ratio": series.ratio,
        "since": None if first is None else series.nights[first].date,
        "commits": series.commits,
        "changed_versions": series.changed_versions,
        "accepted": series.accepted,
        "reference": None
        if reference is None
        else {
            "nights": reference.nights,
            "tokens_per_second": reference.tokens_per_second,
            "standard_deviation": reference.standard_deviation,
            "threshold": reference.threshold,
        },
        "cusum": series.slowing.statistic,
        "nights_to_find": series.nights_to_find,
        "nights": [
            {
                "date": each.date,
                "tokens_per_second": each.speed,
                "commit": each.commit,
                "runs": each.runs,
                "cost_per_million_tokens": each.consumption.cost_of_tokens(MILLION, price or each.gpu_hour_price),
                "watt_hours_per_million_tokens": each.consumption.watt_hours_of_tokens(MILLION),
            }
            for each in series.nights
        ],
    }
