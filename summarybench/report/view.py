"""Everything that a report shows, built once from its runs. Terminal, markdown and HTML only render it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from summarybench.core.outcomes import Outcome
from summarybench.report.documents import DocumentView, documents_of, ids_of
from summarybench.report.environment import Environments, environments_of
from summarybench.report.experiment import ExperimentView, Source, experiments_of, tagged
from summarybench.report.frontier import frontier_of
from summarybench.report.headline import Headline, NotMeasured, headline_of
from summarybench.report.history import History, histories_of
from summarybench.report.layout import Table
from summarybench.report.notes import Note, notes_of
from summarybench.report.page_budget import PageBudget
from summarybench.report.tables import kind_tables, run_tables
from summarybench.runs.run_file import entries_of


@dataclass(frozen=True, kw_only=True)  # without slots, for cached properties
class RunView:
    """One run, or several side by side. What takes time is computed when a renderer first asks for it."""

    sources: tuple[Source, ...]
    experiments: tuple[ExperimentView, ...]

    @cached_property
    def not_measured(self) -> tuple[NotMeasured, ...]:
        return tuple(_not_measured(self.sources))

    @cached_property
    def headline(self) -> Headline:
        return headline_of(self.experiments, self.not_measured)

    @cached_property
    def outcomes(self) -> Mapping[str, int]:
        """How often each outcome occurred, in words, in the order of the tests."""
        found = (str(each["outcome"]) for source in self.sources for each in source.stored.run["outcomes"])
        return Counter(outcome.replace("_", " ") for outcome in found)

    @cached_property
    def tables(self) -> Sequence[Table]:
        """The tables of the terminal."""
        return run_tables(self.experiments)

    @cached_property
    def kind_tables(self) -> Sequence[Table]:
        """The tables of figures that only some experiments have."""
        return kind_tables(self.experiments)

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        return tuple(_notes(self.sources, self.experiments))

    @cached_property
    def documents(self) -> tuple[DocumentView, ...]:
        """The documents, without their texts from where a page would become too long, and none from where it still would."""
        budget = PageBudget()
        return tuple(documents_of(self.experiments, budget.has_room_for_texts, budget.has_room_for_figures))

    @cached_property
    def document_count(self) -> int:
        """The number of documents that were summarized, those included that the page has no room for."""
        return len(ids_of(self.experiments))

    @cached_property
    def histories(self) -> tuple[History, ...]:
        return tuple(histories_of(self.experiments))

    @property
    def is_scored(self) -> bool:
        return any(each.rouge1 is not None for each in self.experiments)

    @property
    def is_priced(self) -> bool:
        """Whether every run has a price for a GPU-hour, so that the costs of all experiments can be compared."""
        return all(source.price is not None for source in self.sources)

    @property
    def documents_with_texts(self) -> int:
        """How many documents have their summaries here, and not only figures about them."""
        return sum(any(each.summary is not None for each in document.summaries) for document in self.documents)

    @property
    def has_marks(self) -> bool:
        """Whether any summary has something marked that its document does not have."""
        return any(piece.novel for document in self.documents for each in document.summaries for piece in each.pieces)

    @cached_property
    def frontier(self) -> tuple[ExperimentView, ...]:
        """The experiments that no other beats in both figures of the trade-off chart, slowest or dearest first."""
        return frontier_of(self.experiments, scored=self.is_scored, priced=self.is_priced)

    @cached_property
    def environments(self) -> Environments:
        return environments_of(self.sources, self.experiments)


def view_of(sources: Sequence[Source]) -> RunView:
    """The view of one run, or of several side by side.

    Raises KeyError, TypeError or ValueError if a run is damaged; damage may also show when a property is read.
    """
    named = tagged(sources)
    return RunView(sources=named, experiments=experiments_of(named))


def _not_measured(sources: Sequence[Source]) -> Iterator[NotMeasured]:
    for source in sources:
        measured = {entry.experiment for entry in entries_of(source.stored.run)}
        for outcome in source.stored.run["outcomes"]:
            if outcome["outcome"] != Outcome.SKIPPED and outcome["experiment"] not in measured:
                yield NotMeasured(
                    experiment=outcome["experiment"],
                    outcome=str(outcome["outcome"]),
                    detail=str(outcome.get("detail", "")),
                    tag=source.tag,
                )


def _notes(sources: Sequence[Source], experiments: Sequence[ExperimentView]) -> Iterator[Note]:
    for source in sources:
        mine = [each for each in experiments if each.source is source]
        for note in notes_of(source.stored.run, source.record, mine, is_saved=source.is_saved):
            if not source.tag or note.before.startswith(" "):  # indented: it belongs to the note above
                yield note
            else:
                yield Note(before=f"{source.tag}: {note.before}", verdict=note.verdict, after=note.after)
