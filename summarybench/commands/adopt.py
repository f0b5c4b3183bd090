"""`make adopt RUN=results/latest NAME=nightly`: a finished run becomes a baseline, as --benchmark-save would have made it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from summarybench.core.outcomes import ExitCode, InputError, SuiteError
from summarybench.runs.baselines import (
    ANCHOR,
    StoredRun,
    open_run,
    read_baselines,
    save_baseline,
    why_superfluous,
    why_unfit,
)
from summarybench.runs.run_file import device_of
from summarybench.runs.run_folder import read_exit_code, shown

NAME = re.compile(r"[\w.-]+")
REFUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Store the run under the next number of its device's folder; 2 where it is not one that may become a baseline."""
    parser = argparse.ArgumentParser(prog="make adopt", description="Store a finished run as a baseline.")
    parser.add_argument("run", type=Path, help="the folder that a session left in results/")
    parser.add_argument("name", help="NAME in baselines/<device>/NNNN_NAME.json")
    parser.add_argument("--baselines", type=Path, default=Path("baselines"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        stored = _adopt(open_run(options.run), options.name, options.baselines)
    except SuiteError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return REFUSED
    print(f"baseline saved: {shown(stored)}")
    return ExitCode.CLEAN


def _adopt(finished: StoredRun, name: str, baselines: Path) -> Path:
    if not NAME.fullmatch(name):
        raise InputError(f"NAME={name}: give letters, digits, dots, dashes and underscores")
    device = device_of(finished.run)
    if device.stands_in or device.is_limited:
        raise InputError(f"{finished.path} is from a device that was not itself (--gpu-family, --memory-limit)")
    why = _why_not_clean(finished) or why_unfit(finished.run)
    if why:
        raise InputError(f"{finished.path} does not become a baseline ({why}); only a clean run does")
    folder = baselines / device.slug
    if name != ANCHOR and (why := why_superfluous(finished.run, read_baselines(folder).runs)):
        raise InputError(f"{finished.path} is not stored: {why}")
    return save_baseline(folder, name, finished.run)


def _why_not_clean(finished: StoredRun) -> str | None:
    exit_code = read_exit_code(finished.path.parent)
    if exit_code is None:
        return "there is no exit_code beside it: the session was cut short, or this is a copy"
    return None if exit_code == ExitCode.CLEAN else f"the session ended with exit code {exit_code}"


if __name__ == "__main__":
    sys.exit(main())
