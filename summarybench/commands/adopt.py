"""`summarybench adopt RUN NAME`: store a finished run as a baseline, as --benchmark-save does."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from summarybench.analysis.history import Trend, read_series
from summarybench.commands.command import add_baselines_argument
from summarybench.core.invocation import this_invocation
from summarybench.core.names import check_name
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.core.paths import user_path
from summarybench.report.history import finding_of
from summarybench.runs.baselines import (
    StoredRun,
    SuperfluousError,
    open_run,
    save_baseline,
    why_unfit,
)
from summarybench.runs.comparable import never_compared
from summarybench.runs.run_file import device_of
from summarybench.runs.run_folder import read_exit_code, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=user_path, metavar="RUN", help="the folder that a session left in results/")
    parser.add_argument(
        "name", metavar="NAME", help="stored as baselines/<device>/NNNN_NAME.json; 'anchor' is never replaced"
    )
    add_baselines_argument(parser, "where to store it")


def run(options: argparse.Namespace) -> int:
    """Store the run under the next number of its device's folder. Raises InputError if it must not be a baseline."""
    finished = open_run(options.run)
    stored = _adopt(finished, options.name, options.baselines)
    print(f"baseline saved: {shown(stored)}")
    for line in (*never_compared(finished.run), *_slowed_lines(stored.parent)):
        print(line)
    return ExitCode.CLEAN


def _slowed_lines(folder: Path) -> Iterator[str]:
    """A line for each series that has slowed, the adopted run counted."""
    for series in read_series(folder):
        if series.trend is Trend.SLOWED:
            yield (
                f"note: {series.experiment} on {series.host_name}: {finding_of(series.as_record())}; "
                f"{this_invocation().command('history')} says more"
            )


def _adopt(finished: StoredRun, name: str, baselines: Path) -> Path:
    check_name(name, "NAME=")
    device = device_of(finished.run)
    if device.stands_in or device.is_limited:
        raise InputError(
            f"{finished.path} was measured with --gpu-family or --memory-limit; measure it without them to store it"
        )
    why = _why_not_clean(finished) or why_unfit(finished.run)
    if why:
        raise InputError(f"{finished.path} does not become a baseline ({why}); only a clean run does")
    try:
        return save_baseline(baselines / device.slug, name, finished.run)
    except SuperfluousError as error:
        raise InputError(f"{finished.path} is not stored: {error}") from error


def _why_not_clean(finished: StoredRun) -> str | None:
    exit_code = read_exit_code(finished.path.parent)
    if exit_code is None:
        return "there is no exit_code beside it: the session was cut short, or this is a copy"
    return None if exit_code == ExitCode.CLEAN else f"the session ended with exit code {exit_code}"
