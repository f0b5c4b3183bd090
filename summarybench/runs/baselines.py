"""Where runs are stored, and which of them are the baseline of an experiment."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from summarybench.core.files import READABLE_BY_ALL, write_exclusively
from summarybench.core.names import check_within
from summarybench.core.outcomes import InputError, Outcome
from summarybench.core.strict_json import InvalidValueError
from summarybench.machine.environment import VERSIONS, Host, host_in
from summarybench.runs.comparable import has_enough_rounds
from summarybench.runs.run_file import Entry, Run, entries_of, read_run, run_text
from summarybench.runs.validation import check_run
from summarybench.runs.workload import differences
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS

ANCHOR = "anchor"
SPREAD_FILE = "spread.json"
"""The file with the measured noise between runs, in the same folder."""
HISTORY_FILE = "history.json"
"""The file with the references that a person has accepted, in the same folder."""
STORED_NAME = re.compile(r"(?P<number>\d{4,})_(?P<name>.+)\.json")


@dataclass(frozen=True, kw_only=True)  # not slotted: its entries are kept once they are read
class StoredRun:
    """A run in a folder of baselines, `NNNN_NAME.json`, or any other run file."""

    path: Path
    run: Run
    repeated: frozenset[str] = frozenset()
    """The tests whose measurement an older stored run of the same folder has already."""

    @property
    def label(self) -> str:
        """The file's name in messages; the results folder's for a run.json."""
        return self.path.parent.name if self.path.name == "run.json" else self.path.name

    @property
    def number(self) -> str:
        """NNNN in NNNN_NAME.json; empty for any other run file."""
        found = STORED_NAME.fullmatch(self.path.name)
        return found["number"] if found else ""

    @property
    def name(self) -> str:
        """NAME in NNNN_NAME.json; empty for any other run file."""
        found = STORED_NAME.fullmatch(self.path.name)
        return found["name"] if found else ""

    @property
    def is_anchor(self) -> bool:
        return self.name == ANCHOR

    @property
    def commit(self) -> str:
        """The hash of the commit, or `unknown`."""
        return self.run["commit_info"]["id"]

    @property
    def environment(self) -> Mapping[str, Any]:
        """The run's `machine_info`."""
        return self.run["machine_info"]

    @property
    def is_of_gpu(self) -> bool:
        """Whether a GPU was measured, or a device that the run does not name."""
        device = self.run["device"]
        return device is None or device["kind"] != "cpu"

    @property
    def gpu_hour_price(self) -> float | None:
        """The price of one GPU for an hour; None if the session had none."""
        return self.run.get("gpu_hour_price")

    @property
    def host(self) -> Host:
        return host_in(self.environment)

    def entry(self, name: str) -> Entry | None:
        """The experiment that this test measured; None if the run does not have it."""
        return self._entries.get(name)

    def counted_entry(self, name: str) -> Entry | None:
        """As `entry`, but None for the anchor and for a measurement that an older run has: each counts once."""
        return None if self.is_anchor or name in self.repeated else self.entry(name)

    @property
    def counted_entries(self) -> list[Entry]:
        return [entry for entry in self._entries.values() if self.counted_entry(entry.name)]

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return {entry.name: entry for entry in reversed(entries_of(self.run))}


class SuperfluousError(InputError):
    """The stored runs already have all measurements of a run."""


def open_run(path: Path) -> StoredRun:
    """Read a run file, or the one in a results folder. Raises InputError."""
    file = (path / "run.json" if path.is_dir() else path).resolve()
    return StoredRun(path=file, run=read_run(file))


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """The runs that are stored for one device, oldest first."""

    folder: Path
    runs: tuple[StoredRun, ...]

    @property
    def are_of_gpu(self) -> bool:
        """Whether the device is a GPU, as far as the runs show that were measured on its own machine."""
        return any(stored.environment["driver"] is not None for stored in self.runs)

    def entries(self, name: str) -> list[Entry]:
        """A test's entries in the stored runs, oldest first, without the anchor's."""
        return [found for stored in self.runs if (found := stored.counted_entry(name))]

    def has_all_of(self, run: Run) -> bool:
        """Whether each measurement of a run is stored already."""
        return why_superfluous(run, self.runs) is not None

    def hosts_of(self, name: str, runs: int) -> set[str]:
        """The IDs of the hosts of the newest `runs` runs that have a test, without the anchor."""
        holding = [stored for stored in self.runs if stored.counted_entry(name)]
        return {stored.host.id for stored in holding[-runs:]}


def read_baselines(folder: Path) -> Baselines:
    """Read the runs in a device's folder of baselines. An absent folder has no runs.

    Raises InputError for a file that is damaged or not of this suite: skipping it would compare with an older run.
    """
    runs = []
    check_within(folder, folder.parent)
    for path in folder.glob("*.json"):
        check_within(path, folder)
        if path.name in (SPREAD_FILE, HISTORY_FILE):
            continue
        if STORED_NAME.fullmatch(path.name):
            runs.append(StoredRun(path=path, run=read_run(path)))
        else:
            raise InputError(
                f"{path} is not a stored run (NNNN_NAME.json) of this suite; delete it or move it elsewhere"
            )
    runs.sort(key=_age)
    return Baselines(folder=folder, runs=tuple(_with_repeated(runs)))


def _with_repeated(runs: Iterable[StoredRun]) -> Iterator[StoredRun]:
    """Each run, oldest first, with the tests whose measurements are in an older one. The anchor is a copy on purpose."""
    seen: set[tuple[str, str, str, tuple[float, ...]]] = set()
    for stored in runs:
        measured = set() if stored.is_anchor else measurements_in(stored.run)
        yield replace(stored, repeated=frozenset(name for name, *_ in measured & seen))
        seen |= measured


def measurements_in(run: Run) -> set[tuple[str, str, str, tuple[float, ...]]]:
    """What identifies each measurement: test, workload, host and the seconds of its rounds, which no clock repeats."""
    host = host_in(run["machine_info"]).id
    return {(entry.name, entry.extra_info["workload"], host, entry.seconds) for entry in entries_of(run)}


def _age(stored: StoredRun) -> tuple[int, str, str]:
    """Orders stored runs from old to new: by number, then by date. Two branches may each have stored a run of one number."""
    return int(stored.number), str(stored.run["datetime"] or ""), stored.path.name


def why_unfit(run: Run) -> str | None:
    """The reason why a finished run must not become a baseline; None if it may."""
    outcomes = run["outcomes"]
    unusable = [each["experiment"] for each in outcomes if each["outcome"] in (Outcome.FAILED, Outcome.INVALID)]
    if unusable:
        return f"failed or invalid: {', '.join(unusable)}"
    broken = [entry.experiment for entry in entries_of(run) if entry.broken_output]
    if broken:
        return f"most summaries are empty or repeating: {', '.join(broken)}"
    return None if run["benchmarks"] else "nothing was measured"


def why_superfluous(run: Run, runs: Iterable[StoredRun]) -> str | None:
    """The reason why a run adds nothing to the stored ones, without the anchor; None if any measurement is new."""
    new, labels = measurements_in(run), []
    for stored in runs:
        if not stored.is_anchor and (known := new & measurements_in(stored.run)):
            new -= known
            labels.append(stored.label)
    if new or not labels:
        return None
    return f"{' and '.join(labels)} already {'has' if len(labels) == 1 else 'have'} all of its measurements, and each must count once"


def save_baseline(folder: Path, name: str, run: Run) -> Path:
    """Store a run under the next number, whole or not at all. No file is overwritten.

    Raises InputError if the file cannot be written, if the run does not fit the schema, for a second anchor, and
    SuperfluousError for a run that adds nothing to the stored ones.
    """
    try:
        check_run(run)
    except InvalidValueError as error:  # once stored, it would keep every later session from reading this folder
        raise InputError(f"not stored as a baseline: {error}; measure anew") from error
    check_within(folder, folder.parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder):
            for stale in folder.glob(".*.json.*"):  # left by a process that was killed while it wrote
                stale.unlink()
            numbers = [int(found["number"]) for path in folder.iterdir() if (found := STORED_NAME.fullmatch(path.name))]
            if name == ANCHOR:
                refuse_second_anchor(folder)
            else:  # within the lock: no other process can store it meanwhile
                _refuse_superfluous(run, folder)
            path = folder / f"{max(numbers, default=0) + 1:04}_{name}.json"
            write_exclusively(path, run_text(run), mode=READABLE_BY_ALL)
            return path
    except OSError as error:
        raise InputError(f"cannot store a baseline in {folder}: {error.strerror}") from error


def _refuse_superfluous(run: Run, folder: Path) -> None:
    paths = sorted(path for path in folder.glob("*.json") if STORED_NAME.fullmatch(path.name))
    if why := why_superfluous(run, [StoredRun(path=path, run=read_run(path)) for path in paths]):
        raise SuperfluousError(why)


def refuse_second_anchor(folder: Path) -> None:
    """Raises InputError if the folder has an anchor."""
    for path in sorted(folder.glob(f"*_{ANCHOR}.json")):
        if (found := STORED_NAME.fullmatch(path.name)) and found["name"] == ANCHOR:
            raise InputError(
                f"{path} is the anchor, and an anchor is never replaced; save under another name, or delete that file first"
            )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from taking a number in this folder. The lock ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(
            OSError
        ):  # without locks, as on some network file systems, exclusive creation still protects files
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def find_stored(runs: Sequence[StoredRun], name: str) -> StoredRun | None:
    """The newest run with this number, file name or NAME: `1`, `0001`, `0001_main`, `0001_main.json`, `main`.

    Raises InputError for a number that several runs have, as after a merge of two branches.
    """
    numbered = [each for each in runs if name.isdecimal() and int(name) == int(each.number)]
    if len(numbered) > 1:
        files = ", ".join(each.path.name for each in numbered)
        raise InputError(f"{name} is the number of {len(numbered)} stored runs: {files}; name one of these files")
    for stored in reversed(runs):
        if stored in numbered or name in (stored.name, stored.path.name, stored.path.stem):
            return stored
    return None


def pick_run(baselines: Baselines, number: str) -> StoredRun:
    """The run that --benchmark-compare=NNNN names. Raises InputError if there is none."""
    if stored := find_stored(baselines.runs, number):
        return stored
    there = ", ".join(stored.path.name for stored in baselines.runs) or "nothing"
    raise InputError(f"--benchmark-compare={number}: no such run in {baselines.folder}; stored there: {there}")


def find_baseline(
    entry: Entry, runs: Sequence[StoredRun], most: int, environment: Mapping[str, Any]
) -> tuple[StoredRun, ...]:
    """The newest comparable run with this experiment, and older runs under equal conditions, newest first.

    A comparable run has the same workload and enough documents in common. Runs of the same host, as `environment` states it,
    come first: those of another host are used only where this one has none. Equal conditions are the same workload, documents
    and versions of the environment. At most `most` runs are returned. If no run is comparable, the result is the one that
    differs least, so that a message can say how. The anchor is left out, because it is not a recent run. So are runs from
    before broken output failed.
    """
    candidates = [
        (stored, found)
        for stored in reversed(runs)
        if (found := stored.counted_entry(entry.name)) and not found.broken_output
    ]
    comparable = [(stored, found) for stored, found in candidates if _is_comparable(entry, found)]
    if not comparable:
        return (min(candidates, key=lambda each: _distance(entry, each[1]))[0],) if candidates else ()
    here = host_in(environment).id
    of_host = [(stored, found) for stored, found in comparable if here and stored.host.id == here]
    newest, newest_entry = (of_host or comparable)[0]
    documents = entry.timings.keys() & newest_entry.timings.keys()
    under_equal_conditions = (
        stored
        for stored, found in of_host or comparable
        if documents <= found.timings.keys() and not differing_versions(stored.environment, newest.environment)
    )
    return tuple(islice(under_equal_conditions, most))


def _is_comparable(entry: Entry, other: Entry) -> bool:
    if not has_same_workload(entry, other):
        return False
    return entry.compared_count is not None or count_common(entry, other) >= MINIMUM_COMMON_DOCUMENTS


def _distance(entry: Entry, other: Entry) -> tuple[bool, bool, int, int]:
    """How far a stored experiment is from being comparable. One with too few rounds for any comparison is farthest."""
    settings = (each.extra_info["workload_settings"] for each in (entry, other))
    is_same = has_same_workload(entry, other)
    return (
        not has_enough_rounds(other.extra_info),
        not is_same,
        len(differences(*settings)),
        -count_common(entry, other) if is_same else 0,
    )


def count_common(entry: Entry, other: Entry) -> int:
    """The number of documents, batches or rounds that two measurements have in common."""
    return len(entry.timings.keys() & other.timings.keys())


def find_anchor(entry: Entry, runs: Sequence[StoredRun]) -> StoredRun | None:
    """The anchor, if it measured this experiment with this workload."""
    for stored in runs:
        found = stored.entry(entry.name) if stored.is_anchor else None
        if found is not None and not found.broken_output and has_same_workload(entry, found):
            return stored
    return None


def has_same_workload(one: Entry, other: Entry) -> bool:
    """Whether the fingerprints of the workloads are equal."""
    return bool(one.extra_info["workload"] == other.extra_info["workload"])


def differing_versions(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The differences between the versions of two environments, one phrase each. The host is not a version."""
    return differences({name: one.get(name) for name in VERSIONS}, {name: other.get(name) for name in VERSIONS})
