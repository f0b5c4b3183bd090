"""`summarybench detection`: simulate how often nights fail with unchanged code, and how soon slowdowns are found.

It also tries some slowdowns on the embedded model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from summarybench.analysis.detection import TRIALS, Row, simulate
from summarybench.analysis.truths import NOISES, TRUTHS
from summarybench.commands.spot_check import add_device_argument, spot_checks, write_found
from summarybench.core.numbers import percent
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.core.paths import user_path
from summarybench.measure.spot_check import devices_to_try

QUICK_TRIALS, QUICK_NOISE = 200, 0.02
LEAST_NOISE, LARGEST_NOISE = 0.0005, 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trials", type=int, default=TRIALS, metavar="N", help=f"series for each line (default: {TRIALS:,})"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the random draws (default: 0)")
    parser.add_argument(
        "--noise",
        type=_noise,
        action="append",
        metavar="SHARE",
        help="how much runs of different nights differ, such as 2%%; can be repeated (default: "
        f"{', '.join(percent(each, 1) for each in NOISES).replace('%', '%%')})",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_TRIALS} series at {percent(QUICK_NOISE).replace('%', '%%')}, in less than a minute",
    )
    parser.add_argument(
        "--output",
        type=user_path,
        default=Path("results/detection.md"),
        metavar="FILE",
        help="file for the table; a JSON file goes beside it (default: results/detection.md)",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--simulation-only", action="store_true", help="skip the spot checks on the embedded model")
    chosen.add_argument(
        "--spot-checks-only",
        "--spot-check",
        action="store_true",
        help="only the spot checks, like the command spot-check",
    )
    add_device_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Write and print the tables, whatever they show.

    Raises InputError if the file cannot be written, JudgementError if the simulation and the suite decide differently, and
    UnavailableError if the embedded model cannot be loaded.
    """
    if options.trials < 1 or options.seed < 0:
        raise InputError(
            f"--trials {options.trials} --seed {options.seed}: give at least 1 trial and a seed of 0 or more"
        )
    to_try = () if options.simulation_only else devices_to_try(options.device)
    simulation = None if options.spot_checks_only else _simulated(options)
    write_found(options.output, simulation, spot_checks(to_try))
    return ExitCode.CLEAN


def _simulated(options: argparse.Namespace) -> Row:
    noises = options.noise or ([QUICK_NOISE] if options.quick else NOISES)
    trials = min(options.trials, QUICK_TRIALS) if options.quick else options.trials
    return simulate(TRUTHS, noises, trials, options.seed, lambda line: print(line, file=sys.stderr, flush=True))


def _noise(text: str) -> float:
    """A share such as 2% or 0.02. Raises ArgumentTypeError."""
    try:
        noise = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        noise = -1.0
    if not LEAST_NOISE <= noise <= LARGEST_NOISE:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not between {percent(LEAST_NOISE, 2)} and {percent(LARGEST_NOISE)}; give a share such as 2%"
        )
    return noise
