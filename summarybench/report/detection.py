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
from summarybench.stats.intervals import percent


def detection_lines(found: Row) -> Iterator[str]:
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
    yield f"## Simulated from what was measured on {device['slug']}"
    for section in sections:
        yield ""
        yield from section


def _setting_lines(device: Row, found: Row) -> Iterator[str]:
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


def _rate_lines(device: Row) -> Iterator[str]:
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


def _session_lines(device: Row) -> Iterator[str]:
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


def _other_condition_lines(device: Row) -> Iterator[str]:
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
