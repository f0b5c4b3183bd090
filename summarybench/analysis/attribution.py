"""Attribute a change of speed to the code, the machine or the workload, from the machine probes of both runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from summarybench.core.numbers import decimal, percent
from summarybench.core.outcomes import Cause
from summarybench.machine.probes import (
    COPY_BANDWIDTH,
    KERNEL_LAUNCHES,
    MATRIX_PRODUCT,
    OF_THE_GPU,
    PYTHON_LOOP,
    has_same_samples,
    has_same_work,
    overall_rate,
)
from summarybench.runs.comparison_records import AttributionRecord
from summarybench.runs.run_file import Entry
from summarybench.stats.changes import Change

LEAST_MOVE = 0.03
DEVIATIONS = 3
"""A probe has moved if it differs by more than 3% and by more than three of its own standard deviations."""
LEAST_SHARE = 0.5
"""The share of the change (of its logarithm) that a cause must explain at least."""
LEAST_SHARE_ON_CPU = 0.25
"""Other load on a CPU slows a model more than any probe: the model's threads synchronize after each operation, thousands of
times per token, and all of them wait for a thread that was interrupted."""
LEAST_HOST_SAMPLES = 8
"""Host probe samples that each run needs for their mean to replace the host's probe. A shared host changes within seconds, and
the probe before and after an experiment sees only two of those seconds."""

WORDS = {
    COPY_BANDWIDTH: "copy bandwidth",
    MATRIX_PRODUCT: "matrix product",
    KERNEL_LAUNCHES: "kernel launches",
    PYTHON_LOOP: "Python loop",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The cause of a change. `detail` is a phrase for the user with the figures that point to it."""

    cause: Cause
    detail: str

    def as_extra_info(self) -> AttributionRecord:
        """The key `attribution` of the run file."""
        return {"cause": self.cause.value, "detail": self.detail}

    def __str__(self) -> str:
        return f"{self.cause}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The difference of one machine probe from the baseline's: the logarithm of the rates' ratio, and its deviation."""

    name: str
    log_ratio: float
    deviation: float

    @property
    def has_moved(self) -> bool:
        return abs(self.log_ratio) > max(LEAST_MOVE, DEVIATIONS * self.deviation)

    def moved_along(self, change: Change) -> bool:
        return self.has_moved and self.log_ratio * change.log_ratio > 0

    def __str__(self) -> str:
        return f"{WORDS[self.name]} {percent(math.expm1(self.log_ratio), signed=True)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPass:
    """One pass of an experiment, with its own change against the baseline.

    `deviations` has the relative standard deviation between runs of each probe, if it was measured with the same work.
    `decides_alone` says whether this pass alone has the verdict that all passes have together.
    """

    entry: Entry
    change: Change
    deviations: Mapping[str, float]
    decides_alone: bool


def attribute_passes(
    passes: Sequence[MeasuredPass], before: Entry, *, is_gpu: bool, differences: Sequence[str]
) -> Attribution:
    """Attribute a change that one or more passes show, from the probes of every pass. `before` is the baseline's entry.

    Each pass is compared with the baseline by itself. The passes that decide alone name the cause, or all passes if none
    does: a pass whose own change may be noise says nothing about the change of another pass. If they name different causes,
    the cause is UNKNOWN, unless all causes are the machine's: then the cause of the larger change counts.
    """
    if len(passes) == 1:
        only = passes[0]
        return attribute(only.change, only.entry, before, only.deviations, is_gpu=is_gpu, differences=differences)
    found = [_attribute_one(each.change, each.entry, before, each.deviations, is_gpu=is_gpu) for each in passes]
    deciding = [pair for pair in zip(passes, found, strict=True) if pair[0].decides_alone]
    cause = _shared_cause(deciding or list(zip(passes, found, strict=True)))
    details = "; ".join(
        f"pass {number} ({decimal(each.change.ratio, 3)}{'' if each.decides_alone or not deciding else ', undecided alone'}) "
        f"{of_pass}"
        for number, (each, of_pass) in enumerate(zip(passes, found, strict=True), start=1)
    )
    environment = _describe_environment(differences) if any(each.cause is Cause.CODE for each in found) else ""
    return Attribution(cause=cause, detail=f"{details}{environment}")


def _shared_cause(passes: Sequence[tuple[MeasuredPass, Attribution]]) -> Cause:
    causes = {attribution.cause for _, attribution in passes}
    if len(causes) > 1 and not all(cause.is_machine for cause in causes):
        return Cause.UNKNOWN
    return max(passes, key=lambda each: abs(each[0].change.log_ratio))[1].cause


def attribute(
    change: Change,
    now: Entry,
    before: Entry,
    deviations: Mapping[str, float],
    *,
    is_gpu: bool,
    differences: Sequence[str],
) -> Attribution:
    """Attribute the change from `before` to `now`.

    `deviations` has the relative standard deviation between runs of each probe, if it was measured with the same work.
    Otherwise the larger deviation of the two runs' repetitions is used. If both runs have enough host probe samples, their
    mean and its standard error replace the host's probe. Probes that did other work are not compared. `differences` are
    those of the environment.
    """
    found = _attribute_one(change, now, before, deviations, is_gpu=is_gpu)
    if found.cause is not Cause.CODE:
        return found
    return replace(found, detail=f"{found.detail}{_describe_environment(differences)}")


def _attribute_one(
    change: Change, now: Entry, before: Entry, deviations: Mapping[str, float], *, is_gpu: bool
) -> Attribution:
    """Attribute a change as `attribute` does, without the environment's differences in the detail."""
    lengths = _explained_by_lengths(now, before)
    if lengths * change.log_ratio > 0 and _share(lengths, change) >= LEAST_SHARE:
        return Attribution(
            cause=Cause.WORKLOAD,
            detail=f"outputs of another length explain {percent(math.expm1(lengths), 1, signed=True)} at the baseline's speeds",
        )
    moves = list(moves_between(now, before, deviations))
    if not moves:
        return Attribution(cause=Cause.UNKNOWN, detail=_why_no_moves(now, before))
    listed = ", ".join(map(str, moves))
    along = [move for move in moves if move.moved_along(change)]
    least_share = LEAST_SHARE if is_gpu else LEAST_SHARE_ON_CPU
    explaining = [move for move in along if _share(move.log_ratio, change) >= least_share]
    if explaining:
        # The GPU's probes outrank kernel launches: launches wait for a slow or shared GPU, but a busy host does not slow
        # the GPU's own work.
        is_of_gpu = is_gpu and any(move.name in OF_THE_GPU for move in explaining)
        return Attribution(cause=Cause.GPU if is_of_gpu else Cause.HOST, detail=f"controls moved along: {listed}")
    unsteady = [move for move in moves if DEVIATIONS * move.deviation > max(LEAST_MOVE, abs(change.log_ratio))]
    if unsteady or along:
        why = "controls vary too much to tell" if unsteady else "controls moved along, too little to be all of it"
        return Attribution(cause=Cause.UNKNOWN, detail=f"{why}: {listed}")
    return Attribution(cause=Cause.CODE, detail=f"controls held ({listed})")


def _describe_environment(differences: Sequence[str]) -> str:
    return f"; other than the baseline's: {'; '.join(differences)}" if differences else "; same environment"


def _share(log_ratio: float, change: Change) -> float:
    return abs(log_ratio) / abs(change.log_ratio)


def moves_between(now: Entry, before: Entry, deviations: Mapping[str, float]) -> Iterator[Move]:
    """The differences of the probes that did the same work in both runs."""
    here, there = now.extra_info["controls"], before.extra_info["controls"]
    samples, earlier_samples = _host_sample_seconds(now), _host_sample_seconds(before)
    for name in (each for each in here if each in there and has_same_work(here[each], there[each])):
        if has_same_samples(here[name], there[name]) and min(len(samples), len(earlier_samples)) >= LEAST_HOST_SAMPLES:
            yield Move(
                name=name,
                log_ratio=math.log(fmean(earlier_samples) / fmean(samples)),
                deviation=math.hypot(_error_of_mean(samples), _error_of_mean(earlier_samples)),
            )
            continue
        stored = max(here[name]["standard_deviation"], there[name]["standard_deviation"])
        yield Move(
            name=name,
            log_ratio=math.log(overall_rate(here[name]) / overall_rate(there[name])),
            deviation=deviations.get(name, stored),
        )


def _host_sample_seconds(entry: Entry) -> list[float]:
    """Seconds per launch, or iteration, just before each round. The documents of a batch share one sample."""
    return [1 / rate for rate in dict.fromkeys(entry.extra_info["host_rate_per_second"]) if rate]


def _error_of_mean(seconds: Sequence[float]) -> float:
    """Relative standard error."""
    return stdev(seconds) / fmean(seconds) / math.sqrt(len(seconds))


def _why_no_moves(now: Entry, before: Entry) -> str:
    if now.extra_info["controls"].keys() & before.extra_info["controls"].keys():
        return "the baseline's controls were measured otherwise: save a baseline"
    return "the baseline has no controls: save one that has"


def _explained_by_lengths(now: Entry, before: Entry) -> float:
    """The change of log(generated tokens per second) that the outputs' lengths alone cause, at the baseline's speeds.

    Each round is assumed to take the baseline's time to its first token, and the baseline's mean time per later token.
    """
    if now.is_at_once:
        return 0.0  # the duration of such a round is about proportional to its tokens
    common = [each for each in now.timings if each in before.timings]
    first = before.first_token_seconds
    decoded = sum(before.timings[each].tokens - 1 for each in common)
    decoding = sum(before.timings[each].seconds - first[each] for each in common)
    if decoded < 1 or not common:
        return 0.0
    per_token = decoding / decoded

    def log_speed(entry: Entry) -> float:
        tokens = [entry.timings[each].tokens for each in common]
        seconds = sum(first[each] + (count - 1) * per_token for each, count in zip(common, tokens, strict=True))
        return math.log(sum(tokens) / seconds)

    return log_speed(now) - log_speed(before)
