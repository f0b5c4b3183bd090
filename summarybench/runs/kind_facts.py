"""What a run file says about the kind of benchmark that measured an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

KIND = "kind"
"""The key of `extra_info` that holds the facts about the experiment's kind."""


class Unit(StrEnum):
    """What one timed round measures, and what a comparison pairs."""

    DOCUMENT = "document"
    BATCH = "batch"
    ROUND = "round"
    """The whole sample. Such a kind records `sample_rounds` in `extra_info`: the seconds and generated tokens of each round."""

    @property
    def plural(self) -> str:
        return "batches" if self is Unit.BATCH else f"{self.value}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFigure:
    """A figure that only one kind measures. Reports show it in a table of that kind.

    `key` is a key of `extra_info`; dots lead into nested mappings, as in `scaling.tokens_per_second`. `format` is a format
    specification for the number, such as `.1f`, and `unit` follows the number where it is not part of the heading.
    `meaning` is one sentence that defines the figure.
    """

    key: str
    heading: str
    unit: str
    format: str
    meaning: str

    def value_in(self, extra_info: Mapping[str, Any]) -> Any:
        """The figure of one experiment; None where the run file does not have it."""
        found: Any = extra_info
        for part in self.key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """The facts about a kind that comparisons and reports need; stored with each experiment.

    `title` follows the experiment's name where kinds must be told apart; the usual kind has none. `compared_count` is the
    key of `extra_info` whose number is compared instead of the speed, if there is one; more is better, and it has no
    noise. `is_own_speed` says that the speed is the experiment's own: not disturbed by a second measurement or by other
    processes, and over all documents. `place` orders the kinds from the plainest to the fastest; a kind without a place
    is not shown side by side with the others. `figures` are those that only this kind has.
    """

    name: str
    unit: Unit = Unit.DOCUMENT
    title: str = ""
    compared_count: str = ""
    is_own_speed: bool = True
    place: int | None = None
    figures: tuple[KindFigure, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """Plain JSON types, for `extra_info`."""
        record = asdict(self)
        return {**record, "unit": self.unit.value, "figures": [asdict(figure) for figure in self.figures]}


def kind_facts_in(extra_info: Mapping[str, Any]) -> KindFacts | None:
    """The facts that a run file states; None for a run from before they were stored.

    Raises KeyError, TypeError or ValueError where they are damaged. Keys of a later version are ignored.
    """
    record = extra_info.get(KIND)
    if record is None:
        return None
    known = {each.name for each in fields(KindFacts)}
    stated = {key: value for key, value in record.items() if key in known}
    figures = tuple(KindFigure(**figure) for figure in stated.get("figures", ()))
    return KindFacts(**{**stated, "unit": Unit(stated.get("unit", Unit.DOCUMENT)), "figures": figures})
