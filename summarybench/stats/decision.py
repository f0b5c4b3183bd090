"""The decision on a change of speed, and what would settle it.

A change is a regression, an improvement, none, or undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from summarybench.core.outcomes import Verdict
from summarybench.stats.changes import Change
from summarybench.stats.intervals import ALARM_CONFIDENCE
from summarybench.stats.noise_parts import NoiseTerm

REGRESSION_RATIO = 0.985
"""A slowdown of less than 1.5% is not worth an alarm, however certain it is."""
IMPROVEMENT_RATIO = 1 / REGRESSION_RATIO
"""The mirror image of REGRESSION_RATIO."""
UNDECIDED = frozenset({Verdict.INCONCLUSIVE, Verdict.UNCALIBRATED})
MOST_DOCUMENTS, MOST_RUNS = 1_000_000, 1_000
"""More than anybody would measure: if these do not decide, no number does."""


def is_regressed(change: Change) -> bool:
    """Whether a change is a regression.

    It must be relevant, statistically certain, slow in each pass alone, and not disputed between the passes.
    """
    return decide(change, tolerance=0.0) is Verdict.REGRESSED


def contradicted_verdict(change: Change) -> Verdict | None:
    """The verdict of the pooled passes that one pass alone contradicts.

    None without a contradiction. One disturbed pass can move the pooled speed by any amount, and the noise between runs does
    not cover it. A change of the code shows in every pass.
    """
    if _is_slower(change) and any(ratio > REGRESSION_RATIO for ratio in change.pass_ratios):
        return Verdict.REGRESSED
    if _is_faster(change) and any(ratio < IMPROVEMENT_RATIO for ratio in change.pass_ratios):
        return Verdict.IMPROVED
    return None


def are_passes_apart(change: Change) -> bool:
    """Whether two passes differ by more than runs of one night do, at 99%. False for a single pass."""
    if change.between_passes is None:
        return False
    between = change.between_passes.interval(ALARM_CONFIDENCE)
    return not between.low <= 1 <= between.high


def is_disputed(change: Change, tolerance: float) -> bool:
    """Whether two passes are apart, and do not each lead to the same verdict.

    One of them was disturbed then, and nothing says which. Passes that agree on the verdict may be apart: where noise is
    small, 0.85 and 0.86 are.
    """
    if not are_passes_apart(change):
        return False
    verdicts = {_decide_with_all(each, tolerance) for each in change.alone}
    return len(verdicts) > 1 or Verdict.INCONCLUSIVE in verdicts


def _is_slower(change: Change) -> bool:
    return change.ratio <= REGRESSION_RATIO and change.upper_bound(ALARM_CONFIDENCE) < 1


def _is_faster(change: Change) -> bool:
    return change.ratio >= IMPROVEMENT_RATIO and change.lower_bound(ALARM_CONFIDENCE) > 1


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which of several null hypotheses to reject.

    A true one is rejected in at most `level` of all sessions.

    Holm, Scandinavian Journal of Statistics 6 (1979): the smallest p-value is compared with level ÷ their number, the
    next with level ÷ one less, and so on until one is not rejected.
    """
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def decide(change: Change, tolerance: float) -> Verdict:
    """The verdict on a change.

    `tolerance` is the relative change that counts as none (0.05 for 5%).

    REGRESSED and IMPROVED must show in each pass alone; passes that contradict or dispute each other are INCONCLUSIVE. A
    change is UNCALIBRATED if the noise that was measured would decide it, and the priors of what was not measured do not.
    """
    if contradicted_verdict(change) or is_disputed(change, tolerance):
        return Verdict.INCONCLUSIVE
    if (verdict := _decide_with_all(change, tolerance)) is not Verdict.INCONCLUSIVE:
        return verdict
    calibrated = replace(change, noise=tuple(term for term in change.noise if term.is_measured))
    if contradicted_verdict(calibrated) or _decide_with_all(calibrated, tolerance) is Verdict.INCONCLUSIVE:
        return Verdict.INCONCLUSIVE
    return Verdict.UNCALIBRATED


def _decide_with_all(change: Change, tolerance: float) -> Verdict:
    """The verdict with all of the change's noise, for passes that do not contradict or dispute each other."""
    if _is_slower(change):
        return Verdict.REGRESSED
    if _is_faster(change):
        return Verdict.IMPROVED
    interval = change.interval()
    if 1 - tolerance <= interval.low and interval.high <= 1 + tolerance:
        return Verdict.UNCHANGED
    return Verdict.INCONCLUSIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What would decide a change that is not decided.

    The change must stay as large as it was seen.

    `documents`: the number needed with the present runs. `runs`: the number needed on each side with the present
    documents. Each is None if no number decides.
    """

    documents: int | None
    runs: int | None


def remedy(change: Change, tolerance: float, noise_of: Callable[[int], tuple[NoiseTerm, ...]]) -> Remedy:
    """The fewest documents, or runs on each side, that would decide. `noise_of` has the noise for so many runs on each side."""

    def is_decided(larger: Change) -> bool:
        return decide(larger, tolerance) not in UNDECIDED

    return Remedy(
        documents=fewest(
            change.documents, MOST_DOCUMENTS, lambda number: is_decided(replace(change, documents=number))
        ),
        runs=fewest(
            min(change.baseline_runs, change.runs_now),
            MOST_RUNS,
            lambda number: is_decided(replace(change, noise=noise_of(number))),
        ),
    )


def fewest(present: int, most: int, decides: Callable[[int], bool]) -> int | None:
    """The smallest number above `present` that decides, by bisection.

    None if not even `most` does.
    """
    if not decides(most):
        return None
    below, above = present, present + 1
    while not decides(above):
        below, above = above, min(2 * above, most)
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if decides(middle) else (middle, above)
    return above
