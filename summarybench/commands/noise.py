"""`make spread ARGS=… RUNS=5`: the same experiments in fresh processes, and what that says of the spread between runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from summarybench.analysis.noise import COMPILED, DeviceSpread, Group, add_replicates
from summarybench.commands.bench import run_benchmarks
from summarybench.core.outcomes import InputError, SuiteError
from summarybench.runs.baselines import SPREAD_FILE
from summarybench.runs.run_file import Run, device_of, read_run

USAGE_ERROR = 4  # as pytest's
INTERRUPTED = frozenset({2, 130})
"""Pytest's own code for Ctrl-C, and that of a process which it killed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the spread with and without what was added; 4 where there is none to be had, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="make spread", description="Measure the spread between runs; other options go to pytest."
    )
    parser.add_argument("--runs", type=int, default=5, metavar="K", help="fresh processes (default: 5)")
    parser.add_argument(
        "--from", type=Path, nargs="+", default=[], dest="existing", metavar="RUN", help="runs that are there, instead"
    )
    parser.add_argument("--baselines", type=Path, default=Path("baselines"), metavar="FOLDER")
    options, for_pytest = parser.parse_known_args(arguments)
    try:
        if options.runs < 2:
            raise InputError(f"--runs {options.runs}: at least 2, since one run differs from nothing")
        runs = [_read(path) for path in options.existing] or list(_measure(options.runs, for_pytest))
        for slug in sorted({_slug(run) for run in runs}):
            folder = options.baselines / slug
            spread, added = add_replicates(folder, [run for run in runs if _slug(run) == slug])
            print("\n".join(_lines(folder / SPREAD_FILE, spread, added)))
    except SuiteError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted; pool what was measured with --from", file=sys.stderr)
        return 130
    return 0


def _measure(count: int, for_pytest: Sequence[str]) -> Iterator[Run]:
    """Run the benchmarks so many times, each in a process of its own. Raises InputError where one measures nothing."""
    parent = Path("results") / f"spread-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for number in range(1, count + 1):
        print(f"run {number} of {count}: {parent}/{number}", flush=True)
        folder = parent / str(number)
        code = run_benchmarks([*for_pytest, "--results-dir", str(folder)])
        if code in INTERRUPTED:
            raise KeyboardInterrupt
        if not (folder / "latest").exists():
            raise InputError(f"run {number} ended with exit code {code} before anything was measured; see above")
        yield _read(folder / "latest")


def _read(path: Path) -> Run:
    return read_run(path / "run.json" if path.is_dir() else path)


def _slug(run: Run) -> str:
    return device_of(run).slug


def _lines(path: Path, spread: DeviceSpread, added: Sequence[Group]) -> Iterator[str]:
    for group in added:
        speeds = ", ".join(f"{speed:.1f}" for speed in group["generated_tokens_per_second"])
        yield (
            f"{group['experiment']}: {speeds} generated tok/s; between runs {group['speed_deviation']:.2%}, "
            f"of one document in one run {group['document_deviation']:.2%} ({group['documents']} documents)"
        )
    for name, deviation in spread.controls.items():
        yield f"{name}: {deviation:.2%} between runs"
    yield from _spreads(str(path), spread)
    for host in dict.fromkeys(str(group["host"]) for group in added):
        if host in spread.hosts:
            yield from _spreads(f"{path}: host {host}", spread.hosts[host], of_host=True)
        else:
            yield f"{path}: host {host}: too few replicates of its own, so that those of all hosts count"


def _spreads(title: str, spread: DeviceSpread, *, of_host: bool = False) -> Iterator[str]:
    kinds = (("eager", spread.runs), (COMPILED, spread.compiled), ("compiled and tuned apart", spread.tuned_apart))
    for kind, found in kinds:
        if found.degrees_of_freedom is not None and found.is_of_host is of_host:
            yield (
                f"{title}: spread between {kind} runs {found.standard_deviation:.2%}, "
                f"{found.degrees_of_freedom:.1f} degrees of freedom"
            )


if __name__ == "__main__":
    sys.exit(main())
