"""Compare a student's experiment with its teacher's of the same session."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from summarybench.analysis.faithfulness_change import FaithfulnessComparison, compare_faithfulness
from summarybench.analysis.quality_change import MayFail, QualityComparison, at_level, compare_quality
from summarybench.runs.comparison_records import TeacherChangeRecord
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.run_file import Entry
from summarybench.stats.changes import WITHIN_ONE_PROCESS, paired_change


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherChange:
    """A student's experiment beside its teacher's, with the same loader and session; ratios are student ÷ teacher.

    `low` and `high` bound the ratio of generated tokens per second (95%, over documents). `rouge1_ratio` is the ratio of the
    means. `margin` is in ROUGE-1 F1. `seconds_ratio` is of the seconds of a document, and so of its cost at any price per hour.
    `length_ratio` is of the summaries' characters; None if the teacher's are all empty. Quality and faithfulness are None if
    fewer than 8 documents were scored in both.
    """

    teacher: str
    tokens_per_second_ratio: float
    low: float
    high: float
    weights_ratio: float
    peak_memory_ratio: float
    rouge1_ratio: float | None
    margin: float | None
    seconds_ratio: float
    length_ratio: float | None
    quality: QualityComparison | None
    faithfulness: FaithfulnessComparison | None

    @property
    def may_fail(self) -> tuple[MayFail, ...]:
        """The comparisons of the summaries that were made."""
        return tuple(each for each in (self.quality, self.faithfulness) if each is not None)

    def at_quality_level(self, level: float) -> TeacherChange:
        """The same comparison, whose tests of quality and faithfulness fail at this p-value."""
        return replace(self, quality=at_level(self.quality, level), faithfulness=at_level(self.faithfulness, level))

    def as_extra_info(self) -> TeacherChangeRecord:
        """The key `teacher_change` of the run file."""
        return {
            "teacher": self.teacher,
            "generated_tokens_per_second": {"ratio": self.tokens_per_second_ratio, "low": self.low, "high": self.high},
            "weights_ratio": self.weights_ratio,
            "peak_memory_ratio": self.peak_memory_ratio,
            "rouge1_ratio": self.rouge1_ratio,
            "margin": self.margin,
            "seconds_ratio": self.seconds_ratio,
            "length_ratio": self.length_ratio,
            "quality_change": None if self.quality is None else self.quality.as_extra_info(),
            "faithfulness_change": None if self.faithfulness is None else self.faithfulness.as_extra_info(),
        }


def beside_teacher(entry: Entry, teacher: str, entries: Iterable[Entry], margin_share: float) -> TeacherChange | None:
    """Compare the student's entry with the teacher's of the same kind and loader; None if the session has none.

    Speed is compared without noise between runs, because one process measured both. The margin is a share of the teacher's
    mean ROUGE-1 over the documents in common.
    """
    before = next((each for each in entries if _is_counterpart(each, entry, teacher)), None)
    if before is None:
        return None
    common = [each for each in entry.timings if each in before.timings]
    if len(common) < 2:
        return None
    change = paired_change(
        [entry.timings[each] for each in common], [before.timings[each] for each in common], WITHIN_ONE_PROCESS
    )
    interval = change.interval()
    now, there = ([each.texts[name].rouge1 for name in common if name in each.texts] for each in (entry, before))
    mean = fmean(there) if there else 0.0
    return TeacherChange(
        teacher=before.experiment,
        tokens_per_second_ratio=change.ratio,
        low=interval.low,
        high=interval.high,
        weights_ratio=_bytes(entry, "weights_bytes") / _bytes(before, "weights_bytes"),
        peak_memory_ratio=_bytes(entry, "peak_memory_bytes") / _bytes(before, "peak_memory_bytes"),
        rouge1_ratio=fmean(now) / mean if now and mean else None,
        margin=margin_share * mean if mean else None,
        seconds_ratio=_seconds(entry, common) / _seconds(before, common),
        length_ratio=_length_ratio(entry, before),
        quality=compare_quality(entry, before, before.experiment, margin_share * mean) if mean else None,
        faithfulness=compare_faithfulness(entry, before, before.experiment),
    )


def _seconds(entry: Entry, rounds: Iterable[str]) -> float:
    return math.fsum(entry.timings[each].seconds for each in rounds)


def _length_ratio(entry: Entry, before: Entry) -> float | None:
    """The characters of all summaries of the documents in common ÷ those of the teacher; None if these are none."""
    here, there = _characters(entry), _characters(before)
    common = here.keys() & there.keys()
    total = sum(there[each] for each in common)
    return sum(here[each] for each in common) / total if total else None


def _characters(entry: Entry) -> dict[str, int]:
    """Of each document's summary; empty for a run that does not state them."""
    info = entry.extra_info
    return dict(zip(info["document_ids"], info.get("summary_characters", ()), strict=False))


def _bytes(entry: Entry, key: Literal["weights_bytes", "peak_memory_bytes"]) -> int:
    """The size, which is known: students and teachers are loaded in this process."""
    found = entry.extra_info[key]
    if found is None:
        raise RuntimeError(f"{entry.name} has no {key}")
    return found


def _is_counterpart(candidate: Entry, entry: Entry, teacher: str) -> bool:
    here, there = entry.extra_info, candidate.extra_info
    return (
        candidate.kind.name == entry.kind.name and there["model"] == teacher and _conditions(here) == _conditions(there)
    )


def _conditions(info: ExtraInfo) -> tuple[str, int, int, int, str | None]:
    """What a student and its teacher must have in common, apart from the kind."""
    strategy = info["workload_settings"].get("long_documents")
    return info["loader"], info["batch_size"], info["max_new_tokens"], info["max_prompt_tokens"], strategy
