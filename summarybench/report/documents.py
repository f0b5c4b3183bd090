"""The documents of a report, with the summary that each experiment made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property
from itertools import pairwise
from typing import Any

from summarybench.analysis.faithfulness import Mark, marks_in
from summarybench.analysis.quality import DEGENERATE
from summarybench.analysis.quality_change import SIXTEEN_BIT_OR_DEFAULT
from summarybench.core.text import printable
from summarybench.documents.languages import ENGLISH, LANGUAGES
from summarybench.documents.words import pieces
from summarybench.report.experiment import DocumentRow, ExperimentView, strategy_of

NOVEL_FLAGS = {"novel_numbers": "new-number", "novel_dates": "new-date", "novel_names": "new-name"}
FLAGS = ("empty", "repeating", *NOVEL_FLAGS.values(), "cut-off", "truncated", "changed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of a summary. `kind` is "same", "added" or "removed", compared with another summary.

    `novel` says what the document does not have: "number", "date" or "name"; empty for what is not marked.
    """

    kind: str
    text: str
    novel: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryView:
    """One experiment's summary of one document.

    `summary` is None for a stored run, which has only figures. `changes` compares it with the summary of the experiment
    labelled `against`; it is empty if there is no such summary. `pieces` is what is shown: the changes, or the whole summary,
    cut where something is marked that the document does not have.
    """

    experiment: ExperimentView
    tokens: int
    seconds: float
    rouge1: float | None
    flags: tuple[str, ...]
    summary: str | None
    changes: tuple[Segment, ...] = ()
    pieces: tuple[Segment, ...] = ()
    against: str = ""


@dataclass(frozen=True, kw_only=True)
class DocumentView:
    """A document and its summaries. `text` and `reference` are None for a stored run. `language` is their code."""

    number: int
    id: str
    tokens: int
    title: str
    section: str
    url: str
    language: str
    text: str | None
    reference: str | None
    summaries: tuple[SummaryView, ...]

    @property
    def flags(self) -> list[str]:
        return [flag for flag in FLAGS if any(flag in each.flags for each in self.summaries)]

    @property
    def rouge1(self) -> tuple[float, float] | None:
        """The lowest and the highest score."""
        scores = [each.rouge1 for each in self.summaries if each.rouge1 is not None]
        return (min(scores), max(scores)) if scores else None

    @property
    def seconds(self) -> tuple[float, float]:
        """Of the fastest and of the slowest experiment."""
        seconds = [each.seconds for each in self.summaries]
        return min(seconds), max(seconds)


def ids_of(experiments: Sequence[ExperimentView]) -> Sequence[str]:
    """The ids of the documents of all experiments, in the order of the first experiment that has them."""
    return list(dict.fromkeys(document_id for each in experiments for document_id in each.info["document_ids"]))


def documents_of(
    experiments: Sequence[ExperimentView],
    has_room_for_texts: Callable[[DocumentView], bool] = lambda _: True,
    has_room_for_figures: Callable[[int], bool] = lambda _: True,
) -> Iterator[DocumentView]:
    """The documents of all experiments, in the order of `ids_of`, as far as there is room.

    `has_room_for_figures` is asked about each document in turn, with the number of its experiments. The first one for which
    there is no room ends the documents. `has_room_for_texts` is asked likewise. From the first one for which there is no room
    on, they have the figures of their summaries alone, as those of a stored run.
    """
    holders = [_Holder(each) for each in experiments]
    counterparts: dict[tuple[int, ...], list[_Holder | None]] = {}  # mostly all experiments have the same documents
    has_room = True
    for number, document_id in enumerate(ids_of(experiments), start=1):
        holding = [each for each in holders if document_id in each.places]
        if not has_room_for_figures(len(holding)):
            return
        numbers = tuple(each.experiment.number for each in holding)
        if numbers not in counterparts:
            counterparts[numbers] = [_counterpart(each, holding) for each in holding]
        pairs = list(zip(holding, counterparts[numbers], strict=True))
        if has_room:
            document = _document_view(number, document_id, pairs)
            has_room = has_room_for_texts(document)
        yield document if has_room else _document_view(number, document_id, pairs, has_texts=False)


def _document_view(
    number: int, document_id: str, pairs: Sequence[tuple[_Holder, _Holder | None]], *, has_texts: bool = True
) -> DocumentView:
    """`pairs` are the experiments that have the document, each with the one that its summary is compared with."""
    first = pairs[0][0].experiment
    known: DocumentRow = next((found for each, _ in pairs if (found := each.record(document_id))), {})
    url = known.get("url") or ""
    return DocumentView(
        number=number,
        id=document_id,
        tokens=first.info["document_tokens"][pairs[0][0].places[document_id]],
        title=_title(url) or document_id,
        section=known.get("section") or "",
        url=url,
        language=first.info["workload_settings"].get("language", ENGLISH.code),
        text=known.get("text") if has_texts else None,
        reference=known.get("reference") if has_texts else None,
        summaries=tuple(_summary_view(each, document_id, other, has_texts=has_texts) for each, other in pairs),
    )


def _title(url: str) -> str:
    """The article's name: the last part of its address."""
    return re.split("[/:]", url.rstrip("/"))[-1].replace("-", " ")


@dataclass(frozen=True)  # without slots, for cached properties
class _Holder:
    """An experiment, asked for what it has of single documents."""

    experiment: ExperimentView

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each document in the lists of the run file."""
        return {each: place for place, each in enumerate(self.experiment.info["document_ids"])}

    @cached_property
    def digests_before(self) -> Mapping[str, str]:
        """The SHA-256 of the baseline's summaries by document id."""
        stored = self.experiment.baseline
        before = stored.entry(self.experiment.entry.name) if stored else None
        if before is None:
            return {}
        return dict(zip(before.extra_info["document_ids"], before.extra_info["summary_sha256"], strict=True))

    @cached_property
    def degenerate(self) -> dict[str, frozenset[str]] | None:
        """As `Entry.degenerate`, which makes its sets anew each time that it is asked."""
        return self.experiment.entry.degenerate

    def record(self, document_id: str) -> DocumentRow | None:
        """The document's row of documents.parquet."""
        return self.experiment.source.documents.get((self.experiment.name, document_id))

    def summary(self, document_id: str) -> str | None:
        record = self.record(document_id)
        summary = None if record is None else record.get("summary")
        return None if summary is None else printable(summary, kept="\n\t")

    def score(self, document_id: str) -> float | None:
        scores = self.experiment.info["rouge1_scores"]
        return scores[self.places[document_id]] if scores else None


def _summary_view(holder: _Holder, document_id: str, counterpart: _Holder | None, *, has_texts: bool) -> SummaryView:
    experiment, place = holder.experiment, holder.places[document_id]
    summary = holder.summary(document_id) if has_texts else None
    other = counterpart if summary is not None and not experiment.is_synthetic else None
    before = other.summary(document_id) if other else None
    changes = word_changes(before, summary) if before is not None and summary is not None else ()
    return SummaryView(
        experiment=experiment,
        tokens=experiment.info["generated_tokens"][place],
        seconds=experiment.document_seconds[document_id],
        rouge1=holder.score(document_id),
        flags=tuple(_flags(holder, document_id)),
        summary=summary,
        changes=changes,
        pieces=_pieces(holder, document_id, summary, changes),
        against=other.experiment.label if other and before is not None else "",
    )


def _counterpart(holder: _Holder, holding: Sequence[_Holder]) -> _Holder | None:
    """The experiment whose summary is compared: the same one of an earlier run, else the run's 16-bit or default one."""
    mine = holder.experiment
    earlier = [
        each
        for each in holding
        if each.experiment.number < mine.number and each.experiment.entry.name == mine.entry.name
    ]
    if earlier:
        return earlier[-1]
    alike = {
        each.experiment.info["loader"]: each
        for each in holding
        if each.experiment.source is mine.source
        and each.experiment.info["model"] == mine.info["model"]
        and strategy_of(each.experiment.entry) == strategy_of(mine.entry)
    }
    reference = next((alike[loader] for loader in SIXTEEN_BIT_OR_DEFAULT if loader in alike), None)
    return None if reference is holder else reference


def _flags(holder: _Holder, document_id: str) -> Iterator[str]:
    info, is_synthetic, place = holder.experiment.info, holder.experiment.is_synthetic, holder.places[document_id]
    stated = holder.degenerate
    summary = holder.summary(document_id) if stated is None else None
    for kind, has_it in DEGENERATE.items():
        if stated is not None:
            if document_id in stated[kind]:
                yield kind
        elif summary is not None and not is_synthetic and has_it(summary):
            yield kind
    if found := info["faithfulness"]:
        counts = dict[str, Any](found)
        yield from (flag for key, flag in NOVEL_FLAGS.items() if counts[key][place])
    record = holder.record(document_id) or {}
    # A run file only counts the summaries that were cut off. A summary as long as the limit was most likely cut off there.
    if record.get("hit_cap", info["generated_tokens"][place] >= info["max_new_tokens"]):
        yield "cut-off"
    if record.get("truncated"):
        yield "truncated"
    digest = info["summary_sha256"][place]
    if not is_synthetic and holder.digests_before.get(document_id, digest) != digest:
        yield "changed"


def _pieces(holder: _Holder, document_id: str, summary: str | None, changes: Sequence[Segment]) -> tuple[Segment, ...]:
    """The changes, or the whole summary, with marks where the run recorded faithfulness and has the document's text."""
    if summary is None:
        return ()
    whole = changes or (Segment(kind="same", text=summary),)
    info, record = holder.experiment.info, holder.record(document_id) or {}
    if info["faithfulness"] is None or not record.get("text"):
        return tuple(whole)
    language = LANGUAGES.get(info["workload_settings"].get("language", ""), ENGLISH)
    return marked_segments(whole, [each for each in marks_in(summary, record["text"], language) if each.is_novel])


def marked_segments(segments: Sequence[Segment], marks: Sequence[Mark]) -> tuple[Segment, ...]:
    """The segments cut at the edges of the marks. Places count in the text without its removed words."""
    edges = sorted({edge for each in marks for edge in (each.start, each.end)})
    found: list[Segment] = []
    place = 0
    for segment in segments:
        if segment.kind == "removed":
            found.append(segment)
            continue
        end = place + len(segment.text)
        cuts = [place, *(edge for edge in edges if place < edge < end), end]
        for start, stop in pairwise(cuts):
            novel = next((each.kind for each in marks if each.start <= start and stop <= each.end), "")
            text = segment.text[start - place : stop - place]
            found.append(replace(segment, text=text, novel=novel))
        place = end
    return tuple(found)


def word_changes(before: str, now: str) -> tuple[Segment, ...]:
    """The words of `now`, and those of `before` that are missing in it. Scripts without spaces are compared by characters.

    The words are matched by Ratcliff and Obershelp's method, as in Python's difflib.
    """
    old, new = pieces(before), pieces(now)
    matcher = SequenceMatcher(None, [word.strip() for word in old], [word.strip() for word in new], autojunk=False)
    found: list[Segment] = []
    for operation, a, b, c, d in matcher.get_opcodes():
        if operation == "equal":
            found.append(Segment(kind="same", text="".join(new[c:d])))
            continue
        if b > a:
            gap = "" if not found or found[-1].text[-1:].isspace() else " "  # no blank follows the last word of `now`
            found.append(Segment(kind="removed", text=f"{gap}{''.join(old[a:b]).strip()} "))
        if d > c:
            found.append(Segment(kind="added", text="".join(new[c:d])))
    return tuple(found)
