"""What a run file says about the kind of benchmark that measured an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

KIND = "kind"
"""The key of `extra_info` that holds the facts about the experiment's kind."""


LINE_BREAKS_IN = frozenset({"short"})
"""The keys of a kind's record whose texts may have line breaks."""


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

    `key` is a key of `extra_info`; dots lead into nested mappings, as in `scaling.tokens_per_second`. Where a list is on
    the way, the figure has a value for each item, and reports show the smallest and the largest. `format` is a format
    specification for the number, such as `.1f`; the number is divided by `divisor` first. `unit` follows each number,
    unless the heading has other words and ends with the unit. `meaning` is one sentence that defines the figure.

    `name` is the full name for the glossary, and `short` the heading for the terminal, where a line break is kept; both
    default to the heading. `higher_is_better` is None for figures that do not improve either way.
    """

    key: str
    heading: str
    unit: str
    format: str
    meaning: str
    name: str = ""
    short: str = ""
    divisor: float = 1
    higher_is_better: bool | None = None

    def value_in(self, extra_info: Mapping[str, Any]) -> Any:
        """The figure of one experiment, a list where its key leads through one; None where the run file lacks it."""
        return _value_at(self.key.split("."), extra_info)


def _value_at(path: Sequence[str], found: Any) -> Any:
    for number, part in enumerate(path):
        if isinstance(found, list):
            values = [_value_at(path[number:], each) for each in found]
            return [each for each in values if each is not None]
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """The facts about a kind that comparisons and reports need; stored with each experiment.

    `title` follows the experiment's name where kinds must be told apart; the usual kind has none. `compared_count` is the
    key of `extra_info` whose number is compared instead of the speed, if there is one; more is better, and it has no
    noise. `is_own_speed` says that the speed is the experiment's own: not disturbed by a second measurement or by other
    processes, and over all documents. `place` orders the kinds from the plainest to the fastest; a kind without a place
    is not shown side by side with the others. `is_beside_eager` says that the tables of stored results show each
    experiment beside the same model and precision in single documents, eager. `figures` are those that only this kind has.
    """

    name: str
    unit: Unit = Unit.DOCUMENT
    title: str = ""
    compared_count: str = ""
    is_own_speed: bool = True
    place: int | None = None
    is_beside_eager: bool = False
    figures: tuple[KindFigure, ...] = ()

    @property
    def full_title(self) -> str:
        """The title in words, also for the usual kind."""
        return self.title or self.name.replace("_", " ")

    @property
    def heading(self) -> str:
        """The full title with a capital letter, for tables of this kind."""
        return self.full_title[:1].upper() + self.full_title[1:]

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
