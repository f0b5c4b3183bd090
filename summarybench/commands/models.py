"""`summarybench models`: list the models and what each of their loaders needs on this device."""

from __future__ import annotations

import argparse
from pathlib import Path

from summarybench.catalogue.models import MODELS, add_model
from summarybench.core.outcomes import ExitCode
from summarybench.machine.detection import detect_device
from summarybench.session.models_here import lines
from summarybench.session.own_models import read_named_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="[NAME=]X[@REV]",
        help="your own model, as for pytest; may be repeated",
    )
    parser.add_argument(
        "--models", action="append", type=Path, default=[], metavar="FILE", help="the models of a TOML file"
    )


def run(options: argparse.Namespace) -> int:
    """Print one line for each model. Raises InputError for a model that cannot be used."""
    named = read_named_models(options.model, options.models, [], synthetic=False)
    for spec in named.values():
        add_model(spec)
    chosen = named or MODELS
    for line in lines([spec for name, spec in MODELS.items() if name in chosen], detect_device()):
        print(line)
    return ExitCode.CLEAN
