"""`summarybench report RUN ...`: write one run, or several side by side, as an HTML page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from summarybench.commands.command import add_baselines_argument
from summarybench.core.files import write_where_asked
from summarybench.core.numbers import counted
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.core.paths import user_path
from summarybench.core.price import parse_price
from summarybench.report.experiment import Source
from summarybench.report.html import page_parts, source_of
from summarybench.runs.baselines import open_run, read_baselines
from summarybench.runs.run_file import device_of
from summarybench.runs.run_folder import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=user_path, nargs="+", metavar="RUN", help="a results folder or a run file")
    parser.add_argument(
        "--output",
        type=user_path,
        metavar="FILE",
        help="the page (default: report.html in the folder of a single run, else results/report.html)",
    )
    parser.add_argument(
        "--gpu-hour-price",
        action="append",
        default=[],
        metavar="PRICE",
        help="what one GPU costs for an hour, in your currency; replaces the price that the runs state. Several runs may have a "
        "price each: repeat the option, in the order of the runs",
    )
    add_baselines_argument(parser, "stored runs, for the history")


def run(options: argparse.Namespace) -> int:
    """Write the page and print its path. Raises InputError if a run cannot be used or the page cannot be written."""
    prices = _prices(options.gpu_hour_price, len(options.runs))
    sources = [
        _with_baselines(path, options.baselines, price) for path, price in zip(options.runs, prices, strict=True)
    ]
    path = options.output or _default_output(sources)
    write_where_asked(path, page_parts(sources))
    print(f"report: {shown(path.resolve())}")
    return ExitCode.CLEAN


def _prices(texts: Sequence[str], runs: int) -> Sequence[float | None]:
    """One price for each run. Raises InputError unless there are none, one for all, or as many as runs."""
    prices = [parse_price(each) for each in texts]
    if len(prices) not in (0, 1, runs):
        raise InputError(
            f"--gpu-hour-price: {counted(prices, 'price')} for {counted(runs, 'run')}; give one for all runs, or one for each"
        )
    return prices if len(prices) == runs else [prices[0] if prices else None] * runs


def _with_baselines(path: Path, folder: Path, price: float | None) -> Source:
    stored = open_run(path)
    return source_of(stored, read_baselines(folder / device_of(stored.run).slug), price)


def _default_output(sources: Sequence[Source]) -> Path:
    run_file = sources[0].stored.path
    is_one_folder = len(sources) == 1 and run_file.name == "run.json"
    return run_file.with_name("report.html") if is_one_folder else Path("results") / "report.html"
