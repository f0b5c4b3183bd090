"""The line that explains a verdict: its figures, the noise that it rests on, and what would decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from summarybench.analysis.quantities import Quantity
from summarybench.core.numbers import decimal, deviation, interval, percent
from summarybench.core.outcomes import Verdict
from summarybench.machine.environment import Host
from summarybench.stats.changes import Change
from summarybench.stats.decision import (
    IMPROVEMENT_RATIO,
    REGRESSION_RATIO,
    Remedy,
    are_passes_apart,
    contradicted_verdict,
    is_disputed,
    remedy,
)
from summarybench.stats.noise_parts import Level, NoiseParts, NoiseTerm, Place
from summarybench.stats.timings import Timing, log_speed

CALIBRATED_BY = {
    Level.PROCESS: "`summarybench noise` (make noise) measures how much runs differ",
    Level.NIGHT: "`summarybench noise` (make noise) on three more days, or four stored nights, measure how much nights differ",
    Level.HOST: "a baseline of this host would decide: `summarybench adopt` (make adopt) stores this run as one",
}
"""What measures each part of the noise. The lowest part that is missing is named: it is the first to be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """The mean tokens of a round now and before, and the factor by which their difference changes the measured speed."""

    now: float
    before: float
    effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the line is made of.

    `sides` are the timings of the newest pass and of the newest baseline run. `hosts` are those of this session and of the
    newest baseline run. `lacks_kernels` names a stored run that does not record its kernels, if this is why nothing is decided.
    """

    quantity: Quantity
    change: Change
    verdict: Verdict
    parts: NoiseParts
    sides: tuple[Sequence[Timing], Sequence[Timing]]
    tolerance: float
    baselines: Sequence[str]
    hosts: tuple[Host, Host]
    rounds: str
    lengths: Lengths | None
    lacks_kernels: str | None


def describe(figures: Figures) -> str:
    """One line, without a full stop."""
    return "; ".join(_clauses(figures))


def _clauses(figures: Figures) -> Iterator[str]:
    change = figures.change
    yield ", ".join(_figures(figures))
    if lengths := figures.lengths:
        yield (
            f"outputs of another length ({decimal(lengths.now, 1)} tokens here, {decimal(lengths.before, 1)} there) change it by a further "
            f"{percent(lengths.effect - 1, 1, signed=True)}"
        )
    if (between := change.between_passes) and are_passes_apart(change):
        yield f"pass 2 differs from pass 1 by {percent(between.ratio - 1, 1, signed=True)}, more than runs of one night do"
    if contradicted := contradicted_verdict(change):
        yield _conflict(change, contradicted)
    elif is_disputed(change, figures.tolerance):
        yield f"not decided: {_alone(change)}; measure again to decide"
    elif figures.lacks_kernels:
        yield (
            f"not decided because {figures.lacks_kernels} does not record its tuned kernels; a newer baseline would decide: "
            "`summarybench adopt` (make adopt)"
        )
    elif figures.verdict is Verdict.UNCALIBRATED:
        unmeasured = [term.level for term in change.noise if not term.is_measured]
        yield f"not decided because noise is assumed: {CALIBRATED_BY[unmeasured[0]]}"
    elif figures.verdict is Verdict.INCONCLUSIVE:
        needed = remedy(change, figures.tolerance, lambda runs: _noise_of(figures.parts, runs))
        yield _remedy(needed, figures.rounds)


def _figures(figures: Figures) -> Iterator[str]:
    """The ratio with its interval, how much was compared, and the noise."""
    change = figures.change
    found = change.interval()
    older = f" and {len(figures.baselines) - 1} before it" if len(figures.baselines) > 1 else ""
    ratio = f"{decimal(change.ratio, 3)} times the speed of {figures.baselines[0]}{older}"
    yield f"{_levels(figures)}{ratio} {interval(found.low, found.high, 3)}"
    if change.runs_now > 1:
        yield f"{change.runs_now} passes"
    yield f"{change.documents} {figures.rounds}"
    if change.noise:
        listed = ", ".join(_part(figures, term) for term in change.noise)
        yield f"noise: {listed}"


def _levels(figures: Figures) -> str:
    """The values of a quantity that no table has in its place; empty for the speed, which they all have."""
    now, before = (_mean_speed(side) for side in figures.sides)
    if figures.quantity is Quantity.FIRST_TOKEN:
        return f"{decimal(1 / now, 3)} s here, {decimal(1 / before, 3)} s there: "
    if figures.quantity is Quantity.DECODE:
        return f"{decimal(now, 1)} here, {decimal(before, 1)} there: "
    return ""


def _part(figures: Figures, term: NoiseTerm) -> str:
    here, there = figures.hosts
    known = "measured" if term.is_measured else "assumed"
    hosts = f" ({here.name or 'unknown'} here, {there.name or 'unknown'} there)" if term.level is Level.HOST else ""
    return f"{term.level} {deviation(figures.parts.added(term.level))} {known}{hosts}"


def _mean_speed(timings: Sequence[Timing]) -> float:
    return math.exp(log_speed(timings))


def _noise_of(parts: NoiseParts, runs: int) -> tuple[NoiseTerm, ...]:
    """The noise of so many runs on each side, each in a night of its own on one host."""
    nights = [Place(host="one", night=str(number)) for number in range(2 * runs)]
    return parts.terms(nights[:runs], nights[runs:])


def _conflict(change: Change, contradicted: Verdict) -> str:
    limit = (
        f"at most {decimal(REGRESSION_RATIO, 3)}"
        if contradicted is Verdict.REGRESSED
        else f"at least {decimal(IMPROVEMENT_RATIO, 3)}"
    )
    return f"not {contradicted}: {_alone(change)}, and each must be {limit}; measure again to decide"


def _alone(change: Change) -> str:
    return " and ".join(
        f"pass {number} alone is {decimal(ratio, 3)}" for number, ratio in enumerate(change.pass_ratios, start=1)
    )


def _remedy(needed: Remedy, rounds: str) -> str:
    if needed.documents is not None:
        return f"{needed.documents} {rounds} would decide if the change stays the same"
    if needed.runs is not None:
        return f"no number of {rounds} decides with this noise; {needed.runs} nights on each side, on one host, would"
    return f"more {rounds} alone or more nights alone would not decide: it takes both"
