"""What the report page shows, taken from runs, their documents and the stored baselines: facts alone, no markup."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from statistics import fmean
from string import ascii_uppercase
from typing import Any

from summarybench.analysis.attribution import WORDS
from summarybench.analysis.quality import DEGENERATE
from summarybench.analysis.quality_change import SIXTEEN_BIT_OR_DEFAULT
from summarybench.catalogue.models import MODELS
from summarybench.core.outcomes import Outcome, Verdict
from summarybench.machine.device import GIB
from summarybench.machine.probes import has_same_work, overall_rate
from summarybench.report.terminal import notes
from summarybench.runs.baselines import Baselines, StoredRun
from summarybench.runs.run_file import Entry, device_of, entries_of, rounds_of, seconds_per_document
from summarybench.stats.intervals import percentile

DocumentRecord = Mapping[str, Any]
"""A row of documents.parquet."""
USUAL_TEST = "test_summarize"
FLAGS = ("empty", "repeating", "cap-hit", "truncated", "changed")
WORD = re.compile(r"\S+\s*")


@dataclass(frozen=True, kw_only=True)  # not slotted: what is derived is kept
class Source:
    """One run, its documents (none where only a run file is there) and what is stored of its device.

    `tag` tells runs of one page apart.
    """

    stored: StoredRun
    baselines: Baselines | None = None
    documents: Sequence[DocumentRecord] = ()
    tag: str = ""

    @cached_property
    def by_document(self) -> dict[tuple[str, str], DocumentRecord]:
        return {(each["experiment"], each["document_id"]): each for each in self.documents}

    @property
    def date(self) -> str:
        return str(self.stored.run.get("datetime", ""))[:16].replace("T", " ")

    @property
    def device(self) -> str:
        return str(self.stored.environment["device"])

    @property
    def commit(self) -> str:
        return self.stored.commit[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of a summary: `kind` is "same", "added" or "removed" beside the summary that it is compared with."""

    kind: str
    text: str


def word_changes(before: str, now: str) -> tuple[Segment, ...]:
    """What makes `now` of `before`, word by word (Ratcliff and Obershelp's matching, Python's difflib)."""
    old, new = WORD.findall(before), WORD.findall(now)
    matcher = SequenceMatcher(None, [word.strip() for word in old], [word.strip() for word in new], autojunk=False)
    found: list[Segment] = []
    for operation, a, b, c, d in matcher.get_opcodes():
        if operation == "equal":
            found.append(Segment(kind="same", text="".join(new[c:d])))
            continue
        if b > a:
            gap = "" if not found or found[-1].text[-1:].isspace() else " "  # the last word of `now` has none after it
            found.append(Segment(kind="removed", text=f"{gap}{''.join(old[a:b]).strip()} "))
        if d > c:
            found.append(Segment(kind="added", text="".join(new[c:d])))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One experiment of one run, as tables and charts show it."""

    number: int
    source: Source
    entry: Entry
    label: str

    @property
    def info(self) -> Mapping[str, Any]:
        return self.entry.extra_info

    @property
    def speed(self) -> float:
        """Generated tokens per second."""
        return float(self.info["generated_tokens_per_second"])

    @property
    def peak_gib(self) -> float:
        return float(self.info["peak_memory_bytes"]) / GIB

    @property
    def rouge1(self) -> float | None:
        return self.info.get("rouge1")

    @property
    def is_synthetic(self) -> bool:
        return bool(self.info["weights"] == "synthetic")

    @property
    def utilization(self) -> float | None:
        return self.info.get("model_bandwidth_utilization")

    @property
    def verdict(self) -> str:
        return str(self.info.get("verdict", Verdict.NO_BASELINE))

    @cached_property
    def failure(self) -> str:
        """Why its test failed, where that is not its speed: lost quality, a floor, a prediction. Empty where it did not."""
        if self.verdict == Verdict.REGRESSED:
            return ""
        return next(
            (
                str(each["detail"]) or "failed"
                for each in self.source.stored.run["outcomes"]
                if each["outcome"] == Outcome.FAILED and each["nodeid"].rpartition("::")[2] == self.entry.name
            ),
            "",
        )

    @property
    def change(self) -> Mapping[str, Any] | None:
        """The ratio to the latest baseline, with its interval."""
        return self.info.get("change")

    @property
    def anchor(self) -> Mapping[str, Any] | None:
        return self.info.get("anchor")

    @property
    def attribution(self) -> Mapping[str, Any] | None:
        return self.info.get("attribution")

    @cached_property
    def document_seconds(self) -> dict[str, float]:
        """By document id, its share of its round; of several rounds their mean."""
        shares: dict[str, list[float]] = {}
        ids = (each for a_round in rounds_of(self.info) for each in a_round)
        for document_id, seconds in zip(ids, seconds_per_document(self.info, self.entry.seconds), strict=True):
            shares.setdefault(document_id, []).append(seconds)
        return {document_id: fmean(found) for document_id, found in shares.items()}

    def seconds_percentile(self, percent: int) -> float | None:
        return percentile(list(self.document_seconds.values()), percent)

    @property
    def first_token_median(self) -> float | None:
        return percentile(self.info["time_to_first_token_seconds"], 50)

    @cached_property
    def baseline(self) -> StoredRun | None:
        """The stored run that it was compared with, where it is still there."""
        named = (self.info.get("baseline") or {}).get("file")
        runs = self.source.baselines.runs if self.source.baselines else ()
        return next((stored for stored in runs if stored.path.name == named), None)

    @cached_property
    def controls(self) -> tuple[tuple[str, float, float | None], ...]:
        """Name, rate now and change since the baseline (a share), which is None where that has none of equal work."""
        before = self.baseline.entry(self.entry.name) if self.baseline else None
        there = before.extra_info.get("controls", {}) if before else {}
        return tuple(
            (
                WORDS.get(name, name),
                overall_rate(control),
                overall_rate(control) / overall_rate(there[name]) - 1
                if has_same_work(control, there.get(name, {}))
                else None,
            )
            for name, control in self.info.get("controls", {}).items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One experiment's summary of one document; `summary` is None where only figures are stored."""

    row: Row
    tokens: int
    seconds: float
    rouge1: float | None
    flags: tuple[str, ...]
    summary: str | None
    changes: tuple[Segment, ...] = ()
    against: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow:
    """A document and what each experiment made of it; texts are None where they are not stored."""

    number: int
    id: str
    tokens: int
    title: str
    section: str
    url: str
    text: str | None
    reference: str | None
    cells: tuple[Cell, ...]

    @property
    def flags(self) -> list[str]:
        return [flag for flag in FLAGS if any(flag in cell.flags for cell in self.cells)]

    @property
    def rouge1(self) -> tuple[float, float] | None:
        scores = [cell.rouge1 for cell in self.cells if cell.rouge1 is not None]
        return (min(scores), max(scores)) if scores else None

    @property
    def seconds(self) -> tuple[float, float]:
        spent = [cell.seconds for cell in self.cells]
        return min(spent), max(spent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A point of the history: one run's speed in generated tokens per second, and its verdict then."""

    date: str
    label: str
    speed: float
    verdict: str
    is_anchor: bool
    is_shown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The runs of one experiment with one workload on one device, oldest first."""

    label: str
    number: int
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMeasured:
    """A test that left no figures: out of memory, unavailable, or failed before a document was done."""

    experiment: str
    outcome: str
    detail: str
    tag: str

    @property
    def is_out_of_memory(self) -> bool:
        return self.outcome == Outcome.OUT_OF_MEMORY or "out of memory" in self.detail.lower()


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the page shows."""

    sources: tuple[Source, ...]
    rows: tuple[Row, ...]
    not_measured: tuple[NotMeasured, ...]
    documents: tuple[DocumentRow, ...]
    histories: tuple[History, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def is_scored(self) -> bool:
        return any(row.rouge1 is not None for row in self.rows)

    @property
    def has_texts(self) -> bool:
        return any(cell.summary is not None for document in self.documents for cell in document.cells)

    @property
    def is_compared(self) -> bool:
        return any(row.change for row in self.rows)

    @property
    def flags(self) -> list[str]:
        return [flag for flag in FLAGS if any(flag in document.flags for document in self.documents)]

    @property
    def frontier(self) -> tuple[Row, ...]:
        """Rows that no other row beats in both: speed and ROUGE-1 or, where nothing is scored, speed and peak memory."""
        candidates = [row for row in self.rows if _merit(row, scored=self.is_scored) is not None]

        def is_beaten(row: Row) -> bool:
            mine = (row.speed, _merit(row, scored=self.is_scored) or 0.0)
            others = ((each.speed, _merit(each, scored=self.is_scored) or 0.0) for each in candidates)
            return any(a >= mine[0] and b >= mine[1] and (a, b) != mine for a, b in others)

        return tuple(sorted((row for row in candidates if not is_beaten(row)), key=lambda row: row.speed))

    @cached_property
    def environment(self) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...], bool], ...]]:
        """The runs' names, and for each fact of their environments its values and whether they differ.

        Baselines that were compared with stand beside the runs.
        """
        runs: dict[str, Mapping[str, Any]] = {}
        for source in self.sources:
            runs[f"{source.tag} {source.stored.label}".strip()] = source.stored.environment
        for row in self.rows:
            if row.baseline is not None and row.baseline.path not in {each.stored.path for each in self.sources}:
                runs[row.baseline.label] = row.baseline.environment
        keys = dict.fromkeys(key for environment in runs.values() for key in environment)
        lines = []
        for key in keys:
            values = tuple(_fact(key, each.get(key)) for each in runs.values())
            lines.append((key.removesuffix("_bytes").replace("_", " "), values, len(set(values)) > 1))
        return tuple(runs), tuple(lines)

    @property
    def verdict(self) -> tuple[str, str]:
        """The worst verdict's word, or how the run ended where that is worse, and the whole in a sentence."""
        return _verdict(self)


def _fact(key: str, value: Any) -> str:
    if value is None:
        return "–"
    return f"{value / GIB:.1f} GiB" if key.endswith("_bytes") else str(value)


def _merit(row: Row, *, scored: bool) -> float | None:
    return row.rouge1 if scored else -row.peak_gib


WORST_FIRST = (
    Verdict.REGRESSED,
    Verdict.INVALID,
    Verdict.INCOMPARABLE,
    Verdict.INCONCLUSIVE,
    Verdict.IMPROVED,
    Verdict.UNCHANGED,
)
IN_WORDS = {
    Verdict.REGRESSED: "regressed",
    Verdict.INVALID: "invalid, because the device was not itself",
    Verdict.INCOMPARABLE: "without a comparable baseline",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.IMPROVED: "improved",
    Verdict.UNCHANGED: "unchanged",
    Verdict.NO_BASELINE: "without a baseline",
}


def _verdict(page: Page) -> tuple[str, str]:
    counted = Counter(row.verdict for row in page.rows)
    failed = [each for each in page.not_measured if each.outcome == Outcome.FAILED]
    failures = [row for row in page.rows if row.failure]
    worst = next((verdict.value for verdict in WORST_FIRST if verdict in counted), Verdict.NO_BASELINE.value)
    if not page.rows:
        return ("FAILED" if failed else "NOTHING MEASURED"), f"Nothing was measured{_others(page)}."
    count = len(page.rows)
    experiments = f"{count} experiment{'s' * (count != 1)}"
    if failures and Verdict.REGRESSED not in counted:
        more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
        reason = failures[0].failure.partition(":")[0]
        sentence = (
            f"{len(failures)} of {experiments} failed: {failures[0].label}: {reason}{more}; no regression of speed"
        )
    elif set(counted) == {Verdict.NO_BASELINE.value}:
        fastest = max(page.rows, key=lambda row: row.speed)
        sentence = (
            f"{experiments} measured, nothing to compare with yet: "
            f"{fastest.label} is the fastest at {fastest.speed:.1f} generated tokens a second"
        )
    elif Verdict.REGRESSED in counted:
        slowest = min(
            (row for row in page.rows if row.verdict == Verdict.REGRESSED),
            key=lambda row: (row.change or {"ratio": 1})["ratio"],
        )
        otherwise = f"; {len(failures)} failed of something else" if failures else ""
        sentence = f"{counted[Verdict.REGRESSED.value]} of {experiments} regressed: {slowest.label}{_how_much(slowest)}{otherwise}"
    else:
        order = (*WORST_FIRST, Verdict.NO_BASELINE)
        parts = [f"{counted[each.value]} {IN_WORDS[each]}" for each in order if each.value in counted]
        told = (
            f"{experiments} {IN_WORDS[Verdict(worst)]}" if len(parts) == 1 else f"of {experiments} {', '.join(parts)}"
        )
        sentence = f"No regression found: {told}"
    has_failed = (failed or failures) and worst != Verdict.REGRESSED
    return ("FAILED" if has_failed else worst), f"{sentence}{_others(page)}."


def _how_much(row: Row) -> str:
    change, sits = row.change, row.attribution
    if not change:
        return ""
    slower, least, most = 1 - change["ratio"], 1 - change["high"], 1 - change["low"]
    said = f" is {slower:.1%} slower [{least:.1%}, {most:.1%}]"
    return said + (f", put down to {sits['cause']}" if sits else "")


def _others(page: Page) -> str:
    counted = Counter(
        "out of memory" if each.is_out_of_memory else each.outcome.replace("_", " ") for each in page.not_measured
    )
    return "".join(f"; {count} {what}" for what, count in counted.items())


def page_of(sources: Sequence[Source]) -> Page:
    """The page of one run, or of several side by side."""
    if len(sources) > 1:
        sources = [
            Source(stored=each.stored, baselines=each.baselines, documents=each.documents, tag=_tag(number))
            for number, each in enumerate(sources)
        ]
    rows = tuple(_rows(sources))
    return Page(
        sources=tuple(sources),
        rows=rows,
        not_measured=tuple(_not_measured(sources)),
        documents=tuple(_documents(rows)),
        histories=tuple(_histories(rows)),
        notes=tuple(_notes(sources)),
    )


def _tag(number: int) -> str:
    return ascii_uppercase[number] if number < len(ascii_uppercase) else f"#{number + 1}"


def _rows(sources: Sequence[Source]) -> Iterator[Row]:
    found = [(source, entry) for source in sources for entry in entries_of(source.stored.run)]
    is_one_model = len({entry.extra_info["model"] for _, entry in found}) == 1
    labels = [_label(entry, is_one_model=is_one_model) for _, entry in found]
    for number, ((source, entry), label) in enumerate(zip(found, labels, strict=True)):
        told = f"{label} · {source.tag}" if labels.count(label) > 1 and source.tag else label
        yield Row(number=number, source=source, entry=entry, label=told)


def _label(entry: Entry, *, is_one_model: bool) -> str:
    """As short as it can be while it tells the page's experiments apart."""
    info = entry.extra_info
    known = MODELS.get(info["model"])
    model = "" if is_one_model else f"{known.marker if known else info['model']} "
    batch = f" ×{info['batch_size']}" if info.get("batch_size", 1) != 1 else ""
    kind = "" if entry.test == USUAL_TEST else f" ({entry.test.removeprefix('test_').replace('_', ' ')})"
    return f"{model}{info['loader']}{batch}{kind}"


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


def _notes(sources: Sequence[Source]) -> Iterator[str]:
    for source in sources:
        before = f"{source.tag}: " if source.tag else ""
        for note in notes(source.stored.run, device_of(source.stored.run)):
            yield before + str(note).strip()


def _histories(rows: Sequence[Row]) -> Iterator[History]:
    told: set[tuple[str, str, str]] = set()
    for row in rows:
        key = (row.source.device, row.entry.name, row.info["workload"])
        if key in told:
            continue
        told.add(key)
        same = [each for each in rows if (each.source.device, each.entry.name, each.info["workload"]) == key]
        shown = {_when(each.source.stored, each.entry): each.source.stored for each in same}
        known = dict(shown)
        for stored in row.source.baselines.runs if row.source.baselines else ():
            found = stored.entry(row.entry.name)
            if found is not None and found.extra_info["workload"] == row.info["workload"]:
                known[_when(stored, found)] = stored
        measurements = tuple(_measurement(stored, row.entry.name, when in shown) for when, stored in known.items())
        yield History(
            label=row.label.partition(" · ")[0],
            number=row.number,
            measurements=tuple(sorted(measurements, key=lambda each: (each.date, each.label))),
        )


def _when(stored: StoredRun, entry: Entry) -> tuple[str, tuple[float, ...]]:
    """Tells measurements apart: a run that was stored as a baseline is one measurement, in two files."""
    return str(stored.run.get("datetime", "")), entry.seconds


def _measurement(stored: StoredRun, name: str, is_shown: bool) -> Measurement:
    entry = stored.entry(name)
    if entry is None:
        raise ValueError(f"{stored.path} does not hold {name}")
    info = entry.extra_info
    return Measurement(
        date=str(stored.run.get("datetime", ""))[:16].replace("T", " "),
        label=stored.label,
        speed=float(info["generated_tokens_per_second"]),
        verdict=str(info.get("verdict", Verdict.NO_BASELINE)),
        is_anchor=stored.is_anchor,
        is_shown=is_shown,
    )


def _documents(rows: Sequence[Row]) -> Iterator[DocumentRow]:
    places = {row.number: {each: place for place, each in enumerate(row.info["document_ids"])} for row in rows}
    ids = dict.fromkeys(document_id for row in rows for document_id in row.info["document_ids"])
    for number, document_id in enumerate(ids, start=1):
        holding = [row for row in rows if document_id in places[row.number]]
        records = [row.source.by_document.get((row.entry.experiment, document_id)) for row in holding]
        known: DocumentRecord = next((each for each in records if each is not None), {})
        tokens = holding[0].info["document_tokens"][places[holding[0].number][document_id]]
        yield DocumentRow(
            number=number,
            id=document_id,
            tokens=tokens,
            title=_title(known.get("url") or "") or document_id,
            section=known.get("section") or "",
            url=known.get("url") or "",
            text=known.get("text"),
            reference=known.get("reference"),
            cells=tuple(_cell(row, document_id, places[row.number][document_id], holding) for row in holding),
        )


def _title(url: str) -> str:
    """The article's name, which is the last part of its address."""
    return re.split("[/:]", url.rstrip("/"))[-1].replace("-", " ")


def _cell(row: Row, document_id: str, place: int, holding: Sequence[Row]) -> Cell:
    info = row.info
    scores = info.get("rouge1_scores") or ()
    summary = _summary(row, document_id)
    other = _counterpart(row, holding) if summary is not None and not row.is_synthetic else None
    before = _summary(other, document_id) if other else None
    return Cell(
        row=row,
        tokens=info["generated_tokens"][place],
        seconds=row.document_seconds[document_id],
        rouge1=scores[place] if scores else None,
        flags=tuple(_flags(row, document_id, place, summary)),
        summary=summary,
        changes=word_changes(before, summary) if before is not None and summary is not None else (),
        against=other.label if other and before is not None else "",
    )


def _summary(row: Row, document_id: str) -> str | None:
    record = row.source.by_document.get((row.entry.experiment, document_id))
    return None if record is None else record.get("summary")


def _counterpart(row: Row, holding: Sequence[Row]) -> Row | None:
    """Whose summary this one is held against: its own of an earlier run of the page, else its run's 16-bit or default one."""
    earlier = [each for each in holding if each.number < row.number and each.entry.name == row.entry.name]
    if earlier:
        return earlier[-1]
    alike = {
        each.info["loader"]: each
        for each in holding
        if each.source is row.source and each.info["model"] == row.info["model"]
    }
    reference = next((alike[loader] for loader in SIXTEEN_BIT_OR_DEFAULT if loader in alike), None)
    return None if reference is row else reference


def _flags(row: Row, document_id: str, place: int, summary: str | None) -> Iterator[str]:
    info = row.info
    kinds = info.get("degenerate_document_ids")
    for kind, has_it in DEGENERATE.items():
        if kinds is not None:
            if document_id in kinds[kind]:
                yield kind
        elif summary is not None and not row.is_synthetic and has_it(summary):
            yield kind
    record = row.source.by_document.get((row.entry.experiment, document_id), {})
    # A run file counts them and does not name them: a summary that is as long as the limit was most likely cut off by it.
    if record.get("hit_cap", info["generated_tokens"][place] >= info["max_new_tokens"]):
        yield "cap-hit"
    if record.get("truncated"):
        yield "truncated"
    before = row.baseline.entry(row.entry.name) if row.baseline else None
    if before is not None and not row.is_synthetic:
        digests = dict(zip(before.extra_info["document_ids"], before.extra_info["summary_sha256"], strict=True))
        if digests.get(document_id, info["summary_sha256"][place]) != info["summary_sha256"][place]:
            yield "changed"
