"""docs/explanation/quality.md: simulated rates of the quality gate and of the floors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from summarybench.analysis.faithfulness_simulation import (
    NET_LOSSES,
    TESTS_OF_SESSIONS,
    simulate_faithfulness,
)
from summarybench.analysis.quality_simulation import (
    LOSSES,
    RELATIVE_LOSSES,
    SESSIONS,
    QualityRates,
    paired_scores,
    simulate,
    simulate_floor,
)
from summarybench.catalogue.floors import FLOORS
from summarybench.core.numbers import counted, decimal, percent
from summarybench.report.markdown import markdown_row
from summarybench.runs.baselines import read_baselines
from summarybench.runs.run_file import Entry, entries_of

NO_SCORES = "No run with scored summaries is stored.\n"


def quality_tables(baselines: Path) -> dict[str, str]:
    """The tables by name, simulated from the stored run with the most scored documents."""
    entries = max(_scored(baselines), key=lambda found: len(found[0].texts), default=None)
    faithfulness = _faithfulness_rates()
    if entries is None:
        return {"quality-rates": NO_SCORES, "floor-rates": NO_SCORES, "faithfulness-rates": faithfulness}
    scores = [text.rouge1 for text in entries[0].texts.values()]
    return {
        "quality-rates": _quality_rates(list(simulate(paired_scores(entries)))),
        "floor-rates": _floor_rates(scores),
        "faithfulness-rates": faithfulness,
    }


def _scored(baselines: Path) -> list[list[Entry]]:
    """The scored experiments of each stored run in which two loaders scored different summaries."""
    folders = sorted(each for each in baselines.glob("*") if each.is_dir())
    runs = [stored for folder in folders for stored in read_baselines(folder).runs]
    found = [[entry for entry in entries_of(stored.run) if entry.texts] for stored in runs]
    return [entries for entries in found if any(paired_scores(entries))]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---:"] * len(headings), *rows]
    return "".join(f"{markdown_row(line)}\n" for line in lines)


def _quality_rates(rates: Sequence[QualityRates]) -> str:
    headings = (
        "summaries changed",
        "documents",
        "coverage of the 95% interval",
        *(f"false failures, {counted(each, 'comparison')}" for each in SESSIONS),
        *(f"{decimal(100 * loss, 0)} points lost: found" for loss in LOSSES),
    )
    rows = [
        [
            percent(each.share_changed),
            str(each.documents),
            percent(each.coverage, 1),
            *(percent(each.false_failures[size], 1) for size in SESSIONS),
            *(percent(each.found.get(loss)) for loss in LOSSES),
        ]
        for each in rates
    ]
    return _table(headings, rows)


@cache
def _faithfulness_rates() -> str:
    headings = (
        "without a loss",
        "documents",
        "coverage of the 98% interval",
        *(f"false failures, {counted(each, 'test')}" for each in TESTS_OF_SESSIONS),
        *(f"{decimal(100 * loss, 0)} points lost: found" for loss in NET_LOSSES),
    )
    rows = [
        [
            each.truth,
            str(each.documents),
            percent(each.coverage, 1),
            *(percent(each.false_failures[size], 1) for size in TESTS_OF_SESSIONS),
            *(percent(each.found[loss]) for loss in NET_LOSSES),
        ]
        for each in simulate_faithfulness()
    ]
    return _table(headings, rows)


def _floor_rates(scores: Sequence[float]) -> str:
    headings = (
        "documents behind the floor",
        "documents measured",
        "an equal model fails",
        *(f"{percent(loss)} lost: found" for loss in RELATIVE_LOSSES),
    )
    sizes = sorted({floor.documents for floor in FLOORS.values() if floor.documents is not None})
    rows = [
        [
            str(size),
            str(each.documents),
            percent(each.false_failures, 1),
            *(percent(each.found[loss]) for loss in RELATIVE_LOSSES),
        ]
        for size in sizes
        for each in simulate_floor(scores, size)
    ]
    return _table(headings, rows)
