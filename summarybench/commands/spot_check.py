"""`summarybench spot-check`: slow a model down, and print the verdicts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from summarybench.analysis.detection import Row
from summarybench.core.files import write_where_asked
from summarybench.core.outcomes import ExitCode
from summarybench.core.paths import user_path
from summarybench.machine.device import Device
from summarybench.measure.spot_check import check_spots, devices_to_try
from summarybench.report.detection import detection_lines

SCHEMA = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=user_path,
        default=Path("results/spot-check.md"),
        metavar="FILE",
        help="file for the table; a JSON file goes beside it (default: results/spot-check.md)",
    )
    add_device_argument(parser)


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("gpu", "cpu", "all"),
        default="all",
        help="device for the spot checks (default: all devices of this machine, the GPU first)",
    )


def run(options: argparse.Namespace) -> int:
    """Write and print the table.

    Raises InputError or UnavailableError if a device or the model cannot be used.
    """
    write_found(options.output, None, spot_checks(devices_to_try(options.device)))
    return ExitCode.CLEAN


def spot_checks(devices: Sequence[Device]) -> list[Row]:
    return [check_spots(device, _say).as_json() for device in devices]


def write_found(path: Path, simulation: Row | None, checks: Sequence[Row]) -> None:
    """Print simulated figures and spot checks as markdown, and write them.

    A JSON file goes beside the markdown file.
    """
    found = {"schema": SCHEMA, "simulation": simulation, "spot_checks": [*checks]}
    text = "\n".join(detection_lines(found)) + "\n"
    write_where_asked(path, text)
    write_where_asked(path.with_suffix(".json"), json.dumps(found, indent=1, allow_nan=False) + "\n")
    print(text, end="")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
