"""Which experiments of a run can be compared with another run at all."""

from __future__ import annotations

from collections.abc import Iterator

from summarybench.core.numbers import counted
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.kind_facts import kind_facts_in
from summarybench.runs.run_file import Entry, Run, entries_of, rounds_of
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS


def has_enough_rounds(info: ExtraInfo) -> bool:
    """Whether a run could be compared with an experiment, by its `extra_info`. A count needs no number of rounds."""
    kind = kind_facts_in(info)
    is_count = kind is not None and bool(kind.compared_count)
    return is_count or len(rounds_of(info)) >= MINIMUM_COMMON_DOCUMENTS


def never_compared(run: Run) -> Iterator[str]:
    """One line for the experiments of a stored run with each number of rounds that is too small for a comparison."""
    entries = entries_of(run)
    small = [entry for entry in entries if not has_enough_rounds(entry.extra_info)]
    remedy = ", and remove this baseline" if len(small) == len(entries) else ""
    names: dict[str, list[str]] = {}
    for entry in small:
        names.setdefault(_rounds(entry), []).append(entry.experiment)
    for rounds, experiments in names.items():
        yield (
            f"note: {', '.join(dict.fromkeys(experiments))}: {rounds}: no run will ever be compared with "
            f"{'it' if len(experiments) == 1 else 'them'}; measure at least {MINIMUM_COMMON_DOCUMENTS}{remedy}"
        )


def _rounds(entry: Entry) -> str:
    unit = entry.kind.unit
    return counted(len(entry.seconds), unit, unit.plural)
