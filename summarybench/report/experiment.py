"""One experiment of one run, as every table, chart and page shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from string import ascii_uppercase
from typing import Any

from summarybench.analysis.cost import Consumption, consumption_of
from summarybench.catalogue.models import MODELS
from summarybench.core.outcomes import Outcome, Verdict
from summarybench.machine.device import DeviceRecord, slugify
from summarybench.runs.baselines import Baselines, StoredRun
from summarybench.runs.comparison_records import AnchorRecord, AttributionRecord, ChangeRecord
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.kind_facts import KindFacts, Unit
from summarybench.runs.run_file import Entry, device_of, entries_of, rounds_of, seconds_per_document

DocumentRow = Mapping[str, Any]
"""A row of documents.parquet."""

EAGER = "eager"
"""The way of single documents through transformers' `generate`, which other ways are compared with."""

COMPILED = "-compiled"
"""Ends the name of a compiled loader; what comes before it is the precision."""
LOOKUP = "-lookup"
"""Ends the name of a loader that decodes with prompt lookup, compiled or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a report is made from: a run, its documents, and the runs stored for its device.

    `documents` are by experiment and document id, and empty for a run file without its folder. `device` defaults to the
    one that the run file states. `tag` is the letter that distinguishes the runs of one report; empty for a single run.
    `is_saved` says that the run is stored as a baseline. `gpu_hour_price` replaces the price that the run file states.
    """

    stored: StoredRun
    device: DeviceRecord | None = None
    baselines: Baselines | None = None
    documents: Mapping[tuple[str, str], DocumentRow] = field(default_factory=dict)
    tag: str = ""
    is_saved: bool = False
    gpu_hour_price: float | None = None

    @property
    def record(self) -> DeviceRecord:
        """The device. Raises InputError if neither the caller nor the run file states it."""
        return self.device or device_of(self.stored.run)

    @property
    def price(self) -> float | None:
        """The price of one GPU for an hour; None if nobody has stated one."""
        return self.gpu_hour_price or self.stored.gpu_hour_price

    @property
    def device_name(self) -> str:
        """The product. Where --server-device gave only the slug, it is the name that another stored run has for it."""
        name = str(self.stored.environment["device"])
        names = (str(each.environment["device"]) for each in (self.baselines.runs if self.baselines else ()))
        return next((each for each in names if each != name and slugify(each) == name), name)

    @property
    def date(self) -> str:
        """When the run was started: `2026-11-23 10:00`, UTC. Empty if the run file does not state it."""
        return minute_of(self.stored)

    @property
    def commit(self) -> str:
        return self.stored.commit[:12]


def minute_of(stored: StoredRun) -> str:
    return str(stored.run.get("datetime", ""))[:16].replace("T", " ")


@dataclass(frozen=True, kw_only=True)  # without slots, for cached properties
class ExperimentView:
    """One experiment of one run.

    `number` counts the experiments of the report from 0 and decides the colour. `label` is the shortest name that
    distinguishes the experiment from the others.
    """

    number: int
    source: Source
    entry: Entry
    label: str

    @property
    def info(self) -> ExtraInfo:
        """`extra_info` of the run file."""
        return self.entry.extra_info

    @property
    def name(self) -> str:
        return self.entry.experiment

    @property
    def kind(self) -> KindFacts:
        return self.entry.kind

    @property
    def precision(self) -> str:
        """The loader's name without `-lookup` and `-compiled`."""
        return self.info["loader"].removesuffix(LOOKUP).removesuffix(COMPILED)

    @property
    def way(self) -> str:
        """How the precision was run: `eager`, or `compiled, batch 25`."""
        return way_of(self.entry)

    @property
    def is_synthetic(self) -> bool:
        return self.info["weights"] == "synthetic"

    @property
    def rouge1(self) -> float | None:
        return self.info["rouge1"]

    @property
    def verdict(self) -> str:
        return self.info["verdict"]

    @property
    def change(self) -> ChangeRecord | None:
        """The ratio to the latest baseline, with its interval."""
        return self.info["change"]

    @property
    def anchor(self) -> AnchorRecord | None:
        """The ratio to the stored run that is never replaced, with its interval."""
        return self.info["anchor"]

    @property
    def attribution(self) -> AttributionRecord | None:
        """The cause of the change, if there is one."""
        return self.info["attribution"]

    @cached_property
    def failure(self) -> str:
        """Why the test failed, if not for its speed: quality, a floor or a prediction. Empty if it did not fail."""
        if self.verdict == Verdict.REGRESSED:
            return ""
        return next(
            (
                each["detail"] or "failed"
                for each in self.source.stored.run["outcomes"]
                if each["outcome"] == Outcome.FAILED and each["nodeid"].rpartition("::")[2] == self.entry.name
            ),
            "",
        )

    @cached_property
    def document_seconds(self) -> dict[str, float]:
        """Seconds by document id: each document's share of its round, and the mean over several rounds."""
        shares: dict[str, list[float]] = {}
        ids = (each for documents in rounds_of(self.info) for each in documents)
        for document_id, seconds in zip(ids, seconds_per_document(self.info, self.entry.seconds), strict=True):
            shares.setdefault(document_id, []).append(seconds)
        return {document_id: fmean(found) for document_id, found in shares.items()}

    @cached_property
    def consumption(self) -> Consumption:
        """The GPU time and energy that its summaries took."""
        return consumption_of(self.info, is_gpu=self.source.stored.is_of_gpu)

    @cached_property
    def baseline(self) -> StoredRun | None:
        """The stored run that the experiment was compared with. None if it is no longer stored."""
        compared = self.info["baseline"]
        if compared is None or self.source.baselines is None:
            return None
        return next((stored for stored in self.source.baselines.runs if stored.path.name == compared["file"]), None)


def way_of(entry: Entry) -> str:
    info, kind = entry.extra_info, entry.kind
    if "served" in info:
        return _served_as(entry)
    batch_size = max(map(len, rounds_of(info)))
    batching = {Unit.DOCUMENT: "", Unit.BATCH: f"batch {batch_size}", Unit.ROUND: kind.title}
    parts = [
        "compiled" if info["loader"].removesuffix(LOOKUP).endswith(COMPILED) else "",
        "prompt lookup" if info["loader"].endswith(LOOKUP) else "",
        batching[kind.unit],
        f"{info['processes']} processes" if "processes" in info else "",
        strategy_of(entry),
    ]
    return ", ".join(part for part in parts if part) or EAGER


def strategy_of(entry: Entry) -> str:
    """How documents were read that do not fit in one prompt; empty if they were truncated."""
    return entry.extra_info["workload_settings"].get("long_documents", "")


def _served_as(entry: Entry) -> str:
    """How a server was loaded: `server, fp8, concurrency 8`. Its loader says nothing but that it is one."""
    strategy = strategy_of(entry)
    label, load = _label_and_load(entry)
    words = re.sub(r"^(concurrency|rate)(?=\d)", r"\1 ", load.replace("-", " "))
    return ", ".join(filter(None, [entry.extra_info["loader"], label, words, strategy]))


def label_of_server(entry: Entry) -> str:
    """The label of a server's set-up, such as fp8. Empty without one, and for an engine of this process."""
    return _label_and_load(entry)[0] if "served" in entry.extra_info else ""


def _label_and_load(entry: Entry) -> tuple[str, str]:
    info = entry.extra_info
    suffix = info["experiment"].removeprefix(f"{info['model']}-{info['loader']}").removesuffix(f"-{strategy_of(entry)}")
    found = re.fullmatch(r"(?:-(?P<label>.+?))??-(?P<load>all-at-once|sweep|concurrency\d+|rate[\d.]+)", suffix)
    return (found["label"] or "", found["load"]) if found else ("", suffix.removeprefix("-"))


def experiments_of(sources: Sequence[Source]) -> tuple[ExperimentView, ...]:
    """The experiments of one run, or of several runs one after the other."""
    return tuple(_experiments(sources))


def _experiments(sources: Sequence[Source]) -> Iterator[ExperimentView]:
    found = [(source, entry) for source in sources for entry in entries_of(source.stored.run)]
    is_one_model = len({entry.extra_info["model"] for _, entry in found}) == 1
    labels = [_label(entry, is_one_model=is_one_model) for _, entry in found]
    for number, ((source, entry), label) in enumerate(zip(found, labels, strict=True)):
        is_ambiguous = labels.count(label) > 1 and source.tag
        yield ExperimentView(
            number=number, source=source, entry=entry, label=f"{label} · {source.tag}" if is_ambiguous else label
        )


def _label(entry: Entry, *, is_one_model: bool) -> str:
    info = entry.extra_info
    known = MODELS.get(info["model"])
    model = "" if is_one_model else f"{known.marker if known else info['model']} "
    if "served" in info:
        return f"{model}{way_of(entry)}"
    batch = f" ×{info['batch_size']}" if info["batch_size"] != 1 else ""
    words = " ".join(filter(None, (entry.kind.title, strategy_of(entry))))
    return f"{model}{info['loader']}{batch}{f' ({words})' if words else ''}"


def tagged(sources: Sequence[Source]) -> tuple[Source, ...]:
    """The sources, with a letter each if there are several."""
    if len(sources) == 1:
        return tuple(sources)
    return tuple(replace(each, tag=_tag(number)) for number, each in enumerate(sources))


def _tag(number: int) -> str:
    return ascii_uppercase[number] if number < len(ascii_uppercase) else f"#{number + 1}"
