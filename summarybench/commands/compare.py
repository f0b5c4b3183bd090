"""`summarybench compare RUN [AGAINST]`: compare two runs as a session compares with its baseline."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from summarybench.analysis.comparison import Comparison
from summarybench.analysis.device_noise import DeviceNoise, place_of, read_device_noise
from summarybench.analysis.faithfulness_change import describe_faithfulness, p_values_of_faithfulness
from summarybench.analysis.judge import Judge
from summarybench.analysis.quality_change import QUALITY_LEVEL, describe
from summarybench.analysis.quality_session import p_values_of
from summarybench.commands.command import add_baselines_argument
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.core.share import parse_share
from summarybench.runs.baselines import (
    SPREAD_FILE,
    STORED_NAME,
    Baselines,
    StoredRun,
    find_baseline,
    find_stored,
    has_same_workload,
    open_run,
    read_baselines,
)
from summarybench.runs.run_file import Entry, device_of, entries_of
from summarybench.runs.run_folder import shown
from summarybench.stats.decision import holm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", help="a results folder, a run file, or a stored run by its number or name, such as 0001"
    )
    parser.add_argument(
        "against",
        nargs="?",
        metavar="AGAINST",
        help="the run to compare it with, given in the same ways (default: for each experiment the newest run stored "
        "for this device that was measured earlier with the same workload)",
    )
    parser.add_argument(
        "--tolerance", default="5%", metavar="SHARE", help="a change within this counts as none (default: 5%%)"
    )
    add_baselines_argument(parser, "stored runs")


def run(options: argparse.Namespace) -> int:
    """Print a verdict for each experiment. Return 1 if one regressed or is broken, else 10 if one lost quality.

    Raises InputError if a run cannot be used, or no stored run can be compared with it.
    """
    tolerance = parse_share(options.tolerance)
    now = _find_run(options.run, _folders_in(options.baselines))
    entries = entries_of(now.run)
    if not entries:
        raise InputError(f"{now.path} has no measured experiment: the run is still going on, or measured nothing")
    if options.against is None:
        other = _newest_comparable(now, entries, options.baselines)
        print("\n".join(_chosen_lines(other, entries)))
    else:
        other = _given(now, options.against, options.baselines)
    judge = Judge(
        environment=now.environment,
        night=place_of(now).night,
        noise=_noise(now, other, options.baselines),
        tolerance=tolerance,
        slug=other.folder.name,
    )
    comparisons = [(entry, judge.compare([entry], other.runs_for(entry))) for entry in entries]
    for entry, comparison in comparisons:
        print("\n".join(_lines(entry, comparison)))
    return _exit_code(comparisons)


# The other side --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """The runs to compare with, by the name of the test, and the folder with their measured noise."""

    folder: Path
    runs: Mapping[str, StoredRun]

    def runs_for(self, entry: Entry) -> tuple[StoredRun, ...]:
        found = self.runs.get(entry.name)
        return () if found is None else (found,)


def _given(now: StoredRun, text: str, baselines: Path) -> Other:
    """The given run, for all experiments. A number or name is looked up among the runs of the same device."""
    against = _opened(Path(text)) if _is_path(text) else _stored(text, [baselines / device_of(now.run).slug])
    return Other(folder=against.path.parent, runs=dict.fromkeys((entry.name for entry in entries_of(now.run)), against))


def _newest_comparable(now: StoredRun, entries: Sequence[Entry], baselines: Path) -> Other:
    """For each experiment, the baseline that a session would choose among the runs measured before this one."""
    folder = baselines / device_of(now.run).slug
    earlier = [stored for stored in read_baselines(folder).runs if _measured_at(stored) < _measured_at(now)]
    chosen = {entry.name: found[0] for entry in entries if (found := find_baseline(entry, earlier, 1, now.environment))}
    if not chosen:
        raise InputError(
            f"{folder} has no earlier run of what {now.label} measured; give a run to compare with, AGAINST"
        )
    return Other(folder=folder, runs=chosen)


def _noise(now: StoredRun, other: Other, baselines: Path) -> DeviceNoise:
    """The noise in the other runs' folder, or in that of the device if no runs are stored beside them.

    The run that is judged is left out: it must not widen its own noise.
    """
    paths = [path for path in sorted(other.folder.glob("*.json")) if STORED_NAME.fullmatch(path.name)]
    if paths or now.run["device"] is None or (other.folder / SPREAD_FILE).exists():
        found = Baselines(folder=other.folder, runs=tuple(map(open_run, paths)))
    else:
        found = read_baselines(baselines / device_of(now.run).slug)
    earlier = tuple(each for each in found.runs if each.run["datetime"] != now.run["datetime"])
    is_gpu = Baselines(folder=other.folder, runs=(now, *other.runs.values())).are_of_gpu
    return read_device_noise(replace(found, runs=earlier), is_gpu=is_gpu)


def _measured_at(stored: StoredRun) -> str:
    """The start of the session in UTC, ISO 8601, which sorts as text."""
    return stored.run["datetime"]


def _chosen_lines(other: Other, entries: Sequence[Entry]) -> Iterator[str]:
    """One line for each chosen run, with its experiments if there are several runs."""
    groups: dict[tuple[Path, str], list[str]] = {}
    for entry in entries:
        for stored in other.runs_for(entry):
            before = stored.entry(entry.name)
            is_same = before is not None and has_same_workload(entry, before)
            which = "the newest earlier run with the same workload" if is_same else "the most similar earlier run"
            groups.setdefault((stored.path, which), []).append(entry.experiment)
    for (path, which), names in groups.items():
        of_what = f": {', '.join(dict.fromkeys(names))}" if len(groups) > 1 else ""
        yield f"against {shown(path.resolve())}, {which}{of_what}"


# Runs by path, number or name ------------------------------------------------------------------------------------


def _is_path(text: str) -> bool:
    return os.sep in text or Path(text).exists()


def _find_run(text: str, folders: Sequence[Path]) -> StoredRun:
    return _opened(Path(text)) if _is_path(text) else _stored(text, folders)


def _opened(path: Path) -> StoredRun:
    """The run, with the faithfulness that its version did not record where its folder has the texts."""
    from summarybench.analysis.derived_faithfulness import with_faithfulness

    return with_faithfulness(open_run(path))


def _folders_in(baselines: Path) -> list[Path]:
    return sorted(folder for folder in baselines.glob("*") if folder.is_dir())


def _stored(name: str, folders: Sequence[Path]) -> StoredRun:
    """The run that is stored under a number or a name. Raises InputError unless exactly one device has it."""
    runs = [read_baselines(folder).runs for folder in folders]
    found = [stored for each in runs if (stored := find_stored(each, name))]
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(str(stored.path) for stored in found)
        raise InputError(f"'{name}' is stored for several devices; give one by its path: {paths}")
    there = ", ".join(f"{stored.path.parent.name}/{stored.path.name}" for each in runs for stored in each) or "nothing"
    raise InputError(f"'{name}' is neither a file or folder, nor the number or name of a stored run; stored: {there}")


# Output ----------------------------------------------------------------------------------------------------------


def _lines(entry: Entry, comparison: Comparison) -> Iterator[str]:
    yield f"{entry.experiment}: {comparison.verdict}: {comparison.detail}"
    if comparison.attribution:
        yield f"  {comparison.attribution}"
    for each in comparison.others:
        yield f"  {each.quantity}: {each.verdict}: {each.detail}"
        if each.attribution:
            yield f"    {each.attribution}"
    if comparison.environment_differences:
        yield f"  environment: {'; '.join(comparison.environment_differences)}"
    for quality in comparison.qualities:
        facts = quality.as_extra_info()
        yield f"  quality {facts['verdict']} {describe(facts)}"
    for faithfulness in comparison.faithfulness_changes:
        change = faithfulness.as_extra_info()
        yield f"  faithfulness {change['verdict']} {describe_faithfulness(change)}"
    if entry.broken_output:
        yield f"  {entry.broken_output}"


def _exit_code(comparisons: Sequence[tuple[Entry, Comparison]]) -> ExitCode:
    if any(entry.broken_output or found.fails for entry, found in comparisons):
        return ExitCode.FAILED
    lost_quality = any(holm([p_value for _, found in comparisons for p_value in _p_values(found)], QUALITY_LEVEL))
    return ExitCode.QUALITY if lost_quality else ExitCode.CLEAN


def _p_values(comparison: Comparison) -> Iterator[float]:
    """Of each test that may fail for the summaries."""
    for quality in comparison.qualities:
        yield from (p_value for _, p_value in p_values_of(quality.as_extra_info()))
    for change in comparison.faithfulness_changes:
        yield from (p_value for _, p_value in p_values_of_faithfulness(change.as_extra_info()))
