"""The targets of a profile: ROUGE against reference scores, and the length of the summaries against the reference's.

A mean of few documents misses its target by chance half of the time. So a target counts as missed only if chance is ruled
out at 99%, as for floors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from summarybench.core.numbers import decimal, percent
from summarybench.core.outcomes import QualityError
from summarybench.runs.profile_record import ProfileRecord
from summarybench.runs.run_file import ROUGE_TYPES
from summarybench.stats.intervals import ALARM_CONFIDENCE, mean_upper_bound

NAMES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "characters": "length in characters",
}


class Reached(StrEnum):
    """Whether a target is reached."""

    REACHED = "REACHED"
    WITHIN_CHANCE = "WITHIN CHANCE"
    MISSED = "MISSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One figure of the summaries, by document, and the range for its mean ÷ the reference's."""

    key: str
    values: tuple[float, ...]
    reference: float
    at_least: float
    at_most: float = math.inf

    @property
    def ratio(self) -> float:
        """The mean ÷ the reference's."""
        return fmean(self.values) / self.reference

    @property
    def reached(self) -> Reached:
        if self.at_least <= self.ratio <= self.at_most:
            return Reached.REACHED
        ratios = [each / self.reference for each in self.values]
        if self.ratio < self.at_least:
            is_chance = mean_upper_bound(ratios) >= self.at_least
        else:
            is_chance = -mean_upper_bound([-each for each in ratios]) <= self.at_most  # the lower bound
        return Reached.WITHIN_CHANCE if is_chance else Reached.MISSED

    def __str__(self) -> str:
        limits = f"at least {percent(self.at_least)}"
        if self.at_most < math.inf:
            limits = f"{percent(self.at_least)} to {percent(self.at_most)}"
        return f"{NAMES[self.key]} is {percent(self.ratio, 1)} of the reference's {self._reference}, and {limits} is required"

    @property
    def _reference(self) -> str:
        return decimal(self.reference, 1) if self.key == "characters" else decimal(100 * self.reference, 2)


def targets_of(
    profile: ProfileRecord | None, scores: Mapping[str, Sequence[float | None]], characters: Sequence[int]
) -> tuple[Target, ...]:
    """The targets of a session's profile. None without reference scores, or for summaries that were not scored.

    `scores` has the ROUGE scores by type and document, None without a reference summary, and `characters` the length of each
    summary. A score that the reference or an older run does not have is no target.
    """
    known = {key: tuple(each for each in scores.get(key, ()) if each is not None) for key in ROUGE_TYPES}
    if profile is None or profile["reference"] is None or not known["rouge1"]:
        return ()
    reference = profile["reference"]
    required = {
        "rouge1": reference["rouge1"],
        "rouge2": reference["rouge2"],
        "rougeL": reference.get("rougeL"),
        "rougeLsum": reference["rougeLsum"],
    }
    rouge = [
        Target(key=key, values=known[key], reference=value, at_least=profile["quality_share"])
        for key, value in required.items()
        if value is not None and known[key]
    ]
    if reference["characters"] is None or not characters:
        return tuple(rouge)
    length = Target(
        key="characters",
        values=tuple(characters),
        reference=reference["characters"],
        at_least=profile["shortest"],
        at_most=profile["longest"],
    )
    return (*rouge, length)


def assert_targets_reached(targets: Sequence[Target]) -> None:
    """Raises QualityError if a target is missed by more than chance."""
    missed = [str(each) for each in targets if each.reached is Reached.MISSED]
    if missed:
        raise QualityError(
            f"the profile's targets are missed (chance is ruled out at {percent(ALARM_CONFIDENCE)}): {'; '.join(missed)}"
        )
