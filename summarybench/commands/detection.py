"""`summarybench detection`: simulate which slowdowns are detected.

It also tries some slowdowns on the embedded model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from summarybench.analysis.detection import Row, Simulation
from summarybench.analysis.measured_devices import read_devices
from summarybench.commands.command import add_baselines_argument
from summarybench.commands.spot_check import add_device_argument, spot_checks, write_found
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.measure.spot_check import devices_to_try


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=int, default=10_000, metavar="N", help="trials per figure (default: 10,000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the random draws (default: 0)")
    add_baselines_argument(parser, "stored runs to draw from")
    parser.add_argument(
        "--output",
        type=Path,
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
        help="only the spot checks, like the command spot-check, without reading baselines",
    )
    add_device_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Write and print the tables, whatever they show.

    Raises InputError if there are no stored runs to draw from or the file cannot be written, JudgementError if the simulation
    and the suite decide differently, and UnavailableError if the embedded model cannot be loaded.
    """
    if options.trials < 1 or options.seed < 0:
        raise InputError(
            f"--trials {options.trials} --seed {options.seed}: give at least 1 trial and a seed of 0 or more"
        )
    to_try = () if options.simulation_only else devices_to_try(options.device)
    devices: list[Row] = []
    if not options.spot_checks_only:
        measured = read_devices(options.baselines)
        devices = [Simulation(device, options.trials, options.seed).run() for device in measured]
    write_found(options.output, devices, spot_checks(to_try), seed=options.seed, trials=options.trials)
    return ExitCode.CLEAN
