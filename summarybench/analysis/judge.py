"""Compare the experiments of one session with their baselines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

from summarybench.analysis.attribution import Attribution, MeasuredPass, attribute
from summarybench.analysis.comparison import AnchorComparison, Comparison, Judgement
from summarybench.analysis.device_noise import place_of
from summarybench.analysis.faithfulness_change import compare_faithfulness
from summarybench.analysis.judgement_words import Figures, Lengths, describe
from summarybench.analysis.noise import are_tuned_alike, is_compiled
from summarybench.analysis.quality_change import compare_quality
from summarybench.analysis.quantities import Quantity, judged_quantities, timings_of
from summarybench.analysis.served_attribution import refined_for_server, server_differences
from summarybench.core.numbers import decimal, interval
from summarybench.core.outcomes import Verdict
from summarybench.machine.device import is_same_device
from summarybench.machine.environment import environment_differences, host_in
from summarybench.runs.baselines import StoredRun, count_common, has_same_workload
from summarybench.runs.comparable import has_enough_rounds
from summarybench.runs.run_file import Entry
from summarybench.runs.workload import differences
from summarybench.stats.changes import MINIMUM_COMMON_DOCUMENTS, Change, pooled_change
from summarybench.stats.decision import UNDECIDED, decide
from summarybench.stats.noise_parts import NoiseParts, Place
from summarybench.stats.timings import Timing, speed_ratio

SAVE_ANEW = "; save a baseline of this one"
"""Ends the detail of a verdict on another workload, if this run has enough rounds for a baseline."""
SAVE_ONE = "; save one with --benchmark-save=NAME"
"""Ends the detail of a verdict without a baseline, on the same condition."""


class Noise(Protocol):
    """What the judge needs to know about the noise of a device. DeviceNoise has it."""

    def parts(self, experiment: str, quantity: Quantity, *, tuned_alike: bool, host: str | None) -> NoiseParts:
        """The parts of an experiment's noise on one host, or on any."""

    def control_deviations_like(self, entry: Entry, host: str | None) -> dict[str, float]:
        """The relative standard deviation between runs of each of the entry's machine probes, if it was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The passes of one experiment, the newest last, and the stored runs that have it, the newest first."""

    passes: Sequence[Entry]
    runs: Sequence[StoredRun]
    entries: Sequence[Entry]

    @property
    def now(self) -> Entry:
        return self.passes[-1]

    @property
    def before(self) -> Entry:
        return self.entries[0]

    @property
    def are_tuned_alike(self) -> bool:
        return are_tuned_alike(entry.tuned_kernels for entry in (*self.passes, *self.entries))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Compares the experiments of one session, measured in this environment and in this night (the day, UTC).

    `noise` is that of the device. `tolerance` is the relative change that counts as none; `slug` names the folder of baselines
    in messages.
    """

    environment: Mapping[str, Any]
    night: str
    noise: Noise
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
            advice = SAVE_ONE if has_enough_rounds(now.extra_info) else ""
            detail = f"no baseline for '{now.experiment}' on '{self.slug}'{advice}"
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
        holding = [each for each in stored if each.entry(now.name)]
        sides = Sides(passes=passes, runs=holding, entries=[each.entry(now.name) or before for each in holding])
        named = tuple(_differences(self.environment, newest.environment, now, before))
        speed, *others = (
            found for quantity in judged_quantities(now) if (found := self._judge(quantity, sides, named))
        )
        return Comparison(
            verdict=speed.verdict,
            detail=speed.detail,
            baseline_runs=tuple(stored),
            speed=speed,
            others=tuple(others),
            anchor=self._against_anchor(passes, anchor),
            quality=compare_quality(now, before, newest.label),
            faithfulness=compare_faithfulness(now, before, newest.label),
            environment_differences=named,
        )

    def _compare_counts(self, now: Entry, here: int, there: int, stored: StoredRun) -> Comparison:
        """A count has no noise: one less is a regression."""
        verdict = Verdict.REGRESSED if here < there else Verdict.IMPROVED if here > there else Verdict.UNCHANGED
        return Comparison(
            verdict=verdict,
            detail=f"{now.kind.title} {here}, and {there} in {stored.label}",
            baseline_runs=(stored,),
            environment_differences=tuple(environment_differences(self.environment, stored.environment)),
        )

    # One quantity

    def _judge(self, quantity: Quantity, sides: Sides, named: Sequence[str]) -> Judgement | None:
        """The judgement on one quantity; None if too few rounds have it."""
        timings = _common_timings(quantity, sides)
        if len(timings[0]) < MINIMUM_COMMON_DOCUMENTS:
            return None
        parts = self._parts(quantity, sides)
        change = self._change(sides, timings, parts)
        verdict = decide(change, self.tolerance)
        lengths = _lengths(quantity, sides)
        figures = Figures(
            quantity=quantity,
            change=change,
            verdict=verdict,
            parts=parts,
            sides=(timings[len(sides.passes) - 1], timings[len(sides.passes)]),
            tolerance=self.tolerance,
            baselines=[each.label for each in sides.runs],
            hosts=(host_in(self.environment), sides.runs[0].host),
            rounds=sides.now.rounds_are,
            lengths=lengths,
            lacks_kernels=self._lacks_kernels(quantity, sides, timings) if verdict in UNDECIDED else None,
        )
        return Judgement(
            quantity=quantity,
            verdict=verdict,
            detail=describe(figures),
            change=change,
            attribution=self._attribute(verdict, change, sides, named),
            length_effect=None if lengths is None else lengths.effect,
        )

    def _lacks_kernels(self, quantity: Quantity, sides: Sides, timings: Sequence[Sequence[Timing]]) -> str | None:
        """The stored run whose missing record of its kernels is why the change is not decided.

        None if it would not be decided with the same kernels either.
        """
        if not is_compiled(sides.now.experiment):
            return None
        lacking = [
            stored.label for stored, entry in zip(sides.runs, sides.entries, strict=True) if entry.tuned_kernels is None
        ]
        if not lacking:
            return None
        alike = self._change(sides, timings, self._parts(quantity, sides, tuned_alike=True))
        return None if decide(alike, self.tolerance) in UNDECIDED else lacking[0]

    def _parts(self, quantity: Quantity, sides: Sides, *, tuned_alike: bool | None = None) -> NoiseParts:
        here = self._here.host
        is_one_host = all(place_of(each).host == here for each in sides.runs)
        return self.noise.parts(
            sides.now.experiment,
            quantity,
            tuned_alike=sides.are_tuned_alike if tuned_alike is None else tuned_alike,
            host=here if is_one_host else None,
        )

    @property
    def _here(self) -> Place:
        return Place(host=host_in(self.environment).id or "unknown, this session", night=self.night)

    def _change(self, sides: Sides, timings: Sequence[Sequence[Timing]], parts: NoiseParts) -> Change:
        """The change of all passes of this night against all stored runs."""
        count, places = len(sides.passes), [place_of(each) for each in sides.runs]
        return pooled_change(
            timings[:count],
            timings[count:],
            parts.terms([self._here] * count, places),
            noise_of_one_pass=parts.terms([self._here], places),
            noise_between_passes=parts.terms([self._here], [self._here]),
        )

    def _attribute(self, verdict: Verdict, change: Change, sides: Sides, named: Sequence[str]) -> Attribution | None:
        """Attribute a change to its cause from the machine probes of every pass and every stored run."""
        if verdict not in (Verdict.REGRESSED, Verdict.IMPROVED):
            return None
        log_ratios = [math.log(ratio) for ratio in change.pass_ratios] or [change.log_ratio]
        host = self.environment.get("host")
        measured = [
            MeasuredPass(entry=entry, log_ratio=log_ratio, deviations=self.noise.control_deviations_like(entry, host))
            for entry, log_ratio in zip(sides.passes, log_ratios, strict=True)
        ]
        is_gpu = self.environment["driver"] is not None
        found = attribute(change, measured, sides.entries, is_gpu=is_gpu, differences=named)
        return refined_for_server(found, sides.passes, sides.entries)

    def _against_anchor(self, passes: Sequence[Entry], anchor: StoredRun | None) -> AnchorComparison | None:
        before = anchor.entry(passes[-1].name) if anchor else None
        if anchor is None or before is None or self._incomparable(passes[-1], before, anchor):
            return None
        sides = Sides(passes=passes, runs=[anchor], entries=[before])
        timings = _common_timings(Quantity.SPEED, sides)
        change = self._change(sides, timings, self._parts(Quantity.SPEED, sides))
        verdict, found = decide(change, self.tolerance), change.interval()
        named = tuple(_differences(self.environment, anchor.environment, passes[-1], before))
        judgement = Judgement(
            quantity=Quantity.SPEED,
            verdict=verdict,
            detail=f"{decimal(change.ratio, 3)} times the speed of the anchor {anchor.label} {interval(found.low, found.high, 3)}",
            change=change,
            attribution=self._attribute(verdict, change, sides, named),
        )
        return AnchorComparison(
            stored=anchor,
            judgement=judgement,
            quality=compare_quality(passes[-1], before, anchor.label),
            faithfulness=compare_faithfulness(passes[-1], before, anchor.label),
        )

    def _incomparable(self, now: Entry, before: Entry, stored: StoredRun) -> str | None:
        """The reason why two entries cannot be compared; None if they can."""
        here, there = self.environment["device"], stored.environment["device"]
        if not is_same_device(here, there):
            return f"was measured on another device: {there} there, {here} here"
        if now.kind.name != before.kind.name:
            return f"measured another kind of benchmark: {before.kind.name} there, {now.kind.name} here"
        if before.broken_output:
            return f"is no baseline: {before.broken_output}"
        if not has_same_workload(now, before):
            named = differences(now.extra_info["workload_settings"], before.extra_info["workload_settings"])
            advice = SAVE_ANEW if has_enough_rounds(now.extra_info) else ""
            return f"measured another workload: {'; '.join(named) or 'its settings are not recorded'}{advice}"
        if now.compared_count is not None:
            return None
        common = count_common(now, before)
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


def _common_timings(quantity: Quantity, sides: Sides) -> list[list[Timing]]:
    """The timings of each pass and of each stored run, for the rounds that all of them have."""
    found = [timings_of(entry, quantity, sides.before) for entry in (*sides.passes, *sides.entries)]
    common = [each for each in found[0] if all(each in timings for timings in found)]
    return [[timings[each] for each in common] for timings in found]


def _lengths(quantity: Quantity, sides: Sides) -> Lengths | None:
    """What outputs of other lengths than the baseline's do to the measured speed; None where the lengths are equal."""
    if quantity is not Quantity.SPEED:
        return None
    everything = [entry.timings for entry in (*sides.passes, *sides.entries)]
    common = [each for each in everything[0] if all(each in timings for timings in everything)]
    if all(timings[each].tokens == sides.before.timings[each].tokens for timings in everything for each in common):
        return None
    here = [sides.now.timings[each] for each in common]
    there = [sides.before.timings[each] for each in common]
    at_lengths = timings_of(sides.now, quantity, sides.before)
    return Lengths(
        now=fmean(each.tokens for each in here),
        before=fmean(each.tokens for each in there),
        effect=speed_ratio(here, [at_lengths[each] for each in common]),
    )


def _differences(here: Mapping[str, Any], there: Mapping[str, Any], now: Entry, before: Entry) -> Iterator[str]:
    """Versions and hosts that differ, a server's version and flags, and the kernels that the compiler chose, if recorded."""
    yield from environment_differences(here, there)
    yield from server_differences(now, before)
    if None not in (now.tuned_kernels, before.tuned_kernels):
        yield from differences({"tuned_kernels": now.tuned_kernels}, {"tuned_kernels": before.tuned_kernels})
