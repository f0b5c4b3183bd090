"""The result of comparing an experiment with its baseline, and the failure that it leads to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from summarybench.analysis.attribution import Attribution
from summarybench.analysis.faithfulness_change import FaithfulnessComparison
from summarybench.analysis.quality_change import QUALITY_LEVEL, MayFail, QualityComparison, at_level
from summarybench.analysis.quantities import Quantity
from summarybench.analysis.teacher_change import TeacherChange
from summarybench.core.outcomes import DeviceInvalidError, MachineSlowerError, RegressionError, Verdict
from summarybench.runs.baselines import StoredRun
from summarybench.runs.comparison_records import AnchorRecord, ChangeRecord, Decision, JudgementRecord
from summarybench.stats.changes import Change
from summarybench.stats.intervals import ALARM_CONFIDENCE

FALSE_ALARM_LEVEL = 1 - ALARM_CONFIDENCE
"""The probability of a false alarm in one comparison; with Holm's correction, in a whole confirmed session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict on one quantity. `detail` is one line with the figures and what to do next.

    `is_held` marks a slowdown that may be chance, considering all comparisons of the session: it does not fail.
    `length_effect` is the factor by which outputs of other lengths than the baseline's change the measured speed; the ratio is
    without it. It is None where lengths are equal.
    """

    quantity: Quantity
    verdict: Verdict
    detail: str
    change: Change
    attribution: Attribution | None = None
    is_held: bool = False
    length_effect: float | None = None

    @property
    def fails(self) -> bool:
        return self.verdict is Verdict.REGRESSED and not self.is_held

    @property
    def is_of_machine(self) -> bool:
        return self.attribution is not None and self.attribution.cause.is_machine

    def as_extra_info(self) -> JudgementRecord:
        """The keys `first_token_change` and `decode_change` of the run file."""
        return {
            "verdict": self.verdict.value,
            "verdict_detail": self.detail,
            "attribution": None if self.attribution is None else self.attribution.as_extra_info(),
            **self.change_record(),
        }

    def change_record(self) -> ChangeRecord:
        """The key `change` of the run file."""
        record = _change_record(self.change)
        if self.length_effect is not None:
            record["length_effect"] = self.length_effect
        return record

    def __str__(self) -> str:
        attribution = f"; {self.attribution}" if self.attribution else ""
        return f"{self.quantity} {self.detail}{attribution}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorComparison:
    """The judgement on the speed against the anchor, which is never replaced, and the comparison of quality with it."""

    stored: StoredRun
    judgement: Judgement
    quality: QualityComparison | None = None
    faithfulness: FaithfulnessComparison | None = None

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict

    @property
    def change(self) -> Change:
        return self.judgement.change

    def as_extra_info(self) -> AnchorRecord:
        """The key `anchor` of the run file."""
        attribution = self.judgement.attribution
        return {
            "quality_change": self.quality.as_extra_info() if self.quality else None,
            "faithfulness_change": self.faithfulness.as_extra_info() if self.faithfulness else None,
            "file": self.stored.path.name,
            "commit": self.stored.commit,
            "verdict": self.verdict.value,
            "attribution": None if attribution is None else attribution.as_extra_info(),
            **_change_record(self.change),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of comparing an experiment with its baseline. `detail` is one line with the figures and what to do next.

    `baseline_runs` are the stored runs that were pooled, newest first, and `baseline` is the newest. `speed` is the judgement
    on generated tokens per second; without one there was nothing to compare, or a count was compared, as the detail says.
    `others` are the judgements on the first token and on decoding, where the kind has them. `teacher` compares a student with its
    teacher. `quality_level` is the p-value at which one test of quality fails before all comparisons of the session are known.
    """

    verdict: Verdict
    detail: str
    baseline_runs: tuple[StoredRun, ...] = ()
    speed: Judgement | None = None
    others: tuple[Judgement, ...] = ()
    anchor: AnchorComparison | None = None
    quality: QualityComparison | None = None
    faithfulness: FaithfulnessComparison | None = None
    teacher: TeacherChange | None = None
    quality_level: float = QUALITY_LEVEL
    is_required: bool = False
    environment_differences: tuple[str, ...] = field(default=())

    @property
    def baseline(self) -> StoredRun | None:
        return self.baseline_runs[0] if self.baseline_runs else None

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        return (() if self.speed is None else (self.speed,)) + self.others

    @property
    def change(self) -> Change | None:
        """The change of generated tokens per second."""
        return None if self.speed is None else self.speed.change

    @property
    def attribution(self) -> Attribution | None:
        """What the change of generated tokens per second is attributed to."""
        return None if self.speed is None else self.speed.attribution

    @property
    def failing(self) -> tuple[Judgement, ...]:
        """The judgements that fail the test. The one against the anchor decides where the others hold.

        A slow decline that the baselines followed fails in this way.
        """
        found = tuple(each for each in self.judgements if each.fails)
        if found or self.anchor is None or not self.anchor.judgement.fails:
            return found
        return (self.anchor.judgement,)

    @property
    def fails(self) -> bool:
        is_count = self.speed is None
        return bool(self.failing) or (is_count and self.verdict is Verdict.REGRESSED)

    @property
    def qualities(self) -> tuple[QualityComparison, ...]:
        """The comparisons of quality that may fail: with the baseline, and with the anchor."""
        found = (self.quality, self.anchor.quality if self.anchor else None)
        return tuple(each for each in found if each is not None)

    @property
    def faithfulness_changes(self) -> tuple[FaithfulnessComparison, ...]:
        """The comparisons of faithfulness, likewise."""
        found = (self.faithfulness, self.anchor.faithfulness if self.anchor else None)
        return tuple(each for each in found if each is not None)

    @property
    def beside_teacher(self) -> tuple[MayFail, ...]:
        """The comparisons of a student's summaries with its teacher's; none for other models."""
        return self.teacher.may_fail if self.teacher else ()

    def at_quality_level(self, level: float) -> Comparison:
        """The same comparison, whose tests of quality and faithfulness fail at this p-value."""
        anchor = self.anchor and replace(
            self.anchor,
            quality=at_level(self.anchor.quality, level),
            faithfulness=at_level(self.anchor.faithfulness, level),
        )
        return replace(
            self,
            quality=at_level(self.quality, level),
            faithfulness=at_level(self.faithfulness, level),
            teacher=self.teacher and self.teacher.at_quality_level(level),
            anchor=anchor,
            quality_level=level,
        )

    @property
    def is_of_machine(self) -> bool:
        """Whether each slowdown that fails is attributed to the machine."""
        return bool(self.failing) and all(each.is_of_machine for each in self.failing)

    def as_extra_info(self) -> Decision:
        """The keys of the run file that record the decision."""
        stored = self.baseline
        others = {each.quantity: each.as_extra_info() for each in self.others}
        return {
            "verdict": self.verdict.value,
            "verdict_detail": self.detail,
            "baseline": None
            if stored is None
            else {
                "file": stored.path.name,
                "run": stored.label,
                "commit": stored.commit,
                "runs": [each.path.name for each in self.baseline_runs],
            },
            "change": None if self.speed is None else self.speed.change_record(),
            "first_token_change": others.get(Quantity.FIRST_TOKEN),
            "decode_change": others.get(Quantity.DECODE),
            "attribution": None if self.attribution is None else self.attribution.as_extra_info(),
            "anchor": None if self.anchor is None else self.anchor.as_extra_info(),
            "environment_differences": list(self.environment_differences),
            "quality_change": self.quality.as_extra_info() if self.quality else None,
            "faithfulness_change": self.faithfulness.as_extra_info() if self.faithfulness else None,
        }


def _change_record(change: Change) -> ChangeRecord:
    interval = change.interval()
    record: ChangeRecord = {
        "ratio": change.ratio,
        "low": interval.low,
        "high": interval.high,
        "confidence": interval.confidence,
        "p_value": change.p_value,
        "documents": change.documents,
        "baseline_runs": change.baseline_runs,
        "passes": change.runs_now,
        "noise": [
            {
                "between": term.level.value,
                "variance": term.variance,
                "degrees_of_freedom": term.degrees_of_freedom,
                "is_measured": term.is_measured,
            }
            for term in change.noise
        ],
    }
    if change.pass_ratios:
        record["pass_ratios"] = list(change.pass_ratios)
    return record


def assert_not_regressed(comparison: Comparison) -> None:
    """Fail a slowdown that is not attributed to the machine.

    Raises RegressionError for such a slowdown, and if a required baseline is missing or has another workload. Raises
    DeviceInvalidError if the device was throttled or shared.
    """
    if comparison.verdict is Verdict.INVALID:
        raise DeviceInvalidError(comparison.detail)
    if comparison.fails and not comparison.is_of_machine:
        raise RegressionError(_regressed(comparison))
    if comparison.is_required and comparison.verdict in (Verdict.NO_BASELINE, Verdict.INCOMPARABLE):
        raise RegressionError(f"{comparison.verdict} (--require-baseline): {comparison.detail}")


def assert_machine_not_slower(comparison: Comparison) -> None:
    """Fail a slowdown that is attributed to the machine. Call it last, because any other failure outranks it.

    Raises MachineSlowerError.
    """
    if comparison.fails and comparison.is_of_machine:
        raise MachineSlowerError(_regressed(comparison))


def _regressed(comparison: Comparison) -> str:
    what = "; ".join(map(str, comparison.failing)) or comparison.detail
    return f"{Verdict.REGRESSED}: {what}"
