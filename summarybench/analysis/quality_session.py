"""Which losses of quality fail, considering all quality comparisons of a session (Holm's correction).

A comparison makes up to three tests: ROUGE-1, empty summaries, repeating summaries. While a session runs, the other p-values
are unknown, so that a test fails at once only at Bonferroni's level. When all are in, Holm's correction decides. What
Bonferroni rejects, Holm rejects too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from summarybench.analysis.quality_change import MINIMUM_MORE_DOCUMENTS, QUALITY_LEVEL
from summarybench.core.numbers import counted
from summarybench.core.outcomes import QualityVerdict
from summarybench.runs.comparison_records import McNemarRecord, QualityChangeRecord
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.schema import Benchmark
from summarybench.stats.decision import holm

TESTS = 3
"""Tests of one comparison: ROUGE-1, empty summaries, repeating summaries."""


def level_of_one_test(experiments: int, *, has_anchor: bool) -> float:
    """Bonferroni's level of each test in a session of this many experiments.

    Each is compared with its baseline, with its anchor if there is one, and with a student's teacher or a compiled loader's
    eager twin.
    """
    comparisons = 3 if has_anchor else 2
    return QUALITY_LEVEL / (TESTS * comparisons * max(experiments, 1))


def failing_losses(benchmarks: Sequence[Benchmark]) -> dict[str, str]:
    """The losses of quality that Holm's correction confirms, by nodeid, in words."""
    tests = [
        (each["fullname"], words, p_value)
        for each in benchmarks
        for change in _judged_changes(each["extra_info"])
        for words, p_value in p_values_of(change)
    ]
    decisions = holm([p_value for _, _, p_value in tests], QUALITY_LEVEL)
    found: dict[str, list[str]] = {}
    for (nodeid, words, _), is_rejected in zip(tests, decisions, strict=True):
        if is_rejected:
            found.setdefault(nodeid, []).append(words)
    how = f"confirmed once all quality comparisons of the session were in (Holm, {counted(tests, 'test')})"
    return {nodeid: f"{'; '.join(words)}: {how}" for nodeid, words in found.items()}


def quality_changes_of(extra_info: ExtraInfo) -> list[QualityChangeRecord]:
    """The comparisons of an experiment's quality with stored runs: with the baseline, and with the anchor."""
    anchor = extra_info["anchor"]
    found = (extra_info["quality_change"], anchor.get("quality_change") if anchor else None)
    return [each for each in found if each is not None]


def _judged_changes(extra_info: ExtraInfo) -> list[QualityChangeRecord]:
    """All comparisons of an experiment's quality that may fail: also with a teacher, and with an eager twin."""
    teacher, fidelity = extra_info.get("teacher_change"), extra_info.get("fidelity")
    within = (teacher and teacher["quality_change"], fidelity and fidelity["quality_change"])
    return [*quality_changes_of(extra_info), *(each for each in within if each is not None)]


def p_values_of(change: QualityChangeRecord) -> Iterator[tuple[str, float]]:
    """What each test of a comparison would report, and its p-value; 1 for a loss that is too small to fail.

    Tests that cannot fail whatever the truth are left out, as they cannot be false alarms either: ROUGE-1 where no summary
    has changed, and McNemar's test where so few documents have changed that its smallest p-value is above the level.
    """
    if change["changed_summaries"] or change["mean"]:
        is_inferior = change["verdict"] == QualityVerdict.INFERIOR
        yield (
            f"quality {QualityVerdict.INFERIOR} to {change['baseline']}",
            change.get("p_value", 1.0) if is_inferior else 1.0,
        )
    for kind, test in (change["mcnemar"] or {}).items():
        if 0.5 ** (test["more"] + test["fewer"]) <= QUALITY_LEVEL:
            yield f"more {kind} outputs than {change['baseline']}", _p_value_of(test)


def _p_value_of(test: McNemarRecord) -> float:
    return test["p_value"] if test["more"] - test["fewer"] >= MINIMUM_MORE_DOCUMENTS else 1.0
