"""`--confirm RUN`: what the first pass measured, and which slowdowns of both passes fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from summarybench.analysis.comparison import FALSE_ALARM_LEVEL, Comparison, Judgement
from summarybench.core.numbers import percent, significant
from summarybench.core.outcomes import Cause, Verdict
from summarybench.runs.comparison_records import AttributionRecord, ChangeRecord, Confirmation
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.resume import EarlierRun
from summarybench.runs.run_file import Entry, build_run, entries_of
from summarybench.runs.schema import Benchmark
from summarybench.stats.decision import holm


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedRun:
    """The experiments that are measured again, by nodeid. Empty in a session that confirms nothing.

    `run` is the first pass, and `comparisons` counts what it compared: speeds, first tokens and decoding with
    baselines, and speeds with anchors.
    """

    run: str = ""
    comparisons: int = 0
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def hold(self, comparison: Comparison) -> Comparison:
        """Mark slowdowns as held that may be false alarms, considering all comparisons of the session.

        This uses Bonferroni's level, because the other p-values are not known yet. What Bonferroni rejects, Holm rejects too.
        """
        if not self.entries or comparison.speed is None:
            return comparison
        speed = self._held(comparison.speed)
        others = tuple(self._held(each) for each in comparison.others)
        anchor = comparison.anchor
        if anchor is not None:
            anchor = replace(anchor, judgement=self._held(anchor.judgement))
        return replace(comparison, speed=speed, detail=speed.detail, others=others, anchor=anchor)

    def _held(self, judgement: Judgement) -> Judgement:
        level = FALSE_ALARM_LEVEL / self.comparisons
        p_value = judgement.change.p_value
        if judgement.verdict is not Verdict.REGRESSED or p_value <= level:
            return judgement
        detail = (
            f"{judgement.detail}; not failed: p {significant(p_value, 2)}, and of {self.comparisons} comparisons only below "
            f"{significant(level, 2)} keeps the session's false alarms at {percent(FALSE_ALARM_LEVEL)} (Holm)"
        )
        return replace(judgement, is_held=True, detail=detail)

    def rejected(self, benchmarks: Sequence[Benchmark]) -> dict[str, bool]:
        """The experiments that were measured again and are significantly slower with Holm's correction over the session.

        By nodeid: whether each of their slowdowns is attributed to the machine.
        """
        compared = [(each["fullname"], found) for each in benchmarks for found in judged_changes(each["extra_info"])]
        decisions = holm([_p_value(found) for _, found in compared], FALSE_ALARM_LEVEL)
        causes: dict[str, list[bool]] = {}
        for (nodeid, found), is_rejected in zip(compared, decisions, strict=True):
            if is_rejected and nodeid in self.entries and found.verdict == Verdict.REGRESSED:
                causes.setdefault(nodeid, []).append(_is_of_machine(found.attribution))
        return {nodeid: all(each) for nodeid, each in causes.items()}

    def as_extra_info(self, nodeid: str) -> Confirmation:
        """The key `first_pass` of a run file: the first pass's raw facts and verdict, or None."""
        entry = self.entries.get(nodeid)
        if entry is None:
            return {"first_pass": None}
        info = entry.extra_info
        return {
            "first_pass": {
                "run": self.run,
                "verdict": info["verdict"],
                "verdict_detail": info["verdict_detail"],
                "change": info["change"],
                "attribution": info["attribution"],
                "document_ids": info["document_ids"],
                "batch_document_ids": info["batch_document_ids"],
                "generated_tokens": info["generated_tokens"],
                "time_to_first_token_seconds": info["time_to_first_token_seconds"],
                "generated_tokens_per_second": info["generated_tokens_per_second"],
                "controls": info["controls"],
                "seconds": list(entry.seconds),
            }
        }


def _p_value(found: JudgedChange) -> float:
    """The p-value for Holm's correction; 1 for what is INCONCLUSIVE, because passes that disagree decide nothing.

    Their pooled p-value can be tiny, and would ease the levels of the other experiments.
    """
    return 1.0 if found.verdict == Verdict.INCONCLUSIVE else found.change["p_value"]


def _is_of_machine(attribution: AttributionRecord | None) -> bool:
    return attribution is not None and Cause(attribution["cause"]).is_machine


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedChange:
    """One judgement of an experiment, as its run file states it."""

    verdict: str
    change: ChangeRecord
    attribution: AttributionRecord | None


def judged_changes(extra_info: ExtraInfo) -> list[JudgedChange]:
    """The changes of an experiment that were judged.

    They are of its speed, of its first token and decoding where it has them, and of its speed since the anchor if there is one.
    """
    speed = extra_info["change"]
    changes = [(speed, extra_info["verdict"], extra_info["attribution"])] if speed else []
    others = (extra_info["first_token_change"], extra_info["decode_change"])
    changes += [(each, each["verdict"], each["attribution"]) for each in others if each]
    if anchor := extra_info["anchor"]:
        changes.append((anchor, anchor["verdict"], anchor.get("attribution")))
    return [JudgedChange(verdict=verdict, change=change, attribution=cause) for change, verdict, cause in changes]


def is_measured_again(extra_info: ExtraInfo, *, every: bool) -> bool:
    """Whether a second pass measures an experiment again: if something REGRESSED, or with `every` if it was compared."""
    changes = judged_changes(extra_info)
    return bool(changes) if every else any(each.verdict == Verdict.REGRESSED for each in changes)


def read_confirmed_run(earlier: EarlierRun, *, every: bool) -> ConfirmedRun:
    """The experiments of a run in which something REGRESSED, or with `every` all that it compared."""
    run = build_run(earlier.journal)
    compared = [
        (benchmark["fullname"], entry)
        for benchmark, entry in zip(run["benchmarks"], entries_of(run), strict=True)
        if entry.extra_info["change"]
    ]
    return ConfirmedRun(
        run=earlier.name,
        comparisons=sum(len(judged_changes(entry.extra_info)) for _, entry in compared),
        entries={nodeid: entry for nodeid, entry in compared if is_measured_again(entry.extra_info, every=every)},
    )
