"""A student's experiment beside its teacher's, of one session."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from summarybench.analysis.quality_change import QualityComparison, compare_quality
from summarybench.runs.run_file import Entry
from summarybench.stats.changes import paired_change
from summarybench.stats.spread import WITHIN_ONE_PROCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherChange:
    """A student's experiment beside its teacher's of the same loader and session; ratios are student ÷ teacher.

    `low` and `high` bound the ratio of generated tokens per second (95%, over documents); `rouge1_ratio` is of the
    means. `margin` is in ROUGE-1 F1. Quality is None where fewer than 8 documents were scored in both.
    """

    teacher: str
    tokens_per_second_ratio: float
    low: float
    high: float
    weights_ratio: float
    peak_memory_ratio: float
    rouge1_ratio: float | None
    margin: float | None
    quality: QualityComparison | None

    def as_extra_info(self) -> dict[str, Any]:
        """The key `teacher_change` of the run file."""
        return {
            "teacher": self.teacher,
            "generated_tokens_per_second": {"ratio": self.tokens_per_second_ratio, "low": self.low, "high": self.high},
            "weights_ratio": self.weights_ratio,
            "peak_memory_ratio": self.peak_memory_ratio,
            "rouge1_ratio": self.rouge1_ratio,
            "margin": self.margin,
            "quality_change": None if self.quality is None else self.quality.as_extra_info(),
        }


def beside_teacher(entry: Entry, teacher: str, entries: Iterable[Entry], margin_share: float) -> TeacherChange | None:
    """The student's entry beside the teacher's of the same test and loader; None where the session has none of it.

    Speed is compared without a spread between runs: both were measured in one process. The margin is a share of the
    teacher's mean ROUGE-1 over the documents in common.
    """
    before = next((each for each in entries if _is_twin(each, entry, teacher)), None)
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
        weights_ratio=_ratio(entry, before, "weights_bytes"),
        peak_memory_ratio=_ratio(entry, before, "peak_memory_bytes"),
        rouge1_ratio=fmean(now) / mean if now and mean else None,
        margin=margin_share * mean if mean else None,
        quality=compare_quality(entry, before, before.experiment, margin_share * mean) if mean else None,
    )


def _is_twin(candidate: Entry, entry: Entry, teacher: str) -> bool:
    here, there = entry.extra_info, candidate.extra_info
    alike = ("loader", "batch_size", "max_new_tokens", "max_prompt_tokens")
    return candidate.test == entry.test and there["model"] == teacher and all(here[key] == there[key] for key in alike)


def _ratio(entry: Entry, before: Entry, key: str) -> float:
    return float(entry.extra_info[key] / before.extra_info[key])
