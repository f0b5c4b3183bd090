"""`--confirm RUN`: what the first pass measured, and when a slowdown that the second one shows too fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from summarybench.analysis.comparison import FALSE_ALARM_LEVEL, Comparison
from summarybench.core.outcomes import Cause, Verdict
from summarybench.runs.resume import EarlierRun
from summarybench.runs.run_file import Entry, build_run, entries_of
from summarybench.stats.decision import holm, is_slow_in_each_pass

FACTS = (
    "verdict",
    "verdict_detail",
    "change",
    "attribution",
    "document_ids",
    "batch_document_ids",
    "generated_tokens",
    "time_to_first_token_seconds",
    "generated_tokens_per_second",
    "controls",
)
"""What a confirmed experiment keeps of its first pass, apart from the seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstPasses:
    """What is measured again, by nodeid, out of `comparisons` experiments that the first pass of `run` compared.

    Empty in a session that confirms nothing.
    """

    run: str = ""
    comparisons: int = 0
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def hold(self, comparison: Comparison) -> Comparison:
        """Hold a slowdown against the session's level, as far as it is known before all comparisons are in.

        A p-value that Bonferroni rejects, Holm rejects whatever the others turn out to be.
        """
        change = comparison.change
        if not self.entries or comparison.verdict is not Verdict.REGRESSED or change is None:
            return comparison
        level = FALSE_ALARM_LEVEL / self.comparisons
        if change.p_value <= level:
            return comparison
        detail = (
            f"{comparison.detail}; not failed: p {change.p_value:.2g}, and of {self.comparisons} comparisons only below "
            f"{level:.2g} keeps the session's false alarms at {FALSE_ALARM_LEVEL:.0%} (Holm)"
        )
        return replace(comparison, is_held=True, detail=detail)

    def rejected(self, benchmarks: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
        """What was measured again and, by Holm's correction over the session, is slower beyond doubt.

        By nodeid: whether it is the machine that slowed down.
        """
        compared = [each for each in benchmarks if each["extra_info"]["change"]]
        decisions = holm([_p_value(each["extra_info"]["change"]) for each in compared], FALSE_ALARM_LEVEL)
        return {
            each["fullname"]: _is_of_machine(each["extra_info"])
            for each, is_rejected in zip(compared, decisions, strict=True)
            if is_rejected and each["fullname"] in self.entries and each["extra_info"]["verdict"] == Verdict.REGRESSED
        }

    def as_extra_info(self, nodeid: str) -> dict[str, Any]:
        """The key `first_pass` of a run file: its raw facts and its verdict, or None."""
        entry = self.entries.get(nodeid)
        if entry is None:
            return {"first_pass": None}
        facts = {name: entry.extra_info.get(name) for name in FACTS}
        return {"first_pass": {"run": self.run, **facts, "seconds": list(entry.seconds)}}


def _p_value(change: Mapping[str, Any]) -> float:
    """The p-value for Holm's correction; 1 where a pass alone is not slow.

    Such a change is never a regression. Its pooled p-value can be tiny, and would ease the levels of the other experiments.
    """
    return float(change["p_value"]) if is_slow_in_each_pass(change.get("pass_ratios", ())) else 1.0


def _is_of_machine(extra_info: Mapping[str, Any]) -> bool:
    sits = extra_info["attribution"]
    return sits is not None and Cause(sits["cause"]).is_machine


def is_measured_again(extra_info: Mapping[str, Any], *, every: bool) -> bool:
    """Whether a second pass measures an experiment again: it was compared and REGRESSED, or with `every` compared at all."""
    return extra_info["change"] is not None and (every or extra_info["verdict"] == Verdict.REGRESSED)


def read_first_passes(earlier: EarlierRun, *, every: bool) -> FirstPasses:
    """What a run compared and found REGRESSED, or with `every` all that it compared."""
    run = build_run(earlier.journal)
    compared = [
        (benchmark["fullname"], entry)
        for benchmark, entry in zip(run["benchmarks"], entries_of(run), strict=True)
        if entry.extra_info["change"]
    ]
    return FirstPasses(
        run=earlier.name,
        comparisons=len(compared),
        entries={nodeid: entry for nodeid, entry in compared if is_measured_again(entry.extra_info, every=every)},
    )
