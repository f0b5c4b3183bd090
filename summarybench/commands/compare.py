"""`make compare RUN=… AGAINST=…`: any two run files, compared the way a session compares with its baseline."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from summarybench.analysis.comparison import Judge
from summarybench.analysis.noise import read_spread
from summarybench.analysis.quality_change import describe
from summarybench.core.outcomes import ExitCode, SuiteError, Verdict
from summarybench.runs.baselines import StoredRun, open_run
from summarybench.runs.run_file import entries_of
from summarybench.session.settings import parse_share

USAGE_ERROR = 4  # as pytest's


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a verdict an experiment; 1 where one regressed or is broken, else 10 where quality was lost, 4 where a file cannot be used."""
    parser = argparse.ArgumentParser(prog="make compare", description="Compare two run files.")
    parser.add_argument("run", type=Path, help="a run file, or a folder that holds run.json")
    parser.add_argument("against", type=Path, help="the run file to compare it with")
    parser.add_argument("--tolerance", default="5%", help="a change within this counts as none (default: 5%%)")
    options = parser.parse_args(arguments)
    try:
        return _compare(open_run(options.run), open_run(options.against), parse_share(options.tolerance))
    except SuiteError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return USAGE_ERROR


def _compare(now: StoredRun, against: StoredRun, tolerance: float) -> int:
    spread = read_spread(against.path.parent, is_gpu=against.environment.get("driver") is not None)
    judge = Judge(environment=now.environment, spread=spread, tolerance=tolerance, slug=now.label)
    comparisons = []
    for entry in entries_of(now.run):
        comparison = judge.compare([entry], [against])
        comparisons.append(comparison)
        print(f"{entry.experiment}: {comparison.verdict}: {comparison.detail}")
        if comparison.attribution:
            print(f"  {comparison.attribution}")
        if comparison.environment_differences:
            print(f"  environment: {'; '.join(comparison.environment_differences)}")
        if comparison.quality:
            facts = comparison.quality.as_extra_info()
            print(f"  quality {facts['verdict']} {describe(facts)}")
        if entry.broken_output:
            print(f"  {entry.broken_output}")
    if not comparisons:
        print(f"{now.path} holds no measured experiment")
    is_broken = any(entry.broken_output for entry in entries_of(now.run))
    if is_broken or any(comparison.verdict is Verdict.REGRESSED for comparison in comparisons):
        return ExitCode.FAILED
    lost_quality = any(comparison.quality and comparison.quality.faults for comparison in comparisons)
    return ExitCode.QUALITY if lost_quality else ExitCode.CLEAN


if __name__ == "__main__":
    sys.exit(main())
