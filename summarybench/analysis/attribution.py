"""Attribute a change of speed to the code or the machine, from the machine probes of both runs.

Outputs of another length are no cause: a change of speed is measured at the baseline's output lengths (quantities.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from summarybench.stats.decision import REGRESSION_RATIO
from summarybench.stats.intervals import ALARM_CONFIDENCE, student_quantile

LEAST_MOVE = 0.03
DEVIATIONS = 3
"""A probe has moved if it differs by more than 3% and by more than three of its own standard deviations."""
LEAST_SHARE = 0.5
"""The share of the change (of its logarithm) that a cause must explain at least."""
LARGEST_EFFECT = 1.25
"""The largest change of speed that the move of a probe explains on a GPU, as a multiple of the move (both as logarithms). A
program on all 16 CPUs of an H100's host slowed kernel launches by 55% and eager decoding by 58%, which is 1.1 times as much
(docs/explanation/attribution.md)."""
LARGEST_EFFECT_ON_CPU = 4.0
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
    def is_large(self) -> bool:
        return abs(self.log_ratio) > LEAST_MOVE

    @property
    def has_moved(self) -> bool:
        return self.is_large and abs(self.log_ratio) > DEVIATIONS * self.deviation

    def __str__(self) -> str:
        return f"{WORDS[self.name]} {percent(math.expm1(self.log_ratio), signed=True)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPass:
    """One pass of an experiment, with the logarithm of its own ratio to the baseline.

    `deviations` has the relative standard deviation between runs of each probe, if it was measured with the same work.
    """

    entry: Entry
    log_ratio: float
    deviations: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _PassMoves:
    """The moves of one pass against all baseline runs: `counted` are those of the probes that its speed depends on."""

    log_ratio: float
    counted: tuple[Move, ...]
    others: tuple[Move, ...]

    def explained(self, change: Change, moves: Sequence[Move], effect: float) -> float:
        """The part of the pass's log ratio that the largest of these moves explains, with the sign of the change.

        A move in the other direction explains nothing, and none explains more than the pass has changed.
        """
        sign = math.copysign(1, change.log_ratio)
        largest = max((sign * move.log_ratio for move in moves), default=0.0)
        return sign * max(0.0, min(effect * largest, sign * self.log_ratio))

    def __str__(self) -> str:
        if not self.others:
            return _listed(self.counted)
        unrelated = f"its speed does not depend on {_listed(self.others)}"
        return f"{_listed(self.counted)}; {unrelated}" if self.counted else unrelated


def attribute(
    change: Change, passes: Sequence[MeasuredPass], stored: Sequence[Entry], *, is_gpu: bool, differences: Sequence[str]
) -> Attribution:
    """Attribute a change that one or more passes show together against one or more stored runs.

    Only the probes that the experiment's speed depends on count (`speed_probes` of the run file). In each pass, the largest
    move in the direction of the change is subtracted, at most LARGEST_EFFECT times; the mean over the passes is the part
    that the machine explains. The code is the cause if the rest is still beyond its noise at 99%, to which the probes' own
    noise adds. Otherwise the machine is the cause if it explains at least half, and the cause is UNKNOWN if it does not.

    Each pass is compared with each stored run: a probe's move is the mean over the stored runs that did the same work. If
    both runs have enough host probe samples, their mean and its standard error replace the host's probe. `differences` are
    those of the environment.
    """
    moved = [_moves_of(each, stored) for each in passes]
    if not all(each.counted for each in moved):
        return Attribution(cause=Cause.UNKNOWN, detail=_why_no_moves(passes, stored))
    cause, why = _cause(change, moved, is_gpu=is_gpu)
    environment = _describe_environment(differences) if cause is Cause.CODE else ""
    return Attribution(cause=cause, detail=f"{why}: {_describe_moves(moved)}{environment}")


def _cause(change: Change, moved: Sequence[_PassMoves], *, is_gpu: bool) -> tuple[Cause, str]:
    """The cause by the machine probes, and the reason in words."""
    effect = LARGEST_EFFECT if is_gpu else LARGEST_EFFECT_ON_CPU
    noise = max(move.deviation for each in moved for move in each.counted)

    def explained(counts: Callable[[Move], bool]) -> float:
        return fmean(each.explained(change, [move for move in each.counted if counts(move)], effect) for each in moved)

    possibly = explained(lambda move: move.is_large)
    if _is_beyond_noise(change, change.log_ratio - possibly, noise):
        return Cause.CODE, _why_code(change, possibly, moved)
    # The GPU's probes outrank kernel launches: launches wait for a slow or shared GPU, but a busy host does not slow the
    # GPU's own work.
    by_gpu = explained(lambda move: move.has_moved and move.name in OF_THE_GPU) if is_gpu else 0.0
    by_machine = explained(lambda move: move.has_moved)
    for part, cause in ((by_gpu, Cause.GPU), (by_machine, Cause.HOST)):
        if _share(part, change) >= LEAST_SHARE and not _is_beyond_noise(change, change.log_ratio - part, noise):
            return cause, "probes moved along"
    if not by_machine or _is_beyond_noise(change, change.log_ratio - possibly, 0.0):
        return Cause.UNKNOWN, "probes vary too much to tell"
    return Cause.UNKNOWN, "probes moved along, too little to be all of it"


def _is_beyond_noise(change: Change, rest: float, noise: float) -> bool:
    """Whether the rest of a change would be one by itself: relevant, and proven at 99% with the probes' noise added."""
    if rest * change.log_ratio <= 0 or abs(rest) < -math.log(REGRESSION_RATIO):
        return False
    quantile = student_quantile(ALARM_CONFIDENCE, change.degrees_of_freedom)
    return abs(rest) > quantile * math.hypot(change.standard_error, noise)


def _why_code(change: Change, explained: float, moved: Sequence[_PassMoves]) -> str:
    if explained:
        rest = percent(math.expm1(change.log_ratio - explained), signed=True)
        return f"probes moved along, which explains {percent(math.expm1(explained), signed=True)} at most and leaves {rest}"
    if any(move.is_large for each in moved for move in each.counted):
        return "probes moved the other way"
    return "probes held"


def _describe_moves(moved: Sequence[_PassMoves]) -> str:
    if len(moved) == 1:
        return str(moved[0])
    return "; ".join(
        f"pass {number} ({decimal(math.exp(each.log_ratio), 3)}) {each}" for number, each in enumerate(moved, start=1)
    )


def _listed(moves: Sequence[Move]) -> str:
    return ", ".join(map(str, moves))


def _describe_environment(differences: Sequence[str]) -> str:
    return f"; other than the baseline's: {'; '.join(differences)}" if differences else "; same environment"


def _share(log_ratio: float, change: Change) -> float:
    return abs(log_ratio) / abs(change.log_ratio)


def _moves_of(measured: MeasuredPass, stored: Sequence[Entry]) -> _PassMoves:
    """Each probe's mean move against the stored runs that did the same work, with the largest deviation of them."""
    found: dict[str, list[Move]] = {}
    for before in stored:
        for move in moves_between(measured.entry, before, measured.deviations):
            found.setdefault(move.name, []).append(move)
    moves = [
        Move(
            name=name,
            log_ratio=fmean(each.log_ratio for each in against),
            deviation=max(each.deviation for each in against),
        )
        for name, against in found.items()
    ]
    depends_on = measured.entry.extra_info["speed_probes"]
    return _PassMoves(
        log_ratio=measured.log_ratio,
        counted=tuple(move for move in moves if move.name in depends_on),
        others=tuple(move for move in moves if move.name not in depends_on),
    )


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


def _why_no_moves(passes: Sequence[MeasuredPass], stored: Sequence[Entry]) -> str:
    here = {name for each in passes for name in each.entry.extra_info["controls"]}
    there = {name for each in stored for name in each.extra_info["controls"]}
    if here & there:
        return "the baseline's machine probes did other work: save a baseline"
    return "the baseline has no machine probes: save one that has"
