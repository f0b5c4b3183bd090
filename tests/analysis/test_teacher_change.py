"""A student beside its teacher: speed, seconds, length, quality and faithfulness of one session."""

from __future__ import annotations

import pytest

from summarybench.analysis.quality_change import assert_quality_held
from summarybench.analysis.teacher_change import beside_teacher
from summarybench.core.outcomes import QualityError
from summarybench.runs.run_file import entries_of
from tests.run_files import benchmark, faithfulness_of_documents, run_of

TEACHER = "llama2-7b-chat"
NONE_NEW = faithfulness_of_documents()
ALL_NEW = faithfulness_of_documents(novel_numbers=[1] * 8, numbers=[1] * 8)


def student_and_teacher(*, teacher_seconds=(2.0,) * 8, **info):
    teacher = benchmark(seconds=teacher_seconds, faithfulness=NONE_NEW)
    student = benchmark("mistral-7b-instruct-4-bit", seconds=(1.0,) * 8, faithfulness=ALL_NEW, **info)
    return entries_of(run_of(teacher, student))


def compared(**info):
    teacher, student = student_and_teacher(**info)
    return beside_teacher(student, TEACHER, [teacher, student], 0.1)


def test_seconds_and_length_are_ratios_of_sums():
    found = compared(
        teacher_seconds=(2.0,) * 7 + (6.0,), generated_tokens=[50] * 8, summary_characters=[100] * 4 + [500] * 4
    )
    assert found.seconds_ratio == pytest.approx(8 / 20)
    assert found.tokens_per_second_ratio == pytest.approx(400 / 8 / (800 / 20))
    assert found.length_ratio == pytest.approx(2400 / 3200)


def test_length_is_unknown_beside_empty_summaries():
    teacher, student = student_and_teacher()
    teacher.extra_info["summary_characters"] = [0] * 8
    assert beside_teacher(student, TEACHER, [teacher], 0.1).length_ratio is None


def test_faithfulness_is_compared_as_with_a_baseline_and_fails():
    found = compared()
    record = found.as_extra_info()["faithfulness_change"]
    assert (record["verdict"], record["baseline"]) == ("INFERIOR", f"{TEACHER}-4-bit")
    assert (record["counted"]["novel_numbers"]["more"], record["counted"]["novel_names"]["more"]) == (8, 0)
    with pytest.raises(QualityError, match=f"faithfulness INFERIOR to {TEACHER}-4-bit: summaries with new numbers"):
        assert_quality_held(*found.may_fail)
    assert_quality_held(*found.at_quality_level(0.001).may_fail)  # p is 1/256


def test_other_loader_is_no_teacher_to_compare_with():
    teacher, student = student_and_teacher()
    teacher.extra_info["loader"] = "8-bit"
    assert beside_teacher(student, TEACHER, [teacher], 0.1) is None
