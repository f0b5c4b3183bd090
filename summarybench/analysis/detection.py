"""How often the verdict finds a slowdown, and how often it finds one where there is none: simulated for one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from summarybench.analysis.alarms import (
    CONFIRMED,
    EXPERIMENTS_OF_A_SESSION,
    RULES,
    TWO_PASSES,
    Rate,
    SessionAlarms,
    alarms,
    check_against_the_suite,
    rate_of,
    session_alarms,
    slowdown_found,
)
from summarybench.analysis.comparison import FALSE_ALARM_LEVEL
from summarybench.analysis.measured_devices import MeasuredDevice
from summarybench.analysis.simulation import DISTURBED_RATIO, Conditions, draw
from summarybench.core.numbers import percent

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
        yield _goal(rule, f"false alarms at most {percent(FALSE_ALARM_LEVEL)}", share <= FALSE_ALARM_LEVEL, worst, 0.0)
        quiet = [cell for cell in own if cell["run_deviation"] <= GOAL_RUN_DEVIATION]
        worst = min(quiet, key=lambda cell: _rate(cell, GOAL_SLOWDOWN)["share"])
        words = f"{percent(GOAL_SLOWDOWN)} found in at least {percent(GOAL_SHARE)} where s_run ≤ {percent(GOAL_RUN_DEVIATION, 1)}"
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
