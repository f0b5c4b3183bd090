"""`spread.json`: the replicates that `summarybench noise` measured on a device, kept beside its baselines.

How much speeds vary is estimated from them and from the stored runs (device_noise.py). This module has what only the
replicates show: the noise of the machine probes, and of one document.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from summarybench.analysis.quantities import Quantity, judged_quantities, timings_of
from summarybench.analysis.replicate_runs import (
    Measured,
    are_replicates,
    common_rounds,
    measured_alike,
    versions_in,
    why_no_replicates,
)
from summarybench.core.files import READABLE_BY_ALL, write_atomically
from summarybench.core.numbers import counted
from summarybench.core.outcomes import InputError
from summarybench.core.strict_json import InvalidValueError
from summarybench.machine.probes import has_same_work, overall_rate
from summarybench.runs.baselines import SPREAD_FILE
from summarybench.runs.comparison_records import ProbeRecord
from summarybench.runs.device_files import OtherSpeeds, ReplicatesRecord, SpreadFile
from summarybench.runs.run_file import Entry, Run
from summarybench.runs.validation import read_record
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.spread import Replicates, Spread, pooled_spread, replicates_of
from summarybench.stats.timings import log_speed

SCHEMA = 1
COMPILED = "compiled"
"""The key of the noise of compiled loaders. They do not wait for the host, which causes most of the noise of eager ones."""
TUNED_APART = "compiled_tuned_apart"
"""The key of the noise of compiled loaders whose runs have different tuned kernels."""
LEAST_HOST_FREEDOM = 4.0
"""Degrees of freedom that a host's own replicates must have. With fewer, the noise of all hosts with this device is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeNoise:
    """The noise of a device's machine probes and of single documents, as the replicates show it.

    `controls` has the relative standard deviation between runs of each machine probe, and `control_work` the work of one
    repetition. `document_deviations` has the relative standard deviation of one document in one run, by experiment. All are
    empty until they are measured. `hosts` has the noise of single hosts, because two machines with the same GPU can differ
    tenfold.
    """

    controls: Mapping[str, float] = field(default_factory=dict)
    control_work: Mapping[str, float] = field(default_factory=dict)
    document_deviations: Mapping[str, float] = field(default_factory=dict)
    hosts: Mapping[str, ProbeNoise] = field(default_factory=dict)

    def on(self, host: str | None) -> ProbeNoise:
        """The noise of this host if enough was measured on it, otherwise of all hosts."""
        return self.hosts.get(host or "", self)

    def control_deviations_like(self, entry: Entry) -> dict[str, float]:
        """The part of `controls` that was measured with the same work as this entry's probes."""
        measured = {name: {"work": work} for name, work in self.control_work.items()}
        return {
            name: self.controls[name]
            for name, control in entry.extra_info["controls"].items()
            if name in self.controls and has_same_work(control, measured.get(name, {}))
        }

    def deviations_like(self, experiment: str) -> dict[str, float]:
        """The part of `document_deviations` whose experiments are compiled if this one is, and eager otherwise."""
        return {
            name: deviation
            for name, deviation in self.document_deviations.items()
            if is_compiled(name) == is_compiled(experiment)
        }


def is_compiled(experiment: str) -> bool:
    """Whether the experiment has a compiled loader, by its name."""
    return f"-{COMPILED}-" in f"{experiment}-"


def are_tuned_alike(tuned_kernels: Iterable[str | None]) -> bool:
    """Whether compiled runs have the same kernels. A run that does not record its kernels never matches."""
    found = set(tuned_kernels)
    return len(found) == 1 and None not in found


def read_probe_noise(folder: Path) -> ProbeNoise:
    """What the replicates in a folder's spread.json show; empty without the file. Raises InputError for a damaged file."""
    path = folder / SPREAD_FILE
    if not path.exists():
        return ProbeNoise()
    found = _read(path)
    groups = found.get("replicates", [])
    of_all = ProbeNoise(
        controls=found.get("controls", {}),
        control_work={name: float(work) for name, work in found.get("control_work", {}).items()},
        document_deviations=_document_deviations(groups),
    )
    return replace(of_all, hosts=dict(_hosts(of_all, groups)))


def read_groups(folder: Path) -> list[ReplicatesRecord]:
    """The replicates in a folder's spread.json, none without the file. Raises InputError for a damaged file."""
    path = folder / SPREAD_FILE
    return list(_read(path).get("replicates", [])) if path.exists() else []


def _hosts(of_all: ProbeNoise, groups: Sequence[ReplicatesRecord]) -> Iterator[tuple[str, ProbeNoise]]:
    """The noise of each host that has enough replicates of its own."""
    for host in sorted({str(group["host"]) for group in groups if group.get("host")}):
        own = [group for group in groups if group.get("host") == host]
        if any(map(_is_enough, _by_kind(own))):
            found = _control_deviations(own)
            yield (
                host,
                ProbeNoise(
                    controls={**of_all.controls, **found["controls"]},
                    control_work={**of_all.control_work, **found["control_work"]},
                    document_deviations={**of_all.document_deviations, **_document_deviations(own)},
                ),
            )


def _is_enough(groups: Sequence[ReplicatesRecord]) -> bool:
    freedom = _pooled(groups).degrees_of_freedom if groups else None
    return freedom is not None and freedom >= LEAST_HOST_FREEDOM


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_record(path, SpreadFile)
        needed = {"standard_deviation", "degrees_of_freedom"}
        if missing := sorted(
            needed - found.keys() if needed & found.keys() or not {COMPILED, TUNED_APART} & found.keys() else ()
        ):
            raise InvalidValueError(f"{missing[0]} is missing")
        for number, group in enumerate(found.get("replicates", [])):
            _check_group(group, f"replicates[{number}]")
    except (OSError, InvalidValueError) as error:
        raise InputError(f"{path} does not hold a measured spread ({error}); restore it or delete it") from error
    return found


def _check_group(group: ReplicatesRecord, where: str) -> None:
    """Raises InvalidValueError unless each list has one item per run, and there are at least two runs."""
    runs = len(group["measured"])
    lists: dict[str, Sequence[Any]] = {
        "generated_tokens_per_second": group["generated_tokens_per_second"],
        "tuned_kernels": group.get("tuned_kernels", group["measured"]),
        **{f"controls.{name}": rates for name, rates in group["controls"].items()},
    }
    for quantity, speeds in (("first_token", group.get("first_token")), ("decode", group.get("decode"))):
        if speeds is not None:
            lists[f"{quantity}.speeds"] = speeds["speeds"]
    for name, found in lists.items():
        if len(found) != runs or runs < 2:
            raise InvalidValueError(
                f"{where}.{name} has {counted(found, 'item')}, with {counted(runs, 'run')} in measured"
            )
    if unmeasured := sorted(group.get("control_work", {}).keys() - group["controls"].keys()):
        raise InvalidValueError(f"{where}.control_work has {unmeasured[0]}, and controls does not")


def _document_deviations(groups: Iterable[ReplicatesRecord]) -> dict[str, float]:
    """The relative standard deviation of one document in one run, by experiment, pooled over its groups."""
    squares: dict[str, list[tuple[float, int]]] = {}
    for group in groups:
        weight = (len(group["generated_tokens_per_second"]) - 1) * (int(group["documents"]) - 1)
        squares.setdefault(str(group["experiment"]), []).append((float(group["document_deviation"]) ** 2, weight))
    return {experiment: math.sqrt(_weighted_mean(pairs)) for experiment, pairs in squares.items()}


def add_replicates(folder: Path, runs: Sequence[Run]) -> tuple[ProbeNoise, list[ReplicatesRecord]]:
    """Add the replicates among these runs to the folder's spread.json.

    A stored group that shares a run with a new group is replaced. Returns the noise as it is now, and the groups that were
    added. Raises InputError if no experiment was measured twice under equal conditions, or the file cannot be written.
    """
    path = folder / SPREAD_FILE
    groups = list(groups_of(runs))
    if not groups:
        raise InputError(
            "no experiment was measured at least twice on one host with the same options and versions: "
            f"{'; '.join(why_no_replicates(runs)) or 'nothing was measured'}"
        )
    kept = _read(path).get("replicates", []) if path.exists() else []
    contents = _contents([*(group for group in kept if not _shares_a_run(group, groups)), *groups])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(contents, indent=1, allow_nan=False) + "\n", mode=READABLE_BY_ALL)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return read_probe_noise(folder), groups


def _shares_a_run(kept: ReplicatesRecord, groups: Iterable[ReplicatesRecord]) -> bool:
    """Whether one of these groups has a run of the stored group. A run that counts twice would make the noise too small."""
    return any(
        (kept["experiment"], kept["workload"], kept.get("host"))
        == (group["experiment"], group["workload"], group.get("host"))
        and not set(kept["measured"]).isdisjoint(group["measured"])
        for group in groups
    )


def groups_of(runs: Iterable[Run]) -> Iterator[ReplicatesRecord]:
    """The experiments that several of these runs measured under equal conditions, with their noise by runs and documents."""
    return (_group(members) for members in measured_alike(runs) if are_replicates(members))


def _group(members: Sequence[Measured]) -> ReplicatesRecord:
    first_run, first = members[0]
    common = common_rounds(members)
    timings = [[entry.timings[each] for each in common] for _, entry in members]
    found = replicates_of(timings)
    machine = first_run["machine_info"]
    probes = _probes_of([entry for _, entry in members])
    group: ReplicatesRecord = {
        "experiment": first.experiment,
        "workload": first.extra_info["workload"],
        "weights": first.extra_info["weights"],
        "max_new_tokens": first.extra_info["max_new_tokens"],
        "test": first.test,
        "host": machine["host"],
        "host_id": machine["host_id"],
        "versions": versions_in(machine),
        "measured": [run["datetime"] for run, _ in members],
        "documents": found.documents,
        "generated_tokens_per_second": [
            sum(each.tokens for each in one_run) / math.fsum(each.seconds for each in one_run) for one_run in timings
        ],
        "speed_deviation": math.sqrt(found.speed_variance),
        "document_deviation": math.sqrt(found.document_variance),
        "controls": {name: [overall_rate(each[name]) for each in probes] for name in probes[0]},
        "control_work": {name: probe["work"] for name, probe in probes[0].items()},
    }
    if is_compiled(first.experiment):
        group["tuned_kernels"] = [entry.tuned_kernels for _, entry in members]
    if Quantity.FIRST_TOKEN in judged_quantities(first):
        entries = [entry for _, entry in members]
        for key, quantity in (("first_token", Quantity.FIRST_TOKEN), ("decode", Quantity.DECODE)):
            if found_others := _speeds(quantity, entries):
                group[key] = found_others  # type: ignore[literal-required]
    return group


def _speeds(quantity: Quantity, entries: Sequence[Entry]) -> OtherSpeeds | None:
    """The first token or the decoding of each entry as a speed; None if fewer than two rounds have it."""
    found = [timings_of(entry, quantity, entries[0]) for entry in entries]
    common = [each for each in found[0] if all(each in timings for timings in found)]
    if len(common) < MINIMUM_COMMON_DOCUMENTS:
        return None
    timings = [[of_run[each] for each in common] for of_run in found]
    return {
        "speeds": [math.exp(log_speed(each)) for each in timings],
        "document_deviation": math.sqrt(replicates_of(timings).document_variance),
    }


def _probes_of(entries: Sequence[Entry]) -> list[dict[str, ProbeRecord]]:
    """The probes of each entry, without those that did other work in another entry, or that another entry lacks."""
    first, *others = found = [entry.extra_info["controls"] for entry in entries]
    alike = [name for name in first if all(has_same_work(first[name], each.get(name, {})) for each in others)]
    return [{name: each[name] for name in alike} for each in found]


def _contents(groups: Sequence[ReplicatesRecord]) -> dict[str, Any]:
    eager, compiled, tuned_apart = _by_kind(groups)
    return {
        "schema": SCHEMA,
        **(_spread_fields(eager) if eager else {}),
        **({COMPILED: _spread_fields(compiled)} if compiled else {}),
        **({TUNED_APART: _spread_fields(tuned_apart)} if tuned_apart else {}),
        **_control_deviations(groups),
        "replicates": list(groups),
    }


def _by_kind(
    groups: Sequence[ReplicatesRecord],
) -> tuple[list[ReplicatesRecord], list[ReplicatesRecord], list[ReplicatesRecord]]:
    """The groups of eager experiments, of compiled ones with the same kernels in all runs, and of the other compiled ones."""
    eager, compiled = ([each for each in groups if is_compiled(each["experiment"]) is kind] for kind in (False, True))
    alike, apart = (
        [each for each in compiled if are_tuned_alike(each.get("tuned_kernels", ())) is kind] for kind in (True, False)
    )
    return eager, alike, apart


def _spread_fields(groups: Sequence[ReplicatesRecord]) -> dict[str, float | None]:
    found = _pooled(groups)
    return {"standard_deviation": found.standard_deviation, "degrees_of_freedom": found.degrees_of_freedom}


def _pooled(groups: Sequence[ReplicatesRecord]) -> Spread:
    return pooled_spread([_replicates(group) for group in groups])


def _replicates(group: ReplicatesRecord) -> Replicates:
    return Replicates(
        runs=len(group["generated_tokens_per_second"]),
        documents=group["documents"],
        speed_variance=group["speed_deviation"] ** 2,
        document_variance=group["document_deviation"] ** 2,
    )


def _control_deviations(groups: Sequence[ReplicatesRecord]) -> dict[str, dict[str, float]]:
    """The deviation between runs of each probe's logarithm, pooled over the groups that did the newest group's work.

    Groups that do not record their work are left out.
    """
    work = {name: amount for group in groups for name, amount in group.get("control_work", {}).items()}
    variances: dict[str, list[tuple[float, int]]] = {}
    for group in groups:
        for name, amount in group.get("control_work", {}).items():
            if amount == work[name]:
                rates = group["controls"][name]
                pair = (variance([math.log(rate) for rate in rates]), len(rates) - 1)
                variances.setdefault(name, []).append(pair)
    return {
        "controls": {name: math.sqrt(_weighted_mean(pairs)) for name, pairs in variances.items()},
        "control_work": work,
    }


def _weighted_mean(pairs: Iterable[tuple[float, int]]) -> float:
    """The mean of the first numbers of the pairs, weighted by the second."""
    pairs = list(pairs)
    return fmean([value for value, _ in pairs], weights=[weight for _, weight in pairs])
