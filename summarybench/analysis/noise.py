"""How much runs of one thing differ from each other on a device: `spread.json` beside its baselines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from summarybench.core.files import write_atomically
from summarybench.core.outcomes import InputError, Verdict
from summarybench.machine.environment import VERSIONS
from summarybench.machine.probes import has_same_work, overall_rate
from summarybench.runs.baselines import SPREAD_FILE
from summarybench.runs.run_file import Entry, Run, entries_of
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS
from summarybench.stats.spread import Replicates, Spread, pooled_spread, replicates_of

SCHEMA = 1
ASSUMED_GPU_SPREAD = Spread(standard_deviation=0.01)
ASSUMED_CPU_SPREAD = Spread(standard_deviation=0.06)
ASSUMED_TUNED_APART = Spread(standard_deviation=0.05)
COMPILED = "compiled"
"""The key of the spread of loaders that are compiled: those do not wait for the host, which is what eager runs differ by."""
TUNED_APART = "compiled_tuned_apart"
"""The key of theirs where the compiler has not chosen the same kernels in all of the runs."""
LEAST_HOST_FREEDOM = 4.0
"""Degrees of freedom from which a host's own replicates stand for it; with fewer, those of all hosts with this device do."""

Group = dict[str, Any]
"""The replicates of one experiment on one host with one set of versions, as the file has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpread:
    """What is known of a device's spread: of runs that launch each kernel from the host, and of compiled ones, with the same
    tuned kernels and with others.

    `controls` has the relative standard deviation between runs of each control, and `control_work` how much a repetition
    did there; `document_deviations` that of one document in one run, by experiment. All are empty until they are measured.
    `hosts` has the same of single hosts: two machines with one GPU can differ tenfold in how much their runs vary.
    """

    runs: Spread
    compiled: Spread = ASSUMED_GPU_SPREAD
    tuned_apart: Spread = ASSUMED_TUNED_APART
    controls: Mapping[str, float] = field(default_factory=dict)
    control_work: Mapping[str, float] = field(default_factory=dict)
    document_deviations: Mapping[str, float] = field(default_factory=dict)
    hosts: Mapping[str, DeviceSpread] = field(default_factory=dict)

    def on(self, host: str | None) -> DeviceSpread:
        """What is known of this host, as far as enough was measured on it, and of all of them otherwise."""
        return self.hosts.get(host or "", self)

    def of(self, experiment: str, *, tuned_alike: bool) -> Spread:
        """The spread between runs of this experiment, by its name; `tuned_alike` only matters to compiled ones."""
        if not is_compiled(experiment):
            return self.runs
        return self.compiled if tuned_alike else replace(self.tuned_apart, is_of_tunings=True)

    def control_deviations_like(self, entry: Entry) -> dict[str, float]:
        """`controls` of those that are measured with the work of this entry's."""
        measured = {name: {"work": work} for name, work in self.control_work.items()}
        return {
            name: self.controls[name]
            for name, control in entry.extra_info.get("controls", {}).items()
            if name in self.controls and has_same_work(control, measured.get(name, {}))
        }

    def deviations_like(self, experiment: str) -> dict[str, float]:
        """`document_deviations` of the experiments that decode as this one does."""
        return {
            name: deviation
            for name, deviation in self.document_deviations.items()
            if is_compiled(name) == is_compiled(experiment)
        }


def is_compiled(experiment: str) -> bool:
    """Whether the experiment's name is that of a compiled loader, batched or not."""
    return f"-{COMPILED}-" in f"{experiment}-"


def are_tuned_alike(tuned_kernels: Iterable[str | None]) -> bool:
    """Whether compiled runs have the same kernels. Of one that does not tell nobody knows."""
    found = set(tuned_kernels)
    return len(found) == 1 and None not in found


def read_spread(folder: Path, *, is_gpu: bool) -> DeviceSpread:
    """The spread measured on a folder's device, or the assumed one of its kind. Raises InputError."""
    path = folder / SPREAD_FILE
    assumed = ASSUMED_GPU_SPREAD if is_gpu else ASSUMED_CPU_SPREAD
    if not path.exists():
        return DeviceSpread(runs=assumed)
    found = _read(path)
    try:
        compiled, tuned_apart = found.get(COMPILED), found.get(TUNED_APART)
        is_of_compiled_alone = (compiled or tuned_apart) is not None and "standard_deviation" not in found
        groups = found.get("replicates", [])
        of_all = DeviceSpread(
            runs=assumed if is_of_compiled_alone else _spread(found),
            compiled=ASSUMED_GPU_SPREAD if compiled is None else _spread(compiled),
            tuned_apart=ASSUMED_TUNED_APART if tuned_apart is None else _spread(tuned_apart),
            controls={name: float(deviation) for name, deviation in found.get("controls", {}).items()},
            control_work={name: float(work) for name, work in found.get("control_work", {}).items()},
            document_deviations=_document_deviations(groups),
        )
        return replace(of_all, hosts=dict(_hosts(of_all, groups)))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _not_a_spread(path, error) from error


def _hosts(of_all: DeviceSpread, groups: Sequence[Group]) -> Iterator[tuple[str, DeviceSpread]]:
    """Each host with replicates enough of its own."""
    for host in sorted({str(group["host"]) for group in groups if group.get("host")}):
        own = [group for group in groups if group.get("host") == host]
        eager, compiled, tuned_apart = map(_own_spread, _by_kind(own))
        if eager or compiled or tuned_apart:
            found = _control_deviations(own)
            yield (
                host,
                DeviceSpread(
                    runs=eager or of_all.runs,
                    compiled=compiled or of_all.compiled,
                    tuned_apart=tuned_apart or of_all.tuned_apart,
                    controls={**of_all.controls, **found["controls"]},
                    control_work={**of_all.control_work, **found["control_work"]},
                    document_deviations={**of_all.document_deviations, **_document_deviations(own)},
                ),
            )


def _own_spread(groups: Sequence[Group]) -> Spread | None:
    if not groups:
        return None
    found = replace(_pooled(groups), is_of_host=True)
    return found if found.degrees_of_freedom and found.degrees_of_freedom >= LEAST_HOST_FREEDOM else None


def _spread(found: Mapping[str, Any]) -> Spread:
    spread = Spread(
        standard_deviation=float(found["standard_deviation"]), degrees_of_freedom=float(found["degrees_of_freedom"])
    )
    if not 0 <= spread.standard_deviation < math.inf or not 1 <= float(found["degrees_of_freedom"]) < math.inf:
        raise ValueError("out of range")
    return spread


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _not_a_spread(path, error) from error


def _not_a_spread(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} does not hold a measured spread ({type(error).__name__}: {error}); restore it or delete it"
    )


def _document_deviations(groups: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """By experiment, pooled over its groups."""
    squares: dict[str, list[tuple[float, int]]] = {}
    for group in groups:
        weight = (len(group["generated_tokens_per_second"]) - 1) * (int(group["documents"]) - 1)
        squares.setdefault(str(group["experiment"]), []).append((float(group["document_deviation"]) ** 2, weight))
    return {experiment: math.sqrt(_weighted_mean(pairs)) for experiment, pairs in squares.items()}


def add_replicates(folder: Path, runs: Sequence[Run]) -> tuple[DeviceSpread, list[Group]]:
    """Put the replicates among these runs into the folder's spread.json, beside those that are there already.

    A group that shares a run with a new one gives way to it.

    Returns the spread as it is now, and what was added. Raises InputError where no experiment was measured twice alike,
    or the disk refuses.
    """
    path = folder / SPREAD_FILE
    groups = list(groups_of(runs))
    if not groups:
        raise InputError(
            f"no experiment was measured at least twice on one host with one set of versions, {MINIMUM_COMMON_DOCUMENTS} "
            "documents in common: nothing says how much runs differ"
        )
    try:
        kept = _read(path).get("replicates", []) if path.exists() else []
        contents = _contents([*(group for group in kept if not _shares_a_run(group, groups)), *groups])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _not_a_spread(path, error) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(contents, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return read_spread(folder, is_gpu=True), groups


def _shares_a_run(kept: Group, groups: Iterable[Group]) -> bool:
    """Whether one of these groups holds a run of the kept one: counted twice, it would seem to confirm itself."""
    return any(
        all(kept[name] == group[name] for name in ("experiment", "workload", "host"))
        and not set(kept["measured"]).isdisjoint(group["measured"])
        for group in groups
    )


def groups_of(runs: Iterable[Run]) -> Iterator[Group]:
    """The experiments that several of these runs measured alike, taken apart into what runs and what documents vary by.

    Alike is: one workload, host and set of versions. An experiment that is INVALID in a run is no replicate there; one
    that is there twice (a file given twice, or carried into a resumed run) is one.
    """
    alike: dict[tuple[Any, ...], list[tuple[Run, Entry]]] = {}
    for run in runs:
        machine = run["machine_info"]
        for entry in entries_of(run):
            if entry.extra_info["verdict"] != Verdict.INVALID:
                conditions = (machine.get(name) for name in ("host", *VERSIONS))
                key = (entry.name, entry.extra_info["workload"], *conditions)
                members = alike.setdefault(key, [])
                if all(entry.seconds != other.seconds for _, other in members):
                    members.append((run, entry))
    for members in alike.values():
        group = _group(members)
        if group is not None:
            yield group


def _group(members: Sequence[tuple[Run, Entry]]) -> Group | None:
    first_run, first = members[0]
    common = [each for each in first.timings if all(each in entry.timings for _, entry in members)]
    if len(members) < 2 or len(common) < MINIMUM_COMMON_DOCUMENTS:
        return None
    timings = [[entry.timings[each] for each in common] for _, entry in members]
    found = replicates_of(timings)
    machine = first_run["machine_info"]
    return {
        "experiment": first.experiment,
        "workload": first.extra_info["workload"],
        "weights": first.extra_info["weights"],
        "max_new_tokens": first.extra_info["max_new_tokens"],
        "host": machine.get("host"),
        "versions": {name: machine.get(name) for name in VERSIONS},
        "measured": [run.get("datetime") for run, _ in members],
        "documents": found.documents,
        "generated_tokens_per_second": [
            sum(each.tokens for each in one_run) / math.fsum(each.seconds for each in one_run) for one_run in timings
        ],
        "speed_deviation": math.sqrt(found.speed_variance),
        "document_deviation": math.sqrt(found.document_variance),
        **({"tuned_kernels": [entry.tuned_kernels for _, entry in members]} if is_compiled(first.experiment) else {}),
        **_controls_of([entry for _, entry in members]),
    }


def _controls_of(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """The controls that all of these have with equal work: their rates, and the work."""
    first, *others = [entry.extra_info.get("controls", {}) for entry in entries]
    alike = [name for name in first if all(has_same_work(first[name], other.get(name, {})) for other in others)]
    return {
        "controls": {name: [overall_rate(controls[name]) for controls in (first, *others)] for name in alike},
        "control_work": {name: first[name]["work"] for name in alike},
    }


def _contents(groups: Sequence[Group]) -> dict[str, Any]:
    eager, compiled, tuned_apart = _by_kind(groups)
    return {
        "schema": SCHEMA,
        **(_spread_fields(eager) if eager else {}),
        **({COMPILED: _spread_fields(compiled)} if compiled else {}),
        **({TUNED_APART: _spread_fields(tuned_apart)} if tuned_apart else {}),
        **_control_deviations(groups),
        "replicates": list(groups),
    }


def _by_kind(groups: Sequence[Group]) -> tuple[list[Group], list[Group], list[Group]]:
    """Those of eager experiments, of compiled ones with the same kernels in all runs, and of compiled ones without."""
    eager, compiled = ([each for each in groups if is_compiled(each["experiment"]) is kind] for kind in (False, True))
    alike, apart = (
        [each for each in compiled if are_tuned_alike(each.get("tuned_kernels", ())) is kind] for kind in (True, False)
    )
    return eager, alike, apart


def _spread_fields(groups: Sequence[Group]) -> dict[str, float | None]:
    found = _pooled(groups)
    return {"standard_deviation": found.standard_deviation, "degrees_of_freedom": found.degrees_of_freedom}


def _pooled(groups: Sequence[Group]) -> Spread:
    return pooled_spread([_replicates(group) for group in groups])


def _replicates(group: Group) -> Replicates:
    return Replicates(
        runs=len(group["generated_tokens_per_second"]),
        documents=group["documents"],
        speed_variance=group["speed_deviation"] ** 2,
        document_variance=group["document_deviation"] ** 2,
    )


def _control_deviations(groups: Sequence[Group]) -> dict[str, dict[str, float]]:
    """Of each control's logarithm between runs, pooled over the groups that measured it with the newest one's work.

    Groups that do not tell their work are of none.
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
    """The mean of the first of each pair, weighted with the second."""
    pairs = list(pairs)
    return fmean([value for value, _ in pairs], weights=[weight for _, weight in pairs])
