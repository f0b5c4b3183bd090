"""`summarybench summary RUN`: print a run as markdown, or append it to a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from summarybench.commands.command import add_baselines_argument
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.core.paths import user_path
from summarybench.core.price import parse_price
from summarybench.report.headline import exit_headline
from summarybench.report.markdown import summary_text
from summarybench.runs.baselines import open_run, read_baselines
from summarybench.runs.run_file import device_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=user_path, metavar="RUN", help="a results folder or a run file")
    parser.add_argument(
        "--output", type=user_path, metavar="FILE", help="append to this file, such as CI's job summary"
    )
    parser.add_argument(
        "--gpu-hour-price", metavar="PRICE", help="what one GPU costs for an hour, in your currency; replaces the run's"
    )
    parser.add_argument("--details", metavar="URL", help="where the whole run is published; the page links to it")
    add_baselines_argument(parser, "stored runs: no line asks for a baseline if the run is one of them")


def run(options: argparse.Namespace) -> int:
    """Print or append the summary. Raises InputError if the run or the file cannot be used."""
    found = open_run(options.run)
    price = None if options.gpu_hour_price is None else parse_price(options.gpu_hour_price)
    stored = read_baselines(options.baselines / device_of(found.run).slug)
    text = summary_text(
        found,
        f"[details](<{options.details}>)" if options.details else "",
        gpu_hour_price=price,
        is_saved=stored.has_all_of(found.run),
    )
    if options.output is None:
        print(text, end="")
    else:
        _append(options.output, text)
        print(exit_headline(found))
    return ExitCode.CLEAN


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
