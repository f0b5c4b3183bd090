"""The tables of `summarybench detection` and `summarybench spot-check`, as markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from summarybench.analysis.attribution import WORDS
from summarybench.analysis.detection import BOTH, HISTORY, RULES, THRESHOLD, VERDICT, Row
from summarybench.analysis.truths import (
    AS_MEASURED,
    BASELINE_RUNS,
    DOCUMENTS,
    JUDGED_NIGHTS,
    SLIDE,
    STORED_NIGHTS,
)
from summarybench.core.numbers import MISSING, decimal, estimate, percent
from summarybench.report.markdown import markdown_row

OTAVA = "otava"
NOT_RUN: Row = {"found": []}
RULE_NAMES = {
    VERDICT: "verdict",
    HISTORY: "history",
    BOTH: "verdict or history",
    THRESHOLD: "threshold of 5%",
    OTAVA: "Apache Otava",
}
SHOWN_NIGHTS = ("1", "5", "10", "20", "30")


def detection_lines(found: Row) -> Iterator[str]:
    """The page: simulated rates, then the slowdowns that were really made."""
    yield "# What is detected"
    if simulation := found["simulation"]:
        for heading, lines in (
            ("Goals", goal_lines(simulation)),
            ("False alarms", false_alarm_lines(simulation, {})),
            ("Slowdowns found", _all_found_lines(simulation)),
        ):
            yield ""
            yield f"## {heading}"
            yield ""
            yield from lines
        yield ""
        yield "## First nights"
        yield ""
        yield from first_night_lines(simulation)
        yield ""
        yield from setting_lines(simulation)
    for checks in found["spot_checks"]:
        yield from _spot_lines(checks)


def detection_tables(simulation: Row, otava: Row) -> dict[str, str]:
    """The generated parts of docs/explanation/detection.md, by the names of their markers."""
    made = {
        "detection-setting": setting_lines(simulation),
        "detection-goals": goal_lines(simulation),
        "detection-alarms": false_alarm_lines(simulation, _by_condition(otava)),
        "detection-found": _found_as_measured_lines(simulation),
        "detection-others": _other_rule_lines(simulation, _by_condition(otava)),
        "detection-hostile": _hostile_lines(simulation),
        "detection-first-nights": first_night_lines(simulation),
    }
    return {name: "\n".join(lines) + "\n" for name, lines in made.items()}


def _by_condition(otava: Row) -> dict[tuple[str, float], Row]:
    return {(each["truth"], each["noise"]): each for each in otava["conditions"]}


def setting_lines(simulation: Row) -> Iterator[str]:
    """How the figures were made, in one paragraph."""
    checked = sum(each["decided_by_the_suite_too"] for each in simulation["conditions"])
    yield (
        f"{simulation['trials']:,} series for each line, seed {simulation['seed']}: {STORED_NIGHTS} stored nights, then "
        f"{JUDGED_NIGHTS} judged ones, {DOCUMENTS} documents, {BASELINE_RUNS} baseline runs. The suite's own functions decided "
        f"{checked:,} of the nights too, with the same results."
    )


def goal_lines(simulation: Row) -> Iterator[str]:
    """One line for each goal: met or not, and by how much."""
    for goal in simulation["goals"]:
        what = (
            f"a slide of {percent(SLIDE, 1)} a night"
            if goal["slowdown"] is None
            else f"{percent(goal['slowdown'])} slower"
        )
        nights = "one night" if goal["nights"] == 1 else f"{goal['nights']} nights"
        yield (
            f"- {'met' if goal['is_met'] else 'NOT MET'}: {what} found in {percent(goal['goal'])} within {nights} at a noise of "
            f"{percent(goal['noise'], 1)}: {_share(goal['share'])}"
        )
    conditions = simulation["conditions"]
    missed = [each for each in conditions if each["false_alarms"][BOTH] > each["most_false_alarms"]]
    yield (
        f"- {'NOT MET' if missed else 'met'}: at most 1% false alarms a night, or 2% with more noise than was measured: in "
        f"{len(conditions) - len(missed)} of {len(conditions)} conditions"
    )
    for each in missed:
        yield (
            f"    - {percent(each['false_alarms'][BOTH], 2)}: {each['truth']}, noise {percent(each['noise'], 1)} "
            f"(goal {percent(each['most_false_alarms'])})"
        )


def false_alarm_lines(simulation: Row, otava: Mapping[tuple[str, float], Row]) -> Iterator[str]:
    """False alarms a night for each condition and rule, and Otava's where they are known."""
    rules = (*RULES, *([OTAVA] if otava else []))
    rows = []
    for each in simulation["conditions"]:
        shares = {**each["false_alarms"], OTAVA: otava.get((each["truth"], each["noise"]), {}).get("false_alarms")}
        rows.append([each["truth"], percent(each["noise"], 1), *(percent(shares[rule], 2) for rule in rules)])
    yield from _table(["what really happens", "noise", *(RULE_NAMES[rule] for rule in rules)], rows)


def first_night_lines(simulation: Row) -> Iterator[str]:
    """How often the interval of a host's first nights holds, and how often such a night fails."""
    found = {(each["noise"], each["stored_nights"]): each for each in simulation["first_nights"]}
    noises, stored = (list(dict.fromkeys(each)) for each in zip(*found, strict=True))
    rows = [
        [
            percent(noise, 1),
            *(
                " / ".join(percent(found[noise, count][key], 1) for key in ("coverage", "one_pass", "two_passes"))
                for count in stored
            ),
        ]
        for noise in noises
    ]
    yield from _table(["noise", *(f"{_within(str(count))} stored" for count in stored)], rows)


def _found_as_measured_lines(simulation: Row) -> Iterator[str]:
    rows = [
        [
            percent(condition["noise"], 1),
            what,
            *(" / ".join(_share(shares[rule][nights]) for rule in (VERDICT, HISTORY, BOTH)) for nights in SHOWN_NIGHTS),
        ]
        for condition in _as_measured(simulation)
        for what, shares in _changes(condition)
    ]
    yield from _table(["noise", "change", *map(_within, SHOWN_NIGHTS)], rows)


def _other_rule_lines(simulation: Row, otava: Mapping[tuple[str, float], Row]) -> Iterator[str]:
    rows = []
    for condition in _as_measured(simulation):
        theirs = {
            each["slowdown"]: each for each in otava.get((condition["truth"], condition["noise"]), NOT_RUN)["found"]
        }
        for found in condition["found"]:
            if found["slowdown"] in theirs:
                for rule in (BOTH, THRESHOLD, OTAVA):
                    shares = theirs[found["slowdown"]][OTAVA] if rule == OTAVA else found[rule]
                    rows.append(
                        [
                            percent(condition["noise"], 1),
                            _slower(found["slowdown"]),
                            RULE_NAMES[rule],
                            *(_share(shares[nights]) for nights in SHOWN_NIGHTS),
                        ]
                    )
    yield from _table(["noise", "change", "rule", *map(_within, SHOWN_NIGHTS)], rows)


def _hostile_lines(simulation: Row) -> Iterator[str]:
    conditions = [each for each in simulation["conditions"] if each["truth"] != AS_MEASURED.name]
    headings = [what for what, _ in _changes(conditions[0])]
    rows = [
        [
            condition["truth"],
            percent(condition["noise"], 1),
            *(", ".join(_share(shares[BOTH][nights]) for nights in SHOWN_NIGHTS) for _, shares in _changes(condition)),
        ]
        for condition in conditions
    ]
    yield from _table(["what really happens", "noise", *headings], rows)


def _all_found_lines(simulation: Row) -> Iterator[str]:
    rows = [
        [
            condition["truth"],
            percent(condition["noise"], 1),
            what,
            RULE_NAMES[rule],
            *(_share(share) for share in shares[rule].values()),
        ]
        for condition in simulation["conditions"]
        for what, shares in _changes(condition)
        for rule in RULES
    ]
    nights = simulation["conditions"][0]["slide"][BOTH]
    yield from _table(["what really happens", "noise", "change", "rule", *map(_within, nights)], rows)


def _as_measured(simulation: Row) -> list[Row]:
    return [each for each in simulation["conditions"] if each["truth"] == AS_MEASURED.name]


def _changes(condition: Row) -> Iterator[tuple[str, Mapping[str, Mapping[str, float]]]]:
    """Each simulated change in words, with its shares by rule and nights."""
    for found in condition["found"]:
        yield _slower(found["slowdown"]), found
    yield f"slide of {percent(SLIDE, 1)} a night", condition["slide"]


def _share(share: float) -> str:
    return percent(share)


def _slower(slowdown: float) -> str:
    return f"{percent(slowdown)} slower"


def _within(nights: str) -> str:
    return "1 night" if nights == "1" else f"{nights} nights"


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
                MISSING if spot["attribution"] is None else "{cause}: {detail}".format(**spot["attribution"]),
            ]
            for spot in checks["spots"]
        ),
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield markdown_row(headings)
    yield f"|{'---|' * len(headings)}"
    yield from map(markdown_row, rows)
