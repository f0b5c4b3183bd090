"""How often a night fails with unchanged code, and how soon a slowdown is found: simulated for hostile truths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from summarybench.analysis.alarms import (
    Flags,
    check_against_the_suite,
    history_alarms_of,
    threshold_alarms_of,
    verdicts_of,
)
from summarybench.analysis.simulation import Nights, draw
from summarybench.analysis.truths import AS_MEASURED, SLOWDOWNS, STORED_NIGHTS, Truth
from summarybench.stats.sequential_simulation import first_alarm_rate

TRIALS = 2_000
WITHIN_NIGHTS = (1, 5, 10, 12, 20, 30, 60)
"""After how many nights the share of found slowdowns is noted."""
VERDICT, HISTORY, BOTH, THRESHOLD = "verdict", "history", "both", "threshold"
RULES = (VERDICT, HISTORY, BOTH, THRESHOLD)
Row = dict[str, Any]
"""One figure with what it belongs to, as the JSON file has it: plain types only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A share of slowdowns that verdict and history together should find within so many nights at this noise.

    `slowdown` is None for the slide.
    """

    noise: float
    slowdown: float | None
    nights: int
    share: float = 0.95


GOALS = (
    Goal(noise=0.005, slowdown=0.03, nights=1),
    Goal(noise=0.02, slowdown=0.03, nights=12),
    Goal(noise=0.068, slowdown=0.03, nights=60),
    Goal(noise=0.005, slowdown=None, nights=12),
    Goal(noise=0.02, slowdown=None, nights=12),
    Goal(noise=0.068, slowdown=None, nights=12),
)


def generator_of(seed: int, truth: Truth, noise: float) -> np.random.Generator:
    """The random numbers of one condition: the same whichever other conditions are simulated."""
    return np.random.default_rng([seed, *truth.name.encode(), round(1e6 * noise)])


def simulate(
    truths: Sequence[Truth], noises: Sequence[float], trials: int, seed: int, say: Callable[[str], None]
) -> Row:
    """The results for every truth and noise, as the JSON file has them."""
    conditions = []
    for truth in truths:
        for noise in noises:
            say(f"{truth.name}, noise {noise}")
            conditions.append(_condition(truth, noise, draw(truth, noise, trials, generator_of(seed, truth, noise))))
    return {"seed": seed, "trials": trials, "conditions": conditions, "goals": list(_goals(conditions))}


def _condition(truth: Truth, noise: float, nights: Nights) -> Row:
    unchanged, checked = alarms_by_rule(nights)
    slide, slide_checked = alarms_by_rule(nights.sliding())
    found = []
    for slowdown in SLOWDOWNS:
        alarmed, now_checked = alarms_by_rule(nights.slowed_by(slowdown))
        found.append({"slowdown": slowdown, **{rule: found_within(alarmed[rule]) for rule in RULES}})
        checked += now_checked
    return {
        "truth": truth.name,
        "noise": noise,
        "most_false_alarms": truth.most_false_alarms,
        "false_alarms": {rule: first_alarm_rate(unchanged[rule]) for rule in RULES},
        "found": found,
        "slide": {rule: found_within(slide[rule]) for rule in RULES},
        "decided_by_the_suite_too": checked + slide_checked,
    }


def alarms_by_rule(nights: Nights) -> tuple[Mapping[str, Flags], int]:
    """The alarms of the judged nights by rule, [trials, judged nights], and how many were checked against the suite."""
    verdicts = verdicts_of(nights)
    history = history_alarms_of(nights, verdicts.speeds)
    checked = check_against_the_suite(nights, verdicts, history)
    alarmed = {
        VERDICT: verdicts.alarmed,
        HISTORY: history,
        BOTH: verdicts.alarmed | history,  # until its first alarm, all nights are stored
        THRESHOLD: threshold_alarms_of(nights),
    }
    return {rule: _judged(found) for rule, found in alarmed.items()}, checked


def _judged(alarmed: Flags) -> Flags:
    """The judged nights of the series that had no alarm before them."""
    had_alarm = alarmed[:, STORED_NIGHTS - 1]
    return alarmed[~had_alarm, STORED_NIGHTS:]


def found_within(alarmed: Flags) -> dict[str, float]:
    """The share of series with an alarm within each of WITHIN_NIGHTS."""
    shares = np.maximum.accumulate(alarmed, axis=1).mean(axis=0)
    return {str(nights): float(shares[nights - 1]) for nights in WITHIN_NIGHTS if nights <= len(shares)}


def _goals(conditions: Sequence[Row]) -> Iterator[Row]:
    """Whether each goal is met, for noise as measured."""
    for goal in GOALS:
        for condition in conditions:
            if (condition["truth"], condition["noise"]) == (AS_MEASURED.name, goal.noise):
                by_slowdown = {each["slowdown"]: each for each in condition["found"]} | {None: condition["slide"]}
                share = by_slowdown[goal.slowdown][BOTH][str(goal.nights)]
                yield {
                    "noise": goal.noise,
                    "slowdown": goal.slowdown,
                    "nights": goal.nights,
                    "goal": goal.share,
                    "share": share,
                    "is_met": share >= goal.share,
                }
