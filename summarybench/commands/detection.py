"""`summarybench detection`: simulate how often nights fail with unchanged code, and how soon slowdowns are found.

It also tries some slowdowns on the embedded model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from summarybench.analysis.detection import TRIALS, Row, simulate
from summarybench.analysis.device_noise import read_device_noise
from summarybench.analysis.first_nights import TRIALS as FIRST_NIGHTS_TRIALS
from summarybench.analysis.first_nights import simulate_first_nights
from summarybench.analysis.truths import NOISES, TRUTHS
from summarybench.commands.command import add_baselines_argument
from summarybench.commands.spot_check import add_device_argument, spot_checks, write_found
from summarybench.core.numbers import percent
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.core.paths import user_path
from summarybench.machine.detection import detect_device
from summarybench.measure.spot_check import devices_to_try
from summarybench.runs.baselines import read_baselines

QUICK_TRIALS, QUICK_NOISE = 200, 0.02
QUICK_FIRST_NIGHTS = 20
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
        f"{', '.join(percent(each, 1) for each in NOISES).replace('%', '%%')}, and what was measured on this device)",
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
    add_baselines_argument(parser, "where the measured noise of this device is")


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
    noises = options.noise or ([QUICK_NOISE] if options.quick else _noises_of(options.baselines))
    trials = min(options.trials, QUICK_TRIALS) if options.quick else options.trials
    simulation = simulate(TRUTHS, noises, trials, options.seed, _say)
    _say("first nights")
    of_first_nights = min(trials, QUICK_FIRST_NIGHTS if options.quick else FIRST_NIGHTS_TRIALS)
    return simulation | {"first_nights": simulate_first_nights(options.seed, trials=of_first_nights)}


def _noises_of(baselines: Path) -> list[float]:
    """The fixed noises, and those that were measured on this machine's device. Raises InputError for files that cannot be used."""
    if baselines != Path("baselines") and not baselines.is_dir():
        raise InputError(f"--baselines {baselines} is no folder; give the folder that has one folder for each device")
    device = detect_device()
    measured = read_device_noise(read_baselines(baselines / device.slug), is_gpu=device.is_gpu).measured()
    for noise_class, noise in measured.items():
        _say(f"measured on {device.slug}: {percent(noise, 2)} between nights or processes ({noise_class})")
    within = {round(min(max(each, LEAST_NOISE), LARGEST_NOISE), 4) for each in measured.values()}
    return sorted({*NOISES, *within})


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
