"""A run file: pytest-benchmark's own JSON with the suite's facts in `extra_info`, made from the journal and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from summarybench.core.outcomes import InputError
from summarybench.machine.device import DeviceRecord
from summarybench.runs.facts import describe_broken_output
from summarybench.runs.journal import SELECTED, JournalContents, Record
from summarybench.stats.timings import Timing

SCHEMA = 1
ROUGE_TYPES = ("rouge1", "rouge2", "rougeLsum")
DEGENERATE_KINDS = ("empty", "repeating")
"""Outputs that fake speed."""

Run = dict[str, Any]
"""A whole run file, as JSON has it."""


def build_run(journal: JournalContents) -> Run:
    """The run file of everything that was finished, whether the run ended well or not.

    What was carried from an earlier run says so in `extra_info["carried_from"]`; documents of superseded attempts are
    in the journal alone.
    """
    seconds = {
        (record["nodeid"], record["document_id"]): record["end_seconds"] - record["start_seconds"]
        for record in journal.documents
    }
    return {
        **{key: value for key, value in journal.session.items() if key != SELECTED},
        **({"session": journal.session_seconds} if journal.session_seconds else {}),
        "benchmarks": [_benchmark(record, seconds) for record in journal.experiments],
        # A fault found in a test's teardown is recorded after the test's own outcome: the last one has both.
        "outcomes": list({record["nodeid"]: record for record in journal.outcomes}.values()),
        "dropped_lines": journal.dropped_lines,
    }


def _benchmark(experiment: Record, seconds: Mapping[tuple[str, str], float]) -> Record:
    info = experiment["extra_info"]
    if at_once := info.get("continuous"):
        data = [each["seconds"] for each in at_once["rounds"]]
    else:
        data = [seconds[experiment["fullname"], ids[0]] for ids in rounds_of(info)]
    fields = dict(experiment)
    if carried_from := fields.pop("carried_from", None):
        fields["extra_info"] = {**experiment["extra_info"], "carried_from": carried_from}
    return {**fields, "stats": _stats(data)}


def rounds_of(extra_info: Mapping[str, Any]) -> list[list[str]]:
    """The ids of the documents of each round, in the order of `stats.data`."""
    if at_once := extra_info.get("continuous"):
        return [extra_info["document_ids"]] * len(at_once["rounds"])
    return extra_info.get("batch_document_ids") or [[document_id] for document_id in extra_info["document_ids"]]


def seconds_per_document(extra_info: Mapping[str, Any], seconds: Sequence[float]) -> list[float]:
    """Each document's share of its round, from the seconds of the rounds; in the order of the rounds."""
    return [each / len(ids) for ids, each in zip(rounds_of(extra_info), seconds, strict=True) for _ in range(len(ids))]


def _stats(data: Sequence[float]) -> Record:
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for seconds in data:
        stats.update(seconds)
    return {**stats.as_dict(), "data": list(data), "iterations": 1}


def run_text(run: Run) -> str:
    return json.dumps(run, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


TESTS_OF_ANOTHER_FIGURE = frozenset({"test_distributed", "test_fidelity", "test_memory", "test_overhead"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One summary in one run: its ROUGE-1 F1, 0 to 1, and its digest."""

    rouge1: float
    sha256: str

    def __post_init__(self) -> None:
        if not 0 <= self.rouge1 <= 1:
            raise ValueError(f"ROUGE-1 F1 lies between 0 and 1: {self.rouge1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One experiment of a run file, as comparisons need it. `name` is the test's, with the experiment in brackets."""

    name: str
    extra_info: Mapping[str, Any]
    seconds: tuple[float, ...]

    @property
    def experiment(self) -> str:
        return str(self.extra_info["experiment"])

    @property
    def test(self) -> str:
        """The test that measured it: other tests measure experiments of the same name."""
        return self.name.partition("[")[0]

    @property
    def is_own_speed(self) -> bool:
        """Whether it is the experiment's own speed, and not measured in pairs, on a few documents or beside other processes."""
        return self.test not in TESTS_OF_ANOTHER_FIGURE

    @property
    def tuned_kernels(self) -> str | None:
        """What the compiler chose, as one digest; None of what is not compiled, or from before it was stored."""
        return self.extra_info.get("tuned_kernels")

    @property
    def is_batched(self) -> bool:
        return bool(self.extra_info.get("batch_document_ids"))

    @property
    def is_at_once(self) -> bool:
        """Whether each round was the whole sample."""
        return "continuous" in self.extra_info

    @property
    def rounds_are(self) -> str:
        """What one timing is of, in the plural."""
        return "rounds" if self.is_at_once else "batches" if self.is_batched else "documents"

    @property
    def timings(self) -> dict[str, Timing]:
        """By round, which is what is compared: a document's id, in document order, or a batch's ids together.

        Batches of other documents are other rounds, whatever documents they share; so is the whole sample, numbered.
        """
        if self.is_at_once:
            sample = hashlib.sha256(_key(self.extra_info["document_ids"]).encode()).hexdigest()
            rounds = zip(self.extra_info["continuous"]["rounds"], self.seconds, strict=True)
            return {
                f"round {number} of {sample}": Timing(tokens=each["generated_tokens"], seconds=seconds)
                for number, (each, seconds) in enumerate(rounds, start=1)
            }
        tokens = self._by_document("generated_tokens")
        return {
            _key(ids): Timing(tokens=sum(tokens[each] for each in ids), seconds=seconds)
            for ids, seconds in zip(rounds_of(self.extra_info), self.seconds, strict=True)
        }

    @property
    def first_token_seconds(self) -> dict[str, float]:
        """The time to the first token by round, as `timings` has them."""
        seconds = self._by_document("time_to_first_token_seconds")
        return {_key(ids): seconds[ids[0]] for ids in rounds_of(self.extra_info)}

    def _by_document(self, key: str) -> dict[str, Any]:
        return dict(zip(self.extra_info["document_ids"], self.extra_info[key], strict=True))

    @property
    def texts(self) -> dict[str, Text]:
        """By document id, in document order; empty where outputs were not scored (synthetic weights)."""
        info = self.extra_info
        if not info["rouge1_scores"]:
            return {}
        facts = zip(info["document_ids"], info["rouge1_scores"], info["summary_sha256"], strict=True)
        return {document_id: Text(rouge1=rouge1, sha256=sha256) for document_id, rouge1, sha256 in facts}

    @property
    def degenerate(self) -> dict[str, frozenset[str]] | None:
        """Ids of the documents with outputs that fake speed, by kind; None where the run does not tell them by document."""
        found = self.extra_info.get("degenerate_document_ids")
        return None if found is None else {kind: frozenset(found[kind]) for kind in DEGENERATE_KINDS}

    @property
    def broken_output(self) -> str:
        """One line if most summaries are empty or repeating; empty if they are not, or were not scored (synthetic weights)."""
        counts = self.extra_info.get("degenerate")
        return "" if counts is None else describe_broken_output(counts, len(self.extra_info["document_ids"]))


def _key(document_ids: Sequence[str]) -> str:
    return " ".join(sorted(document_ids))


def read_run(path: Path) -> Run:
    """A run file. Raises InputError where it is missing, is not JSON or is not this suite's, naming it."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); restore it from version control or delete it") from error
    try:
        entries_of(run)
        _ = run["machine_info"]["device"], [outcome["outcome"] for outcome in run["outcomes"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a run of this suite ({type(error).__name__}: {error}); delete it or move it elsewhere"
        ) from error
    return dict(run)


def device_of(run: Mapping[str, Any]) -> DeviceRecord:
    """The device that a run was measured on. Raises InputError where the run does not say."""
    try:
        known = {field.name for field in fields(DeviceRecord)}
        return DeviceRecord(**{name: value for name, value in run["device"].items() if name in known})
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"the run does not say on which device it was measured ({type(error).__name__}: {error}); measure it anew"
        ) from error


def entries_of(run: Mapping[str, Any]) -> list[Entry]:
    """The experiments of a run. Raises KeyError, TypeError or ValueError where it is not this suite's."""
    found = []
    for benchmark in run["benchmarks"]:
        if benchmark["extra_info"]["schema"] != SCHEMA:
            raise ValueError(f"schema {benchmark['extra_info']['schema']}, and this version reads {SCHEMA}")
        entry = Entry(
            name=benchmark["name"], extra_info=benchmark["extra_info"], seconds=tuple(benchmark["stats"]["data"])
        )
        _ = entry.timings, entry.texts, entry.degenerate, entry.broken_output
        _ = entry.extra_info["workload"], entry.experiment
        found.append(entry)
    return found
