"""The run file: its only writer and its only reader.

The file is pytest-benchmark's own JSON, with the suite's facts in `extra_info`; schema.py declares its keys. It is made from
the journal and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, cast

from summarybench.core.outcomes import InputError
from summarybench.core.strict_json import InvalidValueError, parse_json
from summarybench.machine.device import DeviceRecord
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.facts import describe_broken_output
from summarybench.runs.journal import SELECTED, JournalContents
from summarybench.runs.journal_lines import Record
from summarybench.runs.kind_facts import KindFacts, Unit, kind_facts_in
from summarybench.runs.migration import migrated, migrated_extra_info
from summarybench.runs.schema import SCHEMA, ExperimentRecord, Run
from summarybench.runs.validation import check_run, check_shape
from summarybench.stats.timings import Timing

__all__ = [
    "DEGENERATE_KINDS",
    "ROUGE_TYPES",
    "SCHEMA",
    "Entry",
    "Run",
    "Text",
    "build_run",
    "device_of",
    "empty_run",
    "entries_of",
    "read_run",
    "round_key",
    "rounds_of",
    "run_text",
    "seconds_per_document",
]

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
DEGENERATE_KINDS = ("empty", "repeating")
"""Outputs that only look fast."""


# Writing ---------------------------------------------------------------------------------------------------------


def build_run(journal: JournalContents) -> Run:
    """The run file of everything that was finished, whether the run ended well or not.

    Experiments that a resumed run took over state it in `extra_info["carried_from"]`. Documents of superseded attempts are
    only in the journal. The journal may be from an older version: what it lacks is filled in.
    """
    seconds = {
        (record["nodeid"], record["document_id"]): record["end_seconds"] - record["start_seconds"]
        for record in journal.documents
    }
    return migrated(
        {
            **{key: value for key, value in journal.session.items() if key != SELECTED},
            **({"session": journal.session_seconds} if journal.session_seconds else {}),
            "benchmarks": [
                _benchmark(record, seconds, journal.scores_of(record["fullname"])) for record in journal.experiments
            ],
            # A fault found in a test's teardown is recorded after the test's own outcome: the last one has both.
            "outcomes": list({record["nodeid"]: record for record in journal.outcomes}.values()),
            "dropped_lines": journal.dropped_lines,
        }
    )


def empty_run() -> Run:
    """The run of a session that has not measured anything yet."""
    return migrated({"benchmarks": [], "outcomes": []})


def _benchmark(
    experiment: ExperimentRecord, seconds: Mapping[tuple[str, str], float], scores: dict[str, Any]
) -> Record:
    info = cast(dict[str, Any], migrated_extra_info(experiment["name"], experiment["extra_info"])) | scores
    if sample_rounds := info.get("sample_rounds"):
        data = [each["seconds"] for each in sample_rounds]
    else:
        data = [seconds[experiment["fullname"], ids[0]] for ids in rounds_of(info)]
    if carried_from := experiment.get("carried_from"):
        info["carried_from"] = carried_from
    others = {key: value for key, value in experiment.items() if key != "carried_from"}
    return {**others, "extra_info": info, "stats": _stats(data)}


def _stats(data: Sequence[float]) -> Record:
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for seconds in data:
        stats.update(seconds)
    return {**stats.as_dict(), "data": list(data), "iterations": 1}


def run_text(run: Run) -> str:
    """The file's content. Raises ValueError for numbers that JSON does not have."""
    return json.dumps(run, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


# Reading ---------------------------------------------------------------------------------------------------------


def read_run(path: Path) -> Run:
    """Read a run file of this or an older version. All that the schema requires is in the result.

    Raises InputError naming the file, the key and its value if the file is missing, is not JSON or does not fit the schema.
    """
    try:
        found = parse_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except InvalidValueError as error:
        raise InputError(
            f"{path} is not JSON ({error}); give a results folder or its run.json, or restore a damaged stored run from "
            "version control"
        ) from error
    try:
        check_shape(found)
        run = migrated(found)
        check_run(run)
    except InvalidValueError as error:
        raise InputError(
            f"{path} is not a run of this suite: {error}; give a results folder or its run.json, or restore a damaged "
            "stored run from version control or move it out of baselines/"
        ) from error
    return run


def device_of(run: Run) -> DeviceRecord:
    """The device that a run was measured on. Raises InputError if the run does not say."""
    found = run["device"]
    if found is None:
        raise InputError("the run does not say on which device it was measured; measure it again")
    known = {field.name for field in fields(DeviceRecord)}
    return DeviceRecord(**{name: value for name, value in cast(Mapping[str, Any], found).items() if name in known})


def entries_of(run: Run) -> list[Entry]:
    """The experiments of a run."""
    return [
        Entry(name=each["name"], extra_info=each["extra_info"], seconds=tuple(each["stats"]["data"]))
        for each in run["benchmarks"]
    ]


# One experiment --------------------------------------------------------------------------------------------------


def rounds_of(extra_info: Mapping[str, Any]) -> list[list[str]]:
    """The ids of the documents of each round, in the order of `stats.data`."""
    if sample_rounds := extra_info.get("sample_rounds"):
        return [extra_info["document_ids"]] * len(sample_rounds)
    return extra_info["batch_document_ids"] or [[document_id] for document_id in extra_info["document_ids"]]


def seconds_per_document(extra_info: Mapping[str, Any], seconds: Sequence[float]) -> list[float]:
    """Each document's share of its round, from the seconds of the rounds; in the order of the rounds."""
    return [each / len(ids) for ids, each in zip(rounds_of(extra_info), seconds, strict=True) for _ in range(len(ids))]


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
    """One experiment of a run file, as comparisons need it. `name` is the test's, with the experiment in brackets.

    `seconds` has the duration of each round.
    """

    name: str
    extra_info: ExtraInfo
    seconds: tuple[float, ...]

    @classmethod
    def of(cls, name: str, extra_info: Mapping[str, Any], seconds: Sequence[float]) -> Self:
        """The entry of what was just measured. What only a finished comparison adds is filled in as unknown."""
        return cls(name=name, extra_info=migrated_extra_info(name, extra_info), seconds=tuple(seconds))

    @property
    def experiment(self) -> str:
        return self.extra_info["experiment"]

    @property
    def kind(self) -> KindFacts:
        """The kind of benchmark that measured it: several kinds measure experiments of the same name."""
        return kind_facts_in(self.extra_info) or KindFacts(name=self.test)

    @property
    def test(self) -> str:
        """The name of the test that measured it."""
        return self.name.partition("[")[0]

    @property
    def is_own_speed(self) -> bool:
        """Whether the speed is the experiment's own: undisturbed by a second measurement, and over all documents."""
        return self.kind.is_own_speed

    @property
    def compared_count(self) -> int | None:
        """The number that the kind compares instead of the speed; None if it compares the speed."""
        key = self.kind.compared_count
        return int(cast(Mapping[str, Any], self.extra_info)[key]) if key else None

    @property
    def tuned_kernels(self) -> str | None:
        """The digest of the kernels that the compiler chose; None if nothing was compiled or it was not recorded."""
        return self.extra_info["tuned_kernels"]

    @property
    def is_batched(self) -> bool:
        return self.kind.unit is Unit.BATCH

    @property
    def is_at_once(self) -> bool:
        """Whether each round was the whole sample."""
        return self.kind.unit is Unit.ROUND

    @property
    def rounds_are(self) -> str:
        """What one timing measures, in the plural."""
        return self.kind.unit.plural

    @property
    def timings(self) -> dict[str, Timing]:
        """By round, which is what is compared: a document's id, in document order, or the ids of a batch together.

        Batches of other documents are other rounds, even if they share documents. Rounds over the whole sample are
        numbered.
        """
        if self.is_at_once:
            sample = hashlib.sha256(round_key(self.extra_info["document_ids"]).encode()).hexdigest()
            rounds = zip(self.extra_info["sample_rounds"], self.seconds, strict=True)
            return {
                f"round {number} of {sample}": Timing(tokens=each["generated_tokens"], seconds=seconds)
                for number, (each, seconds) in enumerate(rounds, start=1)
            }
        tokens = dict(zip(self.extra_info["document_ids"], self.extra_info["generated_tokens"], strict=True))
        return {
            round_key(ids): Timing(tokens=sum(tokens[each] for each in ids), seconds=seconds)
            for ids, seconds in zip(rounds_of(self.extra_info), self.seconds, strict=True)
        }

    @property
    def first_token_seconds(self) -> dict[str, float]:
        """The time to the first token by round, as `timings` has them."""
        info = self.extra_info
        seconds = dict(zip(info["document_ids"], info["time_to_first_token_seconds"], strict=True))
        return {round_key(ids): seconds[ids[0]] for ids in rounds_of(info)}

    @property
    def texts(self) -> dict[str, Text]:
        """By document id, in document order: the summaries that were scored.

        Those of documents without a reference were not, nor any of synthetic weights.
        """
        info = self.extra_info
        if not info["rouge1_scores"]:
            return {}
        facts = zip(info["document_ids"], info["rouge1_scores"], info["summary_sha256"], strict=True)
        return {name: Text(rouge1=rouge1, sha256=sha256) for name, rouge1, sha256 in facts if rouge1 is not None}

    @property
    def degenerate(self) -> dict[str, frozenset[str]] | None:
        """Ids of the documents whose summaries only look fast, by kind; None if they were not recorded by document."""
        found = self.extra_info["degenerate_document_ids"]
        return (
            None if found is None else {"empty": frozenset(found["empty"]), "repeating": frozenset(found["repeating"])}
        )

    @property
    def broken_output(self) -> str:
        """One line if most summaries are empty or repeating; empty if they are not, or were not scored."""
        counts = self.extra_info["degenerate"]
        return "" if counts is None else describe_broken_output(counts, len(self.extra_info["document_ids"]))


def round_key(document_ids: Sequence[str]) -> str:
    """What identifies a round of these documents, in whatever order they are."""
    return " ".join(sorted(document_ids))
