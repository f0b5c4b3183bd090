"""`--confirm RUN`: what the first pass measured, and which slowdowns of both passes fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from summarybench.analysis.comparison import FALSE_ALARM_LEVEL, Comparison
from summarybench.core.numbers import percent, significant
from summarybench.core.outcomes import Cause, Verdict
from summarybench.runs.comparison_records import ChangeRecord, Confirmation
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.resume import EarlierRun
from summarybench.runs.run_file import Entry, build_run, entries_of
from summarybench.runs.schema import Benchmark
from summarybench.stats.decision import holm, is_slow_in_each_pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedRun:
    """The experiments that are measured again, by nodeid. Empty in a session that confirms nothing.

    `run` is the first pass, and `comparisons` counts the experiments that it compared with a baseline.
    """

    run: str = ""
    comparisons: int = 0
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def hold(self, comparison: Comparison) -> Comparison:
        """Mark a slowdown as held if it may be a false alarm, considering all comparisons of the session.

        This uses Bonferroni's level, because the other p-values are not known yet. What Bonferroni rejects, Holm rejects too.
        """
        change = comparison.change
        if not self.entries or comparison.verdict is not Verdict.REGRESSED or change is None:
            return comparison
        level = FALSE_ALARM_LEVEL / self.comparisons
        if change.p_value <= level:
            return comparison
        detail = (
            f"{comparison.detail}; not failed: p {significant(change.p_value, 2)}, and of {self.comparisons} comparisons only below "
            f"{significant(level, 2)} keeps the session's false alarms at {percent(FALSE_ALARM_LEVEL)} (Holm)"
        )
        return replace(comparison, is_held=True, detail=detail)

    def rejected(self, benchmarks: Sequence[Benchmark]) -> dict[str, bool]:
        """The experiments that were measured again and are significantly slower with Holm's correction over the session.

        By nodeid: whether the slowdown is attributed to the machine.
        """
        changes = [(each, change) for each in benchmarks if (change := each["extra_info"]["change"])]
        decisions = holm([_p_value(change) for _, change in changes], FALSE_ALARM_LEVEL)
        return {
            each["fullname"]: _is_of_machine(each["extra_info"])
            for (each, _), is_rejected in zip(changes, decisions, strict=True)
            if is_rejected and each["fullname"] in self.entries and each["extra_info"]["verdict"] == Verdict.REGRESSED
        }

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


def _p_value(change: ChangeRecord) -> float:
    """The p-value for Holm's correction; 1 if a pass alone is not slow.

    Such a change is never a regression. Its pooled p-value can be tiny, and would ease the levels of the other experiments.
    """
    return change["p_value"] if is_slow_in_each_pass(change.get("pass_ratios", ())) else 1.0


def _is_of_machine(extra_info: ExtraInfo) -> bool:
    attribution = extra_info["attribution"]
    return attribution is not None and Cause(attribution["cause"]).is_machine


def is_measured_again(extra_info: ExtraInfo, *, every: bool) -> bool:
    """Whether a second pass measures an experiment again: if it REGRESSED, or with `every` if it was compared."""
    return extra_info["change"] is not None and (every or extra_info["verdict"] == Verdict.REGRESSED)


def read_confirmed_run(earlier: EarlierRun, *, every: bool) -> ConfirmedRun:
    """The experiments of a run that REGRESSED, or with `every` all that it compared."""
    run = build_run(earlier.journal)
    compared = [
        (benchmark["fullname"], entry)
        for benchmark, entry in zip(run["benchmarks"], entries_of(run), strict=True)
        if entry.extra_info["change"]
    ]
    return ConfirmedRun(
        run=earlier.name,
        comparisons=len(compared),
        entries={nodeid: entry for nodeid, entry in compared if is_measured_again(entry.extra_info, every=every)},
    )
