"""Which measurements are replicates of each other, and why others are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from summarybench.core.numbers import counted
from summarybench.core.outcomes import Verdict
from summarybench.machine.environment import VERSIONS
from summarybench.runs.run_file import Entry, Run, entries_of
from summarybench.runs.schema import MachineInfo
from summarybench.runs.workload import differences
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS

Measured = tuple[Run, Entry]
"""One experiment, and the run that measured it."""
BOTH = "{} and {}"


def versions_in(machine: MachineInfo) -> dict[str, str | None]:
    found: Mapping[str, Any] = machine
    return {name: found[name] for name in VERSIONS}


def measured_alike(runs: Iterable[Run]) -> list[list[Measured]]:
    """The measurements of each experiment under equal conditions: one workload, host and set of versions.

    INVALID experiments are left out. A measurement that appears twice (a file given twice, or a resumed run) counts once.
    """
    alike: dict[tuple[Any, ...], list[Measured]] = {}
    for run in runs:
        machine = run["machine_info"]
        for entry in entries_of(run):
            if entry.extra_info["verdict"] != Verdict.INVALID:
                conditions = (machine["host"], *versions_in(machine).values())
                key = (entry.name, entry.extra_info["workload"], *conditions)
                members = alike.setdefault(key, [])
                if all(entry.seconds != other.seconds for _, other in members):
                    members.append((run, entry))
    return list(alike.values())


def common_rounds(members: Sequence[Measured]) -> list[str]:
    """The rounds that all of these measurements have, in the order of the first."""
    timings = [entry.timings for _, entry in members]
    return [each for each in timings[0] if all(each in others for others in timings)]


def are_replicates(members: Sequence[Measured]) -> bool:
    """Whether measurements under equal conditions are enough to estimate noise from."""
    return len(members) > 1 and len(common_rounds(members)) >= MINIMUM_COMMON_DOCUMENTS


def why_no_replicates(runs: Iterable[Run]) -> Iterator[str]:
    """The experiments without replicates among these runs: a phrase for each reason, with their names."""
    runs = list(runs)
    by_test: dict[str, list[list[Measured]]] = {entry.name: [] for run in runs for entry in entries_of(run)}
    experiments = {entry.name: entry.experiment for run in runs for entry in entries_of(run)}
    for members in measured_alike(runs):
        by_test[members[0][1].name].append(members)
    names: dict[str, list[str]] = {}
    for test, groups in by_test.items():
        if not any(map(are_replicates, groups)):
            names.setdefault(_why_none(groups), []).append(experiments[test])
    for why, unmeasured in names.items():
        yield f"{', '.join(dict.fromkeys(unmeasured))}: {why}"


def _why_none(groups: Sequence[Sequence[Measured]]) -> str:
    """Why none of an experiment's groups under equal conditions has replicates."""
    if not groups:
        return f"{Verdict.INVALID} in every run"
    largest = max(groups, key=len)
    if len(largest) > 1:
        return _too_few_rounds(largest)
    if len(groups) == 1:
        return "measured once"
    (first, here), (second, there) = _of_one_workload([group[0] for group in groups])
    if here.extra_info["workload"] != there.extra_info["workload"]:
        settings = (each.extra_info["workload_settings"] for each in (here, there))
        return f"other options: {'; '.join(differences(*settings, words=BOTH)) or 'not recorded'}"
    return " and ".join(_other_conditions(first["machine_info"], second["machine_info"]))


def _too_few_rounds(members: Sequence[Measured]) -> str:
    common, unit = len(common_rounds(members)), members[0][1].kind.unit
    shared = "" if all(len(entry.timings) == common for _, entry in members) else " in common"
    return f"{counted(common, unit, unit.plural)}{shared}, {MINIMUM_COMMON_DOCUMENTS} are needed"


def _of_one_workload(measured: Sequence[Measured]) -> tuple[Measured, Measured]:
    """Two measurements with the same workload, if there are such; otherwise the first two."""
    seen: dict[str, Measured] = {}
    for each in measured:
        workload = each[1].extra_info["workload"]
        if workload in seen:
            return seen[workload], each
        seen[workload] = each
    return measured[0], measured[1]


def _other_conditions(first: MachineInfo, second: MachineInfo) -> Iterator[str]:
    if first["host"] != second["host"]:
        yield "other hosts"
    if found := differences(versions_in(first), versions_in(second), words=BOTH):
        yield f"other versions: {'; '.join(found)}"
