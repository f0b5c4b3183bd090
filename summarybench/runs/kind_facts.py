"""What a run file says about the kind of benchmark that measured an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """What one timed round measures, and what a comparison pairs."""

    DOCUMENT = "document"
    BATCH = "batch"
    ROUND = "round"
    """The whole sample."""

    @property
    def plural(self) -> str:
        return "batches" if self is Unit.BATCH else f"{self.value}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """The facts about a kind that comparisons and reports need; stored with each experiment.

    `title` follows the experiment's name where kinds must be told apart; the usual kind has none. `compared_count` is the
    key of `extra_info` whose number is compared instead of the speed, if there is one; more is better, and it has no
    noise. `is_own_speed` says that the speed is the experiment's own: not disturbed by a second measurement or by other
    processes, and over all documents. `place` orders the kinds from the plainest to the fastest; a kind without a place
    is not shown side by side with the others.
    """

    name: str
    unit: Unit = Unit.DOCUMENT
    title: str = ""
    compared_count: str = ""
    is_own_speed: bool = True
    place: int | None = None
