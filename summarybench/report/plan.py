"""The report of `--plan`: a table of detectable slowdowns, and notes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from summarybench.analysis.planning import NoiseSource, Planned
from summarybench.catalogue.models import Experiment
from summarybench.core.numbers import decimal, deviation, percent
from summarybench.report.console import Grid, console_on, tables_that_fit, without_trailing_blanks
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.decision import MOST_RUNS, REGRESSION_RATIO
from summarybench.stats.power import (
    CONFIRMED,
    DETECTION,
    FALSE_ALARMS,
    Need,
    detection_probability,
    need,
    smallest_slowdown,
)

COLUMNS = (
    "docs",
    "baseline\nruns\n(stored)",
    "processes\nand nights",
    "one\ndocument",
    "smallest\nslowdown",
    "3% needs",
)


def plan_report(planned: Sequence[Planned], *, unplanned_kinds: Sequence[str], width: int, color: bool) -> str:
    """The table of detectable slowdowns and one line per note, `width` columns wide.

    `unplanned_kinds` are the titles of the kinds that cannot be planned.
    """
    if not planned:
        kinds = f" (kinds that are never planned: {', '.join(unplanned_kinds)})" if unplanned_kinds else ""
        return f"nothing to plan: no selected experiment compares documents with a baseline on this device{kinds}\n"
    screen = io.StringIO()
    console = console_on(screen, width=width, color=color)
    title = f"Plan: slowdowns found with {percent(DETECTION)} probability, at {percent(FALSE_ALARMS)} false alarms"
    found = [(each, need(each.design) if each.design else None) for each in planned]

    rows = [(_names(each.experiment), _cells(each, needed)) for each, needed in found]
    console.print(*tables_that_fit(console, [Grid(title=title, headings=COLUMNS, rows=rows)]))
    console.print()
    for line in (*_rule_notes(planned), *_experiment_notes(found), *_session_notes(planned)):
        console.print(line, soft_wrap=True)
    return without_trailing_blanks(screen.getvalue())


def _names(experiment: Experiment) -> dict[str, str]:
    return {"experiment": experiment.name, "model": experiment.model, "loader": experiment.loader}


def _cells(planned: Planned, needed: Need | None) -> list[str]:
    design = planned.design
    if design is None or needed is None:
        return [str(planned.documents), "–", "–", "–", "–", "–"]
    is_bound = planned.noise is NoiseSource.UNKNOWN
    bound = "≥ " if is_bound else ""
    return [
        str(design.documents),
        f"{design.baseline_runs} ({planned.stored_runs})",
        f"{deviation(design.spread.standard_deviation)} {'assumed' if design.spread.is_assumed else 'measured'}",
        "–" if is_bound else deviation(design.document_deviation),
        f"{bound}{percent(smallest_slowdown(design), 1)}",
        "unknown" if is_bound and needed.is_met else f"{bound}{_need_cell(needed, planned.experiment)}",
    ]


def _need_cell(needed: Need, experiment: Experiment) -> str:
    if needed.is_met:
        return "met"
    if needed.documents is not None:
        return f"{needed.documents * experiment.batch_size:,} documents"
    if needed.baseline_runs is not None:
        return f"{needed.baseline_runs} runs, 2 passes"
    return f"over {MOST_RUNS:,} runs" if needed.runs is None else f"{needed.runs} runs a side"


def _rule_notes(planned: Sequence[Planned]) -> Iterator[str]:
    design = next((each.design for each in planned if each.design), None)
    if design is None:
        return
    each_pass = f"each pass alone has to be at or below {decimal(REGRESSION_RATIO, 3)} of the baseline"
    if design.decisions == CONFIRMED:
        yield (
            "--passes 1: a REGRESSED experiment is measured once more, and has to be REGRESSED with both passes pooled too; "
            f"{each_pass}"
        )
    else:
        yield f"--passes 2: every experiment is measured in two processes, and the two pooled decide; {each_pass}"


def _experiment_notes(found: Sequence[tuple[Planned, Need | None]]) -> Iterator[str]:
    """One line per note, naming all experiments that it applies to."""
    names: dict[str, list[str]] = {}
    for planned, needed in found:
        for note in _notes_on(planned, needed):
            names.setdefault(note, []).append(planned.experiment.name)
    for note, experiments in names.items():
        yield f"{'every experiment' if 2 < len(found) == len(experiments) else ', '.join(experiments)}: {note}"


def _notes_on(planned: Planned, needed: Need | None) -> Iterator[str]:
    design = planned.design
    if design is None or needed is None:
        rows = planned.experiment.batch_size
        rounds, more = ("batches", f"{MINIMUM_COMMON_DOCUMENTS * rows} or") if rows > 1 else ("documents", "for")
        yield f"fewer than {MINIMUM_COMMON_DOCUMENTS} {rounds} are never compared; ask {more} more --documents"
        return
    freedom = design.spread.degrees_of_freedom
    if freedom is None or design.spread.is_assumed:
        yield f"the noise between {_levels(planned)} is assumed in part; `summarybench noise` (make noise) measures it"
    else:
        yield f"the noise between {_levels(planned)} is measured, with {decimal(freedom, 1)} degrees of freedom"
    if planned.is_of_another_host:
        yield "the stored runs are of another host, so the noise between hosts counts too"
    if planned.stored_runs < design.baseline_runs:
        yield f"{planned.stored_runs} of {design.baseline_runs} baseline runs are stored so far; --benchmark-save=NAME stores one"
    if planned.noise is NoiseSource.UNKNOWN:
        yield (
            "how much one document varies is unknown: the slowdown is a lower bound; "
            "`summarybench noise` (make noise) measures what is missing"
        )
    elif planned.noise is not NoiseSource.MEASURED:
        yield f"how much one document varies is {planned.noise}; `summarybench noise` (make noise) measures it"
    if not needed.is_met and needed.documents is None:
        yield "no number of documents shows 3%: runs differ by too much"
    if smallest_slowdown(replace(design, documents=2 * design.documents)) > smallest_slowdown(design):
        yield "more documents would detect less: the noise has too few degrees of freedom; `summarybench noise` (make noise) adds to them"


def _levels(planned: Planned) -> str:
    return "processes, nights and hosts" if planned.is_of_another_host else "processes and nights"


def _session_notes(planned: Sequence[Planned]) -> Iterator[str]:
    designs = [each.design for each in planned if each.design]
    if len(designs) < 2:
        return
    uncorrected = min(1.0, math.fsum(detection_probability(design, 0.0) for design in designs))
    level = FALSE_ALARMS / len(designs)
    slowdowns = [smallest_slowdown(design, level) for design in designs]
    yield (
        f"on unchanged code {len(designs)} experiments would raise an alarm in up to {percent(uncorrected, 1)} of the sessions; Holm's "
        f"correction holds that at {percent(FALSE_ALARMS)}, and one experiment that slows down alone is then found from "
        f"{_range(min(slowdowns), max(slowdowns))} on"
    )


def _range(low: float, high: float) -> str:
    least, most = percent(low, 1), percent(high, 1)
    return least if least == most else f"{least} to {most}"
