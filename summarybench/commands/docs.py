"""`summarybench docs`: rewrite the generated tables of README.md and docs/, from stored runs and from the code."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path

from summarybench.commands.docs_quality import quality_tables
from summarybench.commands.docs_reference import reference_tables
from summarybench.commands.docs_servers import server_tables
from summarybench.commands.docs_tables import stored_tables
from summarybench.commands.metrics_check import stored_table
from summarybench.core.files import write_atomically
from summarybench.core.outcomes import ExitCode, InputError
from summarybench.core.paths import user_path
from summarybench.report.detection import detection_tables

FILES = (
    Path("README.md"),
    Path("docs/explanation/quality.md"),
    Path("docs/results/gpus.md"),
    Path("docs/results/throughput.md"),
    Path("docs/results/first-table.md"),
    Path("docs/results/servers.md"),
    Path("docs/explanation/detection.md"),
    Path("docs/reference/commands.md"),
    Path("docs/reference/documents.md"),
    Path("docs/reference/metrics.md"),
    Path("docs/reference/run-file.md"),
    Path("docs/reference/options.md"),
)
"""Every page that holds generated tables, each between its markers."""

MARKED = re.compile(r"<!-- begin (?P<name>[a-z-]+): .*? -->\n(?P<body>.*?)<!-- end (?P=name) -->\n", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=user_path,
        default=Path(),
        metavar="FOLDER",
        help="the project's folder (default: the current one)",
    )


def run(options: argparse.Namespace) -> int:
    """Rewrite the files whose tables are stale. Raises InputError where a stored run, a file or its markers cannot be used."""
    root: Path = options.root
    tables = tables_of(root / "baselines") | simulated_tables(root / "docs" / "explanation")
    for name in FILES:
        path = root / name
        before = _read(path)
        after = rewritten(before, tables, path)
        if after != before:
            _write(path, after)
        print(f"{name}: {'unchanged' if after == before else 'rewritten'}")
    return ExitCode.CLEAN


def tables_of(baselines: Path) -> dict[str, str]:
    """Every table by the name in its markers. Raises InputError for a stored run that cannot be used."""
    return stored_tables(baselines) | server_tables(baselines) | quality_tables(baselines) | reference_tables()


def simulated_tables(folder: Path) -> dict[str, str]:
    """The tables of detection.md by name, and that of spoiled summaries, from results that lie beside them.

    Raises InputError for a file that cannot be used.
    """
    detection, otava = folder / "detection.json", folder / "otava.json"
    spoiled = {"metrics-check": _metrics_check(folder / "summaries.json")}
    try:
        return spoiled | detection_tables(json.loads(_read(detection))["simulation"], json.loads(_read(otava)))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{detection} or {otava} does not hold simulated results ({type(error).__name__}: {error}); "
            "`summarybench detection --simulation-only` makes the first, tests/otava_on_draws.py the second"
        ) from error


def _metrics_check(path: Path) -> str:
    try:
        return stored_table(json.loads(_read(path)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not hold summaries of the built-in documents ({type(error).__name__}: {error}); "
            f"`summarybench metrics-check RUN --output {path}` makes it from a run of -m embedded"
        ) from error


def rewritten(text: str, tables: Mapping[str, str], path: Path) -> str:
    """The text with each table between its markers made anew. Raises InputError for markers that cannot be used."""
    begun = re.findall(r"<!-- begin ([a-z-]+): ", text)
    whole = [found["name"] for found in MARKED.finditer(text)]
    if begun != whole or not whole:
        raise InputError(
            f"{path} has no pairs of markers such as <!-- begin NAME: ... --> and <!-- end NAME -->: {begun}"
        )
    if unknown := [name for name in whole if name not in tables]:
        raise InputError(f"{path} has markers for no table: {', '.join(unknown)}; there are {', '.join(tables)}")

    def made(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- begin {name}: by `make readme` -->\n{tables[name]}<!-- end {name} -->\n"

    return MARKED.sub(made, text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
