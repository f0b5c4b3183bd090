"""The records that a new run takes over from an earlier one, each marked with the run that measured it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarybench.core.inert_text import inert_record
from summarybench.core.numbers import counted
from summarybench.core.outcomes import InputError, Outcome, TestOutcome, outcome_of_record
from summarybench.core.strict_json import InvalidValueError
from summarybench.machine.environment import environment_differences
from summarybench.runs.journal import JournalContents, is_being_written, read_journal
from summarybench.runs.journal_lines import Record
from summarybench.runs.migration import migrated_document, migrated_header
from summarybench.runs.run_file import build_run
from summarybench.runs.schema import DocumentRecord, Origin
from summarybench.runs.validation import check_record, check_run, check_shape
from summarybench.runs.workload import differences

JOURNAL, RUN_FILE = "journal.jsonl", "run.json"

ENDS = frozenset({Outcome.PASSED, Outcome.FAILED, Outcome.OUT_OF_MEMORY})
"""The outcomes that a resumed run keeps. Tests with other outcomes are repeated, because the obstacle may be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRun:
    """A run that ended, however it ended. `name` is the name of its results folder."""

    name: str
    journal: JournalContents

    @property
    def outcomes(self) -> dict[str, TestOutcome]:
        """The outcome of each test, by nodeid."""
        return {record["nodeid"]: outcome_of_record(record) for record in self.journal.outcomes}

    @property
    def finished(self) -> dict[str, TestOutcome]:
        """The outcomes of the tests that ran to their end, by nodeid."""
        return {nodeid: each for nodeid, each in self.outcomes.items() if each.is_final and each.outcome in ENDS}

    @property
    def begun(self) -> set[str]:
        """The nodeids of the tests that measured something or ran to their end."""
        journal = self.journal
        documents = {str(each["nodeid"]) for each in (*journal.documents, *journal.superseded_documents)}
        return {*self.finished, *documents, *(str(each["fullname"]) for each in journal.experiments)}

    @property
    def warning(self) -> str:
        """One line about damaged lines of the journal; empty if there are none."""
        damaged = self.journal.damaged_lines
        if not damaged:
            return ""
        numbers = ", ".join(map(str, damaged[:5])) + (" and more" if len(damaged) > 5 else "")
        return (
            f"warning: the journal of {self.name} is damaged in {counted(damaged, 'line')} ({numbers}); the tests that need "
            "them are measured anew"
        )

    @property
    def origin(self) -> Origin:
        """What the run file of a run that continues this one states about it."""
        session = migrated_header(self.journal.session)
        return {"run": self.name, "commit": session["commit_info"]["id"], "datetime": session["datetime"]}


def read_earlier_run(path: Path) -> EarlierRun:
    """The run of a results folder, or of the run.json or journal.jsonl in it.

    results/latest stands for a run that was killed later, because that could not become the latest itself. Raises InputError
    if there is no run, it is still running, its journal cannot be read, or a record does not fit the schema.
    """
    path = _killed_after(path) or path
    folder = (path if path.is_dir() else path.parent).resolve()  # before results/latest points to the new run
    if not path.is_dir() and path.name not in (JOURNAL, RUN_FILE):
        raise InputError(f"{path} is not a run; give a results folder such as results/latest, or the {JOURNAL} in it")
    if is_being_written(folder / JOURNAL):
        raise InputError(f"{path} is still running: wait for its end, or interrupt it")
    journal = read_journal(folder / JOURNAL)
    _check(journal, folder / JOURNAL)
    return EarlierRun(name=folder.name, journal=journal)


def _killed_after(path: Path) -> Path | None:
    """The newest run that was killed after `path`, if that is results/latest, to which a killed run cannot point."""
    if path.name != "latest" or not path.parent.is_dir() or (path.exists() and not path.is_symlink()):
        return None
    name = path.resolve().name if path.exists() else ""
    later = [each for each in path.parent.iterdir() if each.name > name and each != path and _was_killed(each)]
    return max(later, default=None)


def _was_killed(folder: Path) -> bool:
    journal = folder / JOURNAL
    return journal.is_file() and not (folder / "exit_code").exists() and not is_being_written(journal)


def _check(journal: JournalContents, path: Path) -> None:
    """Raises InputError naming the first record that does not fit the schema."""
    try:
        for number, record in enumerate(journal.documents):
            check_record(migrated_document(record), DocumentRecord, f"document[{number}]")
        check_shape({"benchmarks": list(journal.experiments)})
        check_run(build_run(journal))
    except InvalidValueError as error:
        raise InputError(f"{path} cannot be continued: {error}; measure anew") from error
    except KeyError as error:
        raise InputError(f"{path} cannot be continued: it lacks {error}; measure anew") from error


def check_same_conditions(
    earlier: EarlierRun,
    *,
    machine_info: Mapping[str, Any],
    settings: Mapping[str, Any],
    unmeasured: Collection[str] = (),
) -> None:
    """Raises InputError naming the differences if the earlier run had another environment or other settings.

    The folders of `unmeasured` models may have changed: the earlier run has no result that depends on them.
    """
    session = earlier.journal.session
    if "settings" not in session:
        raise InputError(f"{earlier.name} does not say with which settings it was measured; measure anew")
    before = migrated_header(session)["machine_info"]
    for what, named in (
        (
            "settings",
            differences(inert_record(dict(settings)), _with_folders_of(session["settings"], settings, unmeasured)),
        ),
        ("environment", list(environment_differences(inert_record(dict(machine_info)), before))),
    ):
        if named:
            raise InputError(
                f"{earlier.name} was measured with other {what}: {'; '.join(named)}; make them equal or measure anew"
            )


def _with_folders_of(before: Mapping[str, Any], now: Mapping[str, Any], models: Collection[str]) -> dict[str, Any]:
    """The settings `before`, with the folder digests of `now` for those of these models that both have."""
    digests, present = before.get("model_folders") or {}, now.get("model_folders") or {}
    changed = {name: present[name] for name in digests if name in models and name in present}
    return {**before, "model_folders": {**digests, **changed}} if changed else dict(before)


def resumed_records(
    earlier: EarlierRun, *, resumed: Collection[str], again: Collection[str]
) -> Iterator[tuple[str, Record]]:
    """The records at the start of a new run's journal, as (kind, fields), each with `carried_from`.

    Of the nodeids in `resumed`, these are documents, experiment and outcome. Of those in `again`, these are the finished
    documents, as superseded ones that no figure uses. A record that was taken over before keeps its first origin.
    """
    journal = earlier.journal
    for nodeid in resumed:
        yield from _marked(earlier, "document", (each for each in journal.documents if each["nodeid"] == nodeid))
        yield from _marked(earlier, "experiment", (each for each in journal.experiments if each["fullname"] == nodeid))
        yield from _marked(earlier, "outcome", (each for each in journal.outcomes if each["nodeid"] == nodeid))
    unfinished = (each for each in journal.documents if each["nodeid"] in again)
    yield from _marked(earlier, "superseded_document", (*journal.superseded_documents, *unfinished))


def _marked(earlier: EarlierRun, kind: str, records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Record]]:
    for record in records:
        yield kind, {"carried_from": earlier.name, **record}
