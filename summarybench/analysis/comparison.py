"""Compare an experiment with its baseline: the verdict, and what a change is attributed to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from summarybench.analysis.attribution import Attribution, MeasuredPass, attribute
from summarybench.analysis.noise import DeviceSpread, are_tuned_alike
from summarybench.analysis.quality_change import QualityComparison, at_level, compare_quality
from summarybench.analysis.served_attribution import refined_for_server, server_differences
from summarybench.core.numbers import decimal, deviation, interval
from summarybench.core.outcomes import DeviceInvalidError, MachineSlowerError, RegressionError, Verdict
from summarybench.machine.environment import environment_differences, host_in
from summarybench.runs.baselines import StoredRun, has_same_workload
from summarybench.runs.comparison_records import AnchorRecord, ChangeRecord, Decision
from summarybench.runs.run_file import Entry
from summarybench.runs.workload import differences
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS, Change, pooled_change
from summarybench.stats.decision import (
    IMPROVEMENT_RATIO,
    REGRESSION_RATIO,
    Remedy,
    contradicted_verdict,
    decide,
    remedy,
)
from summarybench.stats.intervals import ALARM_CONFIDENCE
from summarybench.stats.spread import Spread

FALSE_ALARM_LEVEL = 1 - ALARM_CONFIDENCE
"""The probability of a false alarm in one comparison; with Holm's correction, in a whole confirmed session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorComparison:
    """The change against the anchor, which is never replaced."""

    stored: StoredRun
    change: Change
    verdict: Verdict
    quality: QualityComparison | None = None

    def as_extra_info(self) -> AnchorRecord:
        """The key `anchor` of the run file."""
        return {
            "quality_change": self.quality.as_extra_info() if self.quality else None,
            "file": self.stored.path.name,
            "commit": self.stored.commit,
            "verdict": self.verdict.value,
            **_change_record(self.change),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of comparing an experiment with its baseline. `detail` is one line with the figures and what to do next.

    `baseline_runs` are the stored runs that were pooled, newest first, and `baseline` is the newest. `is_held` marks a
    slowdown that may be chance, considering all comparisons of the session: it does not fail. If `is_of_speed` is False,
    another number was compared, and the detail names it.
    """

    verdict: Verdict
    detail: str
    baseline_runs: tuple[StoredRun, ...] = ()
    change: Change | None = None
    attribution: Attribution | None = None
    anchor: AnchorComparison | None = None
    quality: QualityComparison | None = None
    teacher_quality: QualityComparison | None = None
    is_required: bool = False
    is_held: bool = False
    is_of_speed: bool = True
    environment_differences: tuple[str, ...] = field(default=())

    @property
    def baseline(self) -> StoredRun | None:
        return self.baseline_runs[0] if self.baseline_runs else None

    @property
    def fails(self) -> bool:
        return self.verdict is Verdict.REGRESSED and not self.is_held

    @property
    def qualities(self) -> tuple[QualityComparison, ...]:
        """The comparisons of quality that may fail: with the baseline, and with the anchor."""
        found = (self.quality, self.anchor.quality if self.anchor else None)
        return tuple(each for each in found if each is not None)

    def at_quality_level(self, level: float) -> Comparison:
        """The same comparison, whose tests of quality fail at this p-value."""
        anchor = self.anchor and replace(self.anchor, quality=at_level(self.anchor.quality, level))
        return replace(self, quality=at_level(self.quality, level), anchor=anchor)

    @property
    def is_of_machine(self) -> bool:
        return self.attribution is not None and self.attribution.cause.is_machine

    def as_extra_info(self) -> Decision:
        """The keys of the run file that record the decision."""
        stored = self.baseline
        return {
            "verdict": self.verdict.value,
            "verdict_detail": self.detail,
            "baseline": None
            if stored is None
            else {
                "file": stored.path.name,
                "run": stored.label,
                "commit": stored.commit,
                "runs": [each.path.name for each in self.baseline_runs],
            },
            "change": None if self.change is None else _change_record(self.change),
            "attribution": None if self.attribution is None else self.attribution.as_extra_info(),
            "anchor": None if self.anchor is None else self.anchor.as_extra_info(),
            "environment_differences": list(self.environment_differences),
            "quality_change": self.quality.as_extra_info() if self.quality else None,
        }


def _differences(here: Mapping[str, Any], there: Mapping[str, Any], now: Entry, before: Entry) -> Iterator[str]:
    """Versions and hosts that differ, a server's version and flags, and the kernels that the compiler chose, if recorded."""
    yield from environment_differences(here, there)
    yield from server_differences(now, before)
    if None not in (now.tuned_kernels, before.tuned_kernels):
        yield from differences({"tuned_kernels": now.tuned_kernels}, {"tuned_kernels": before.tuned_kernels})


def _change_record(change: Change) -> ChangeRecord:
    interval = change.interval()
    record: ChangeRecord = {
        "ratio": change.ratio,
        "low": interval.low,
        "high": interval.high,
        "confidence": interval.confidence,
        "p_value": change.p_value,
        "documents": change.documents,
        "baseline_runs": change.baseline_runs,
        "passes": change.runs_now,
    }
    if change.pass_ratios:
        record["pass_ratios"] = list(change.pass_ratios)
    return record


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Compares the experiments of one session. `environment` and `spread` are those of this machine.

    `tolerance` is the relative change that counts as none; `slug` names the folder of baselines in messages.
    """

    environment: Mapping[str, Any]
    spread: DeviceSpread
    tolerance: float
    slug: str

    def compare(
        self, passes: Sequence[Entry], stored: Sequence[StoredRun], anchor: StoredRun | None = None
    ) -> Comparison:
        """The verdict on one experiment, measured in one or more passes (the newest last), against stored runs.

        The stored runs come from `find_baseline`: they measured the same, and the newest comes first.
        """
        now = passes[-1]
        if not stored:
            detail = f"no baseline for '{now.experiment}' on '{self.slug}'; save one with --benchmark-save=NAME"
            return Comparison(verdict=Verdict.NO_BASELINE, detail=detail)
        newest = stored[0]
        before = newest.entry(now.name)
        if before is None:
            detail = f"no baseline for '{now.experiment}' in {newest.label}; name a run that holds it"
            return Comparison(verdict=Verdict.NO_BASELINE, detail=detail)
        reason = self._incomparable(now, before, newest)
        if reason:
            detail = f"{newest.label} {reason}"
            return Comparison(verdict=Verdict.INCOMPARABLE, detail=detail, baseline_runs=(newest,))
        if now.compared_count is not None and before.compared_count is not None:
            return self._compare_counts(now, now.compared_count, before.compared_count, newest)
        spread = self._spread_with(stored)
        entries = [found for each in stored if (found := each.entry(now.name))]
        noise = self._noise(passes, entries, spread)
        changed = self._change(passes, entries, noise)
        verdict = decide(changed, self.tolerance)
        named = tuple(_differences(self.environment, newest.environment, now, before))
        return Comparison(
            verdict=verdict,
            detail=self._describe(changed, verdict, stored, now.rounds_are, noise),
            baseline_runs=tuple(stored),
            change=changed,
            attribution=self._attribute(verdict, changed, passes, entries, named, spread),
            anchor=self._against_anchor(passes, anchor),
            quality=compare_quality(now, before, newest.label),
            environment_differences=named,
        )

    def _compare_counts(self, now: Entry, here: int, there: int, stored: StoredRun) -> Comparison:
        """A count has no noise: one less is a regression."""
        verdict = Verdict.REGRESSED if here < there else Verdict.IMPROVED if here > there else Verdict.UNCHANGED
        return Comparison(
            verdict=verdict,
            detail=f"{now.kind.title} {here}, and {there} in {stored.label}",
            baseline_runs=(stored,),
            is_of_speed=False,
            environment_differences=tuple(environment_differences(self.environment, stored.environment)),
        )

    def _spread_with(self, stored: Sequence[StoredRun]) -> DeviceSpread:
        """The spread of this host if all runs were measured on it; otherwise the spread of all hosts."""
        hosts = {host_in(each.environment).id for each in stored} | {host_in(self.environment).id}
        is_one_host = len(hosts) == 1
        return self.spread.on(self.environment.get("host")) if is_one_host else self.spread

    def _noise(self, passes: Sequence[Entry], stored: Sequence[Entry], spread: DeviceSpread) -> Spread:
        tuned_alike = are_tuned_alike(entry.tuned_kernels for entry in (*passes, *stored))
        return spread.of(passes[-1].experiment, tuned_alike=tuned_alike)

    def _change(self, passes: Sequence[Entry], stored: Sequence[Entry], noise: Spread) -> Change:
        everything = [entry.timings for entry in (*passes, *stored)]
        common = [each for each in everything[0] if all(each in timings for timings in everything)]
        timings = [[found[each] for each in common] for found in everything]
        return pooled_change(timings[: len(passes)], timings[len(passes) :], noise.terms(len(stored), len(passes)))

    def _attribute(
        self,
        verdict: Verdict,
        changed: Change,
        passes: Sequence[Entry],
        stored: Sequence[Entry],
        named: Sequence[str],
        spread: DeviceSpread,
    ) -> Attribution | None:
        """Attribute a change to its cause from the machine probes of every pass and every stored run."""
        if verdict not in (Verdict.REGRESSED, Verdict.IMPROVED):
            return None
        log_ratios = [math.log(ratio) for ratio in changed.pass_ratios] or [changed.log_ratio]
        measured = [
            MeasuredPass(entry=entry, log_ratio=log_ratio, deviations=spread.control_deviations_like(entry))
            for entry, log_ratio in zip(passes, log_ratios, strict=True)
        ]
        is_gpu = self.environment["driver"] is not None
        found = attribute(changed, measured, stored, is_gpu=is_gpu, differences=named)
        return refined_for_server(found, passes, stored)

    def _against_anchor(self, passes: Sequence[Entry], anchor: StoredRun | None) -> AnchorComparison | None:
        before = anchor.entry(passes[-1].name) if anchor else None
        if anchor is None or before is None or self._incomparable(passes[-1], before, anchor):
            return None
        noise = self._noise(passes, [before], self._spread_with([anchor]))
        change = self._change(passes, [before], noise)
        return AnchorComparison(
            stored=anchor,
            change=change,
            verdict=decide(change, self.tolerance),
            quality=compare_quality(passes[-1], before, anchor.label),
        )

    def _incomparable(self, now: Entry, before: Entry, stored: StoredRun) -> str | None:
        """The reason why two entries cannot be compared; None if they can."""
        here, there = self.environment["device"], stored.environment["device"]
        if here != there:
            return f"was measured on another device: {there} there, {here} here"
        if now.kind.name != before.kind.name:
            return f"measured another kind of benchmark: {before.kind.name} there, {now.kind.name} here"
        if before.broken_output:
            return f"is no baseline: {before.broken_output}"
        if not has_same_workload(now, before):
            named = differences(now.extra_info["workload_settings"], before.extra_info["workload_settings"])
            return f"measured another workload: {'; '.join(named) or 'its settings are not recorded'}; save a baseline of this one"
        if now.compared_count is not None:
            return None
        common = len(now.timings.keys() & before.timings.keys())
        if common < MINIMUM_COMMON_DOCUMENTS and now.is_batched:
            return (
                f"has {common} batches of the same documents in common with this run, and {MINIMUM_COMMON_DOCUMENTS} are needed; "
                f"give both the same --documents, {MINIMUM_COMMON_DOCUMENTS * now.extra_info['batch_size']} or more"
            )
        if common < MINIMUM_COMMON_DOCUMENTS:
            what_to_do = (
                f"give both the same documents and --rounds {MINIMUM_COMMON_DOCUMENTS}"
                if now.is_at_once
                else "measure more documents (--documents, --documents-file)"
            )
            return f"has {common} {now.rounds_are} in common with this run, and {MINIMUM_COMMON_DOCUMENTS} are needed; {what_to_do}"
        return None

    def _describe(
        self, change: Change, verdict: Verdict, stored: Sequence[StoredRun], rounds: str, noise: Spread
    ) -> str:
        found = change.interval()
        older = f" and {len(stored) - 1} before it" if len(stored) > 1 else ""
        parts = [
            f"{decimal(change.ratio, 3)} of {stored[0].label}{older} {interval(found.low, found.high, 3)}",
            *([f"{change.runs_now} passes"] if change.runs_now > 1 else []),
            f"{change.documents} {rounds}",
            f"spread between runs {deviation(noise.standard_deviation)} {noise.origin}",
        ]
        line = ", ".join(parts)
        if contradicted := contradicted_verdict(change):
            return f"{line}; {_describe_conflict(change, contradicted)}"
        if verdict is Verdict.INCONCLUSIVE:
            return f"{line}; {_describe_remedy(remedy(change, self.tolerance, lambda runs: noise.terms(runs, runs)), rounds)}"
        return line


def _describe_conflict(change: Change, contradicted: Verdict) -> str:
    each = " and ".join(
        f"pass {number} alone is {decimal(ratio, 3)}" for number, ratio in enumerate(change.pass_ratios, start=1)
    )
    limit = (
        f"at most {decimal(REGRESSION_RATIO, 3)}"
        if contradicted is Verdict.REGRESSED
        else f"at least {decimal(IMPROVEMENT_RATIO, 3)}"
    )
    return f"not {contradicted}: {each}, and each must be {limit}; measure again to decide"


def _describe_remedy(needed: Remedy, rounds: str) -> str:
    if needed.documents is not None:
        return f"{needed.documents} {rounds} would decide, if the change stays"
    if needed.runs is not None:
        return f"no number of {rounds} decides at that spread; {needed.runs} runs on each side would"
    return f"no number of {rounds} or of runs decides alone: both must grow"


def assert_not_regressed(comparison: Comparison) -> None:
    """Fail a slowdown that is not attributed to the machine.

    Raises RegressionError for such a slowdown, and if a required baseline is missing or has another workload. Raises
    DeviceInvalidError if the device was throttled or shared.
    """
    if comparison.verdict is Verdict.INVALID:
        raise DeviceInvalidError(comparison.detail)
    if comparison.fails and not comparison.is_of_machine:
        raise RegressionError(_regressed(comparison))
    if comparison.is_required and comparison.verdict in (Verdict.NO_BASELINE, Verdict.INCOMPARABLE):
        raise RegressionError(f"{comparison.verdict} (--require-baseline): {comparison.detail}")


def assert_machine_not_slower(comparison: Comparison) -> None:
    """Fail a slowdown that is attributed to the machine. Call it last, because any other failure outranks it.

    Raises MachineSlowerError.
    """
    if comparison.fails and comparison.is_of_machine:
        raise MachineSlowerError(_regressed(comparison))


def _regressed(comparison: Comparison) -> str:
    attribution = f"; {comparison.attribution}" if comparison.attribution else ""
    what = "generated tokens/s " if comparison.is_of_speed else ""
    return f"{Verdict.REGRESSED}: {what}{comparison.detail}{attribution}"
