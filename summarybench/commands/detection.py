"""`make detection`: how often the verdict finds a slowdown, and how often it finds one where there is none."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from summarybench.analysis.attribution import WORDS
from summarybench.analysis.comparison import FALSE_ALARM_LEVEL
from summarybench.analysis.simulation import (
    BASELINE_RUNS,
    CONFIRMED,
    DISTURBED_RATIO,
    DOCUMENTS,
    EXPERIMENTS_OF_A_SESSION,
    PASSES,
    RULES,
    TWO_PASSES,
    Conditions,
    MeasuredDevice,
    Rate,
    SessionAlarms,
    alarms,
    check_against_the_suite,
    draw,
    rate_of,
    read_devices,
    session_alarms,
    slowdown_found,
)
from summarybench.commands.spot_check import check_spots, devices_to_try
from summarybench.core.files import write_where_asked
from summarybench.core.outcomes import InputError, JudgementError, SuiteError
from summarybench.stats.changes import percent

USAGE_ERROR = 4  # as pytest's
SCHEMA = 2
RUN_DEVIATIONS = (0.002, 0.005, 0.008, 0.01, 0.02)
SLOWDOWNS = (0.0, 0.02, 0.03, 0.05, 0.10)
GOAL_SLOWDOWN, GOAL_SHARE, GOAL_RUN_DEVIATION = 0.03, 0.95, 0.008
OTHER_RUN_DEVIATIONS = (0.005, GOAL_RUN_DEVIATION)
OTHER_DOCUMENT_DEVIATIONS = (0.05, 0.02, 0.01)
OTHER_DEGREES_OF_FREEDOM = (10.0, 30.0)
DISTURBED_SHARE = 0.05
DISTURBED_SLOWDOWNS = (0.0, 0.10, 0.20)
SESSIONS_AT_ONCE = 1_000
OWN_RULES = (CONFIRMED, TWO_PASSES)

Row = dict[str, Any]
"""One figure with what it belongs to, as the JSON file has it: plain types only."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table as markdown and JSON, whatever it says.

    1 where the simulation does not decide as the suite does, 4 where there is nothing to draw from or to write to.
    """
    parser = argparse.ArgumentParser(
        prog="make detection", description="How often the verdict finds a slowdown, and one where there is none."
    )
    parser.add_argument("--trials", type=int, default=10_000, metavar="N", help="for each figure (default: 10,000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the draws (default: 0)")
    parser.add_argument("--baselines", type=Path, default=Path("baselines"), metavar="FOLDER")
    parser.add_argument(
        "--output", type=Path, default=Path("results/detection.md"), metavar="FILE", help="JSON goes beside it"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--simulation-only", action="store_true", help="leave out the spot checks on the embedded model"
    )
    chosen.add_argument(
        "--spot-checks-only", "--spot-check", action="store_true", help="only the spot checks: no baselines are read"
    )
    parser.add_argument(
        "--device",
        choices=("gpu", "cpu", "all"),
        default="all",
        help="of the spot checks (default: all that are there, the GPU first)",
    )
    options = parser.parse_args(arguments)
    try:
        if options.trials < 1 or options.seed < 0:
            raise InputError(f"--trials {options.trials} --seed {options.seed}: at least 1 trial, and a seed from 0 on")
        found = _found(options)
        text = "\n".join(_markdown(found)) + "\n"
        write_where_asked(options.output, text)
        write_where_asked(options.output.with_suffix(".json"), json.dumps(found, indent=1, allow_nan=False) + "\n")
    except SuiteError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1 if isinstance(error, JudgementError) else USAGE_ERROR
    print(text, end="")
    return 0


def _found(options: argparse.Namespace) -> Row:
    found: Row = {"schema": SCHEMA, "seed": options.seed, "trials": options.trials, "devices": [], "spot_checks": []}
    to_try = () if options.simulation_only else devices_to_try(options.device)
    if not options.spot_checks_only:
        devices = read_devices(options.baselines)
        found["devices"] = [Simulation(device, options.trials, options.seed).run() for device in devices]
    found["spot_checks"] = [check_spots(device, _say).as_json() for device in to_try]
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Simulation:
    """One device's part of the table; the same seed gives the same figures."""

    def __init__(self, device: MeasuredDevice, trials: int, seed: int) -> None:
        self._device = device
        self._trials = trials
        self._rng = np.random.default_rng(seed)
        self._compared = 0
        self._freedom = device.spread.degrees_of_freedom or 1.0

    def run(self) -> Row:
        deviations = sorted({*RUN_DEVIATIONS, self._device.spread.standard_deviation})
        cells = [cell for deviation in deviations for cell in self._cells(deviation)]
        return {
            "slug": self._device.slug,
            "run_deviation": self._device.spread.standard_deviation,
            "degrees_of_freedom": self._freedom,
            "experiments": {
                each.experiment: {"documents": len(each.timings), "document_deviation": each.document_deviation}
                for each in self._device.experiments
            },
            "cells": cells,
            "goals": list(_goals(cells)),
            "sessions": [row for deviation in deviations for row in self._sessions(deviation)],
            "other_conditions": list(self._other_conditions()),
            "disturbed": [row for deviation in deviations for row in self._disturbed(deviation)],
            "trials_decided_by_the_suite_too": self._compared,
        }

    def _cells(self, run_deviation: float) -> Iterator[Row]:
        conditions = Conditions(run_deviation=run_deviation, degrees_of_freedom=self._freedom)
        trials = draw(self._device.experiments, conditions, self._trials, self._rng)
        least = slowdown_found(trials, GOAL_SHARE)
        rates: dict[str, dict[float, Rate]] = {rule: {} for rule in RULES}
        for slowdown in SLOWDOWNS:
            found = alarms(trials, slowdown)
            self._compared += check_against_the_suite(trials, slowdown, found)
            for rule, alarmed in found.items():
                rates[rule][slowdown] = rate_of(alarmed)
        for rule, by_slowdown in rates.items():
            yield {
                "run_deviation": run_deviation,
                "rule": rule,
                "rates": [{"slowdown": slowdown, **rate.as_json()} for slowdown, rate in by_slowdown.items()],
                "found_in_95_percent_from": least[rule],
            }

    def _sessions(self, run_deviation: float) -> Iterator[Row]:
        conditions = Conditions(run_deviation=run_deviation, degrees_of_freedom=self._freedom)
        parts: list[SessionAlarms] = []
        for first in range(0, self._trials, SESSIONS_AT_ONCE):
            sessions = min(SESSIONS_AT_ONCE, self._trials - first)
            trials = draw(
                self._device.experiments,
                conditions,
                sessions * EXPERIMENTS_OF_A_SESSION,
                self._rng,
                share_spread=EXPERIMENTS_OF_A_SESSION,
            )
            parts.append(session_alarms(trials))
        for rule in OWN_RULES:
            yield {
                "run_deviation": run_deviation,
                "rule": rule,
                "without_holm": rate_of(np.concatenate([part.without_holm[rule] for part in parts])).as_json(),
                "with_holm": rate_of(np.concatenate([part.with_holm[rule] for part in parts])).as_json(),
            }

    def _other_conditions(self) -> Iterator[Row]:
        """What finding the goal's slowdown would take: quieter documents, a spread that was measured more often."""
        for run_deviation, document_deviation, freedom in product(
            OTHER_RUN_DEVIATIONS, (None, *OTHER_DOCUMENT_DEVIATIONS), (self._freedom, *OTHER_DEGREES_OF_FREEDOM)
        ):
            conditions = Conditions(
                run_deviation=run_deviation, degrees_of_freedom=freedom, document_deviation=document_deviation
            )
            trials = draw(self._device.experiments, conditions, self._trials, self._rng)
            unchanged, slower = alarms(trials, 0.0), alarms(trials, GOAL_SLOWDOWN)
            yield {
                "run_deviation": run_deviation,
                "document_deviation": document_deviation,
                "degrees_of_freedom": freedom,
                "rules": {
                    rule: {
                        "false_alarms": rate_of(unchanged[rule]).as_json(),
                        "found": rate_of(slower[rule]).as_json(),
                    }
                    for rule in OWN_RULES
                },
            }

    def _disturbed(self, run_deviation: float) -> Iterator[Row]:
        """One row: what the suite's rules do where something else on the machine slows down some of today's passes."""
        conditions = Conditions(
            run_deviation=run_deviation, degrees_of_freedom=self._freedom, disturbed_share=DISTURBED_SHARE
        )
        trials = draw(self._device.experiments, conditions, self._trials, self._rng)
        found = {slowdown: alarms(trials, slowdown) for slowdown in DISTURBED_SLOWDOWNS}
        yield {
            "run_deviation": run_deviation,
            "disturbed_share": DISTURBED_SHARE,
            "disturbed_ratio": DISTURBED_RATIO,
            "rules": {
                rule: [
                    {"slowdown": slowdown, **rate_of(alarmed[rule]).as_json()} for slowdown, alarmed in found.items()
                ]
                for rule in OWN_RULES
            },
        }


def _goals(cells: Sequence[Row]) -> Iterator[Row]:
    """The two goals for each of the suite's rules, as found: the worst cell decides."""
    for rule in OWN_RULES:
        own = [cell for cell in cells if cell["rule"] == rule]
        worst = max(own, key=lambda cell: _rate(cell, 0.0)["share"])
        share = _rate(worst, 0.0)["share"]
        yield _goal(rule, f"false alarms at most {FALSE_ALARM_LEVEL:.0%}", share <= FALSE_ALARM_LEVEL, worst, 0.0)
        quiet = [cell for cell in own if cell["run_deviation"] <= GOAL_RUN_DEVIATION]
        worst = min(quiet, key=lambda cell: _rate(cell, GOAL_SLOWDOWN)["share"])
        words = f"{GOAL_SLOWDOWN:.0%} found in at least {GOAL_SHARE:.0%} where s_run ≤ {GOAL_RUN_DEVIATION:.1%}"
        is_met = _rate(worst, GOAL_SLOWDOWN)["share"] >= GOAL_SHARE
        yield _goal(rule, words, is_met, worst, GOAL_SLOWDOWN)


def _goal(rule: str, words: str, is_met: bool, worst: Row, slowdown: float) -> Row:
    return {
        "rule": rule,
        "goal": words,
        "is_met": is_met,
        "worst": {"run_deviation": worst["run_deviation"], **_rate(worst, slowdown)},
    }


def _rate(cell: Row, slowdown: float) -> Row:
    return next(rate for rate in cell["rates"] if rate["slowdown"] == slowdown)


# Markdown --------------------------------------------------------------------------------------------------------


def _markdown(found: Row) -> Iterator[str]:
    yield "# What is detected"
    for device in found["devices"]:
        yield from _device_lines(device, found)
    for checks in found["spot_checks"]:
        yield from _spot_lines(checks)


def _device_lines(device: Row, found: Row) -> Iterator[str]:
    yield ""
    yield f"## Simulated from what was measured on {device['slug']}"
    yield ""
    yield f"{DOCUMENTS} documents, {BASELINE_RUNS} baseline runs, {PASSES} passes; {found['trials']:,} trials a row, seed {found['seed']}."
    for name, facts in device["experiments"].items():
        yield f"- {name}: {facts['documents']} stored documents, one document in one run deviates by {percent(facts['document_deviation'])}"
    yield (
        f"- measured spread between runs {percent(device['run_deviation'])}, {device['degrees_of_freedom']:.1f} degrees of freedom; "
        "in each row the verdict's own estimate of s_run is drawn with these (chi-square)"
    )
    yield (
        f"- {device['trials_decided_by_the_suite_too']:,} of the trials were decided by the suite's own functions too, "
        "from the single timings: all alike"
    )
    yield ""
    yield from _goal_lines(device)
    yield ""
    headings = [f"{slowdown:.0%} slower" if slowdown else "unchanged" for slowdown in SLOWDOWNS]
    yield from _table(
        ["s_run", "rule", *headings, "95% found from"],
        (
            [
                f"{percent(cell['run_deviation'])}{_mark(cell, device)}",
                cell["rule"],
                *map(_shown, cell["rates"]),
                f"{cell['found_in_95_percent_from']:.0%} slower",
            ]
            for cell in device["cells"]
        ),
    )
    yield ""
    yield "Share of trials with an alarm [exact 95% bounds]; \\* the spread that was measured here."
    yield ""
    yield f"A session of {EXPERIMENTS_OF_A_SESSION} unchanged experiments that raises an alarm:"
    yield ""
    yield from _table(
        ["s_run", "rule", "without Holm's correction", f"with, at {FALSE_ALARM_LEVEL:.0%}"],
        (
            [
                f"{percent(row['run_deviation'])}{_mark(row, device)}",
                row["rule"],
                _shown(row["without_holm"]),
                _shown(row["with_holm"]),
            ]
            for row in device["sessions"]
        ),
    )
    yield ""
    yield from _disturbed_lines(device)
    yield ""
    yield (
        f"What finding {GOAL_SLOWDOWN:.0%} would take; other deviations and degrees of freedom than the measured ones are "
        "assumed:"
    )
    yield ""
    yield from _table(
        [
            "s_run",
            "one document deviates by",
            "degrees of freedom of the spread",
            *(f"{rule}: {what}" for rule in OWN_RULES for what in ("unchanged", f"{GOAL_SLOWDOWN:.0%} slower")),
        ],
        (
            [
                percent(row["run_deviation"]),
                "as measured" if row["document_deviation"] is None else f"{row['document_deviation']:.0%}",
                f"{row['degrees_of_freedom']:.1f}",
                *(_shown(row["rules"][rule][what]) for rule in OWN_RULES for what in ("false_alarms", "found")),
            ]
            for row in device["other_conditions"]
        ),
    )


def _disturbed_lines(device: Row) -> Iterator[str]:
    yield (
        f"Each of today's passes is disturbed with a probability of {DISTURBED_SHARE:.0%}, by something else on the machine "
        f"that leaves {DISTURBED_RATIO:.0%} of its speed:"
    )
    yield ""
    headings = [f"{slowdown:.0%} slower" if slowdown else "unchanged" for slowdown in DISTURBED_SLOWDOWNS]
    yield from _table(
        ["s_run", *(f"{rule}: {heading}" for rule in OWN_RULES for heading in headings)],
        (
            [
                f"{percent(row['run_deviation'])}{_mark(row, device)}",
                *(_shown(rate) for rule in OWN_RULES for rate in row["rules"][rule]),
            ]
            for row in device["disturbed"]
        ),
    )


def _goal_lines(device: Row) -> Iterator[str]:
    for goal in device["goals"]:
        worst = goal["worst"]
        yield (
            f"- {'goal met' if goal['is_met'] else 'GOAL NOT MET'}: {goal['goal']} ({goal['rule']}): "
            f"{_shown(worst)} at s_run {percent(worst['run_deviation'])}, the worst of its rows"
        )
    here = [
        f"{cell['rule']}: a slowdown of {cell['found_in_95_percent_from']:.0%} or more"
        for cell in device["cells"]
        if cell["rule"] in OWN_RULES and cell["run_deviation"] == device["run_deviation"]
    ]
    yield f"- found in 95% of trials at the spread that was measured here: {'; '.join(here)}"


def _mark(row: Row, device: Row) -> str:
    return " \\*" if row["run_deviation"] == device["run_deviation"] else ""


def _shown(rate: Mapping[str, Any]) -> str:
    return f"{rate['share']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"


def _spot_lines(checks: Row) -> Iterator[str]:
    yield ""
    yield f"## The real thing: {checks['experiment']} on {checks['device']}, {checks['cpus']} CPUs"
    yield ""
    yield (
        f"{checks['documents']} documents, at most {checks['max_prompt_tokens']} prompt and {checks['max_new_tokens']} new "
        "tokens, one thread; each document as it is and disturbed, A B B A in one process, so that no spread between runs stands "
        "between them. A control's deviation is that between the undisturbed sides of all rows."
    )
    yield ""
    yield from _table(
        ["disturbance", "tokens/s with ÷ without [95%]", "verdict", "controls with ÷ without", "attribution"],
        (
            [
                spot["name"],
                f"{spot['ratio']:.3f} [{spot['low']:.3f}, {spot['high']:.3f}]",
                spot["verdict"],
                ", ".join(f"{WORDS[name]} {ratio:.2f}" for name, ratio in spot["controls"].items()),
                "–" if spot["attribution"] is None else "{cause}: {detail}".format(**spot["attribution"]),
            ]
            for spot in checks["spots"]
        ),
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    sys.exit(main())
