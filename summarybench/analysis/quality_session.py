"""Which losses of quality fail, considering all quality comparisons of a session (Holm's correction).

A comparison makes up to six tests: ROUGE-1, empty summaries, repeating summaries, and new numbers, dates and names. While a
session runs, the other p-values are unknown, so that a test fails at once only at Bonferroni's level. When all are in, Holm's
correction decides. What Bonferroni rejects, Holm rejects too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from summarybench.analysis.faithfulness_change import p_values_of_faithfulness
from summarybench.analysis.quality_change import MINIMUM_MORE_DOCUMENTS, QUALITY_LEVEL
from summarybench.core.numbers import counted
from summarybench.core.outcomes import QualityVerdict
from summarybench.runs.comparison_records import FaithfulnessChangeRecord, McNemarRecord, QualityChangeRecord
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.schema import Benchmark
from summarybench.stats.decision import holm

TESTS = 6
"""Tests of one comparison: ROUGE-1, empty and repeating summaries, and summaries with new numbers, dates and names."""


def level_of_one_test(experiments: int, *, has_anchor: bool) -> float:
    """Bonferroni's level of each test in a session of this many experiments.

    Each is compared with its baseline, with its anchor if there is one, and with a student's teacher or a compiled loader's
    eager counterpart.
    """
    comparisons = 3 if has_anchor else 2
    return QUALITY_LEVEL / (TESTS * comparisons * max(experiments, 1))


def failing_losses(benchmarks: Sequence[Benchmark]) -> dict[str, str]:
    """The losses of quality that Holm's correction confirms, by nodeid, in words."""
    losses = confirmed_losses([each["extra_info"] for each in benchmarks])
    return {
        each["fullname"]: words for each, found in zip(benchmarks, losses, strict=True) if (words := in_words(found))
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedLosses:
    """The losses of one experiment that Holm's correction over `tests` tests of the session confirms, in words."""

    losses: tuple[str, ...] = ()
    tests: int = 0

    def has(self, change: QualityChangeRecord) -> bool:
        """Whether the loss of ROUGE-1 against this other run or loader is confirmed."""
        return _inferior_to(change) in self.losses

    def of_faithfulness(self, change: FaithfulnessChangeRecord) -> int:
        """How many losses of faithfulness against this other run are confirmed."""
        return sum(words in self.losses for words, _ in p_values_of_faithfulness(change))


def in_words(found: ConfirmedLosses) -> str:
    """What the test of the experiment fails with; empty without a confirmed loss."""
    if not found.losses:
        return ""
    how = f"confirmed once all quality comparisons of the session were in (Holm, {counted(found.tests, 'test')})"
    return f"{'; '.join(found.losses)}: {how}"


def confirmed_losses(experiments: Sequence[ExtraInfo]) -> list[ConfirmedLosses]:
    """The confirmed losses of each experiment of a session."""
    tests = [(number, words, p_value) for number, info in enumerate(experiments) for words, p_value in _tests_of(info)]
    decisions = holm([p_value for _, _, p_value in tests], QUALITY_LEVEL)
    found: list[list[str]] = [[] for _ in experiments]
    for (number, words, _), is_rejected in zip(tests, decisions, strict=True):
        if is_rejected:
            found[number].append(words)
    return [ConfirmedLosses(losses=tuple(each), tests=len(tests)) for each in found]


def quality_changes_of(extra_info: ExtraInfo) -> list[QualityChangeRecord]:
    """The comparisons of an experiment's quality with stored runs: with the baseline, and with the anchor."""
    anchor = extra_info["anchor"]
    found = (extra_info["quality_change"], anchor.get("quality_change") if anchor else None)
    return [each for each in found if each is not None]


def faithfulness_changes_of(extra_info: ExtraInfo) -> list[FaithfulnessChangeRecord]:
    """The comparisons of an experiment's faithfulness with stored runs: with the baseline, and with the anchor."""
    anchor = extra_info["anchor"]
    found = (extra_info["faithfulness_change"], anchor.get("faithfulness_change") if anchor else None)
    return [each for each in found if each is not None]


def _tests_of(extra_info: ExtraInfo) -> Iterator[tuple[str, float]]:
    for quality in judged_quality_changes(extra_info):
        yield from p_values_of(quality)
    for faithfulness in judged_faithfulness_changes(extra_info):
        yield from p_values_of_faithfulness(faithfulness)


def judged_quality_changes(extra_info: ExtraInfo) -> list[QualityChangeRecord]:
    """All comparisons of an experiment's quality that may fail: also with a teacher, and with an eager counterpart.

    What a format loses against float32 is reported, and fails nothing.
    """
    teacher, fidelity = extra_info.get("teacher_change"), extra_info.get("fidelity")
    if fidelity and fidelity["eager_loader"] == fidelity["reference_loader"]:
        fidelity = None
    within = (teacher and teacher["quality_change"], fidelity and fidelity["quality_change"])
    return [*quality_changes_of(extra_info), *(each for each in within if each is not None)]


def judged_faithfulness_changes(extra_info: ExtraInfo) -> list[FaithfulnessChangeRecord]:
    """All comparisons of an experiment's faithfulness that may fail: also with a teacher."""
    teacher = extra_info.get("teacher_change")
    found = teacher.get("faithfulness_change") if teacher else None
    return [*faithfulness_changes_of(extra_info), *([found] if found else [])]


def p_values_of(change: QualityChangeRecord) -> Iterator[tuple[str, float]]:
    """What each test of a comparison would report, and its p-value; 1 for a loss that is too small to fail.

    Tests that cannot fail whatever the truth are left out, as they cannot be false alarms either: ROUGE-1 where no summary
    has changed, and McNemar's test where so few documents have changed that its smallest p-value is above the level.
    """
    if change["changed_summaries"] or change["mean"]:
        is_inferior = change["verdict"] == QualityVerdict.INFERIOR
        yield _inferior_to(change), change.get("p_value", 1.0) if is_inferior else 1.0
    for kind, test in (change["mcnemar"] or {}).items():
        if 0.5 ** (test["more"] + test["fewer"]) <= QUALITY_LEVEL:
            yield f"more {kind} outputs than {change['baseline']}", _p_value_of(test)


def _inferior_to(change: QualityChangeRecord) -> str:
    return f"quality {QualityVerdict.INFERIOR} to {change['baseline']}"


def _p_value_of(test: McNemarRecord) -> float:
    return test["p_value"] if test["more"] - test["fewer"] >= MINIMUM_MORE_DOCUMENTS else 1.0
