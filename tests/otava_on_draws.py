"""Apache Otava at its defaults on the nights that `summarybench detection` draws.

Otava has dependencies (gRPC, BigQuery) that do not belong beside this project's, so it runs in an environment of its own:

    .venv/bin/python -m tests.otava_on_draws write draws.json
    python -m venv otava && otava/bin/pip install apache-otava==0.8.0
    otava/bin/python tests/otava_on_draws.py judge draws.json docs/explanation/otava.json

As in the simulation, a series has 30 stored nights, and each judged night is asked at once: does Otava report a fall of the
speed that lies in the judged nights? `judge` needs nothing of this project.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

SERIES = 200
SLOWDOWNS = (0.03, 0.10)
WITHIN_NIGHTS = (1, 5, 10, 12, 20, 30)
"""Otava is asked on these nights: it takes 10 ms a series, and once it has found a step it hardly loses it again."""
FALSE_ALARM_NIGHTS = 30
VERSION = "apache-otava 0.8.0"
WINDOW, P_VALUE = 50, 0.001
"""Otava's defaults."""
EARLY_NIGHTS = 2
"""A fall that Otava dates up to so many nights too early counts as found."""


def write(path: Path) -> None:
    """Write tokens per second of the first SERIES series of each condition, as a plain rule sees them."""
    import numpy as np

    from summarybench.analysis.detection import TRIALS, generator_of
    from summarybench.analysis.simulation import draw
    from summarybench.analysis.truths import NOISES, STORED_NIGHTS, TRUTHS

    conditions = []
    for truth in TRUTHS:
        for noise in NOISES:
            drawn = draw(truth, noise, TRIALS, generator_of(0, truth, noise))
            speeds = np.exp(drawn.raw_log_speeds[:SERIES, : STORED_NIGHTS + FALSE_ALARM_NIGHTS, 0])
            conditions.append({"truth": truth.name, "noise": noise, "speeds": speeds.round(6).tolist()})
    path.write_text(json.dumps({"stored": STORED_NIGHTS, "conditions": conditions}))


def judge(draws: Path, output: Path) -> None:
    """Write Otava's false alarms a night and the shares that it finds, for each condition."""
    found = json.loads(draws.read_text())
    conditions = [_condition(each, found["stored"]) for each in found["conditions"]]
    made = {"version": VERSION, "series": SERIES, "max_pvalue": P_VALUE, "window_len": WINDOW, "conditions": conditions}
    output.write_text(json.dumps(made, indent=1) + "\n")


def _condition(condition: dict, stored: int) -> dict:
    first_alarms = [_first_alarm(speeds, stored) for speeds in condition["speeds"]]
    nights = sum(FALSE_ALARM_NIGHTS if each is None else each for each in first_alarms)
    return {
        "truth": condition["truth"],
        "noise": condition["noise"],
        "false_alarms": sum(each is not None for each in first_alarms) / nights,
        "found": [
            {"slowdown": slowdown, "otava": _found_within(condition["speeds"], stored, slowdown)}
            for slowdown in SLOWDOWNS
        ],
    }


def _first_alarm(speeds: list[float], stored: int) -> int | None:
    """After how many judged nights Otava first reports a fall; None if it never does."""
    return next(
        (night for night in range(1, FALSE_ALARM_NIGHTS + 1) if _has_fallen(speeds[: stored + night], stored)), None
    )


def _found_within(series: list[list[float]], stored: int, slowdown: float) -> dict[str, float]:
    found = dict.fromkeys(map(str, WITHIN_NIGHTS), 0)
    for speeds in series:
        slower = [*speeds[:stored], *((1 - slowdown) * each for each in speeds[stored:])]
        is_found = False
        for nights in WITHIN_NIGHTS:
            is_found = is_found or _has_fallen(slower[: stored + nights], stored)
            found[str(nights)] += is_found
    return {nights: count / len(series) for nights, count in found.items()}


def _has_fallen(speeds: list[float], stored: int) -> bool:
    from otava.analysis import compute_change_points

    points, _ = compute_change_points(speeds, window_len=WINDOW, max_pvalue=P_VALUE)
    return any(point.index >= stored - EARLY_NIGHTS and point.stats.mean_2 < point.stats.mean_1 for point in points)


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    {"write": write, "judge": judge}[command](*map(Path, paths))
