"""The tables of `summarybench detection` and `summarybench spot-check`, as markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from summarybench.analysis.alarms import EXPERIMENTS_OF_A_SESSION
from summarybench.analysis.attribution import WORDS
from summarybench.analysis.comparison import FALSE_ALARM_LEVEL
from summarybench.analysis.detection import (
    DISTURBED_SHARE,
    DISTURBED_SLOWDOWNS,
    GOAL_SLOWDOWN,
    OWN_RULES,
    SLOWDOWNS,
    Row,
)
from summarybench.analysis.simulation import BASELINE_RUNS, DISTURBED_RATIO, DOCUMENTS, PASSES
from summarybench.core.numbers import decimal, deviation, estimate, percent, percent_interval
from summarybench.report.markdown import markdown_row


def detection_lines(found: Row) -> Iterator[str]:
    """The page: simulated rates for each device, then the slowdowns that were really made."""
    yield "# What is detected"
    for device in found["devices"]:
        yield from _device_lines(device, found)
    for checks in found["spot_checks"]:
        yield from _spot_lines(checks)


def _device_lines(device: Row, found: Row) -> Iterator[str]:
    sections = (
        _setting_lines(device, found),
        _goal_lines(device),
        _rate_lines(device),
        _session_lines(device),
        _disturbed_lines(device),
        _other_condition_lines(device),
    )
    yield ""
    yield f"## Simulated with the noise measured on {device['slug']}"
    for section in sections:
        yield ""
        yield from section


def _setting_lines(device: Row, found: Row) -> Iterator[str]:
    yield (
        f"{DOCUMENTS} documents, {BASELINE_RUNS} baseline runs, {PASSES} passes; {found['trials']:,} trials per row, "
        f"seed {found['seed']}."
    )
    for name, facts in device["experiments"].items():
        noise = deviation(facts["document_deviation"])
        yield f"- {name}: {facts['documents']} stored documents; one document in one run deviates by {noise}"
    freedom = decimal(device["degrees_of_freedom"], 1)
    yield (
        f"- measured spread between runs: {deviation(device['run_deviation'])}, with {freedom} degrees of freedom; each "
        "trial draws the verdict's own estimate of s_run with these (chi-square)"
    )
    yield (
        f"- {device['trials_decided_by_the_suite_too']:,} of the trials were also decided by the suite's own functions from "
        "the single timings, with the same results"
    )


def _rate_lines(device: Row) -> Iterator[str]:
    headings = list(map(_slower, SLOWDOWNS))
    yield from _table(
        ["s_run", "rule", *headings, "95% found from"],
        (
            [
                f"{deviation(cell['run_deviation'])}{_mark(cell, device)}",
                cell["rule"],
                *map(_shown, cell["rates"]),
                _slower(cell["found_in_95_percent_from"]),
            ]
            for cell in device["cells"]
        ),
    )
    yield ""
    yield "Share of trials with an alarm [exact 95% bounds]. \\* marks the spread that was measured here."


def _session_lines(device: Row) -> Iterator[str]:
    yield f"Share of sessions of {EXPERIMENTS_OF_A_SESSION} unchanged experiments that raise an alarm:"
    yield ""
    yield from _table(
        ["s_run", "rule", "without Holm's correction", f"with, at {percent(FALSE_ALARM_LEVEL)}"],
        (
            [
                f"{deviation(row['run_deviation'])}{_mark(row, device)}",
                row["rule"],
                _shown(row["without_holm"]),
                _shown(row["with_holm"]),
            ]
            for row in device["sessions"]
        ),
    )


def _other_condition_lines(device: Row) -> Iterator[str]:
    yield (
        f"What it would take to find a slowdown of {percent(GOAL_SLOWDOWN)}. Deviations and degrees of freedom other than the "
        "measured ones are assumed:"
    )
    yield ""
    yield from _table(
        [
            "s_run",
            "one document deviates by",
            "degrees of freedom of the spread",
            *(f"{rule}: {what}" for rule in OWN_RULES for what in ("unchanged", _slower(GOAL_SLOWDOWN))),
        ],
        (
            [
                deviation(row["run_deviation"]),
                "as measured" if row["document_deviation"] is None else percent(row["document_deviation"]),
                decimal(row["degrees_of_freedom"], 1),
                *(_shown(row["rules"][rule][what]) for rule in OWN_RULES for what in ("false_alarms", "found")),
            ]
            for row in device["other_conditions"]
        ),
    )


def _disturbed_lines(device: Row) -> Iterator[str]:
    yield (
        f"Each pass of today is disturbed with a probability of {percent(DISTURBED_SHARE)}, by another program on the machine that "
        f"leaves {percent(DISTURBED_RATIO)} of the speed:"
    )
    yield ""
    headings = list(map(_slower, DISTURBED_SLOWDOWNS))
    yield from _table(
        ["s_run", *(f"{rule}: {heading}" for rule in OWN_RULES for heading in headings)],
        (
            [
                f"{deviation(row['run_deviation'])}{_mark(row, device)}",
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
            f"{_shown(worst)} at s_run {deviation(worst['run_deviation'])}, the worst row"
        )
    here = [
        f"{cell['rule']}: a slowdown of {percent(cell['found_in_95_percent_from'])} or more"
        for cell in device["cells"]
        if cell["rule"] in OWN_RULES and cell["run_deviation"] == device["run_deviation"]
    ]
    yield f"- found in 95% of trials at the spread that was measured here: {'; '.join(here)}"


def _mark(row: Row, device: Row) -> str:
    return " \\*" if row["run_deviation"] == device["run_deviation"] else ""


def _shown(rate: Mapping[str, Any]) -> str:
    return f"{percent(rate['share'], 1)} {percent_interval(rate['low'], rate['high'])}"


def _slower(slowdown: float) -> str:
    return f"{percent(slowdown)} slower" if slowdown else "unchanged"


def _spot_lines(checks: Row) -> Iterator[str]:
    yield ""
    yield f"## Real slowdowns: {checks['experiment']} on {checks['device']}, {checks['cpus']} CPUs"
    yield ""
    yield (
        f"{checks['documents']} documents, at most {checks['max_prompt_tokens']} prompt and {checks['max_new_tokens']} new "
        "tokens, one thread. Each document is measured undisturbed and disturbed, in the order A B B A and in one process, so "
        "noise between runs plays no part. The deviation of a probe is the one between the undisturbed sides of all rows."
    )
    yield ""
    yield from _table(
        ["disturbance", "tokens/s with ÷ without [95%]", "verdict", "probes with ÷ without", "attribution"],
        (
            [
                spot["name"],
                estimate(spot["ratio"], spot["low"], spot["high"], 3),
                spot["verdict"],
                ", ".join(f"{WORDS[name]} {decimal(ratio, 2)}" for name, ratio in spot["controls"].items()),
                "–" if spot["attribution"] is None else "{cause}: {detail}".format(**spot["attribution"]),
            ]
            for spot in checks["spots"]
        ),
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield markdown_row(headings)
    yield f"|{'---|' * len(headings)}"
    yield from map(markdown_row, rows)
