"""Sessions in which teachers verify the drafts of their students."""

from __future__ import annotations

import pytest

from summarybench.documents.sources import embedded_documents
from summarybench.session.students import text_digest
from tests.distillation.test_distillation import student_folder
from tests.measure.test_prompt_lookup import FAKE_DECODING_WITH_DRAFTS

FAKE_DRAFTS = (
    FAKE_DECODING_WITH_DRAFTS
    + """
    from summarybench.core.outcomes import UnavailableError
    from summarybench.kinds import student_draft

    class FakeDrafts(FakeDecodingWithDrafts):
        counts_of_a_summary = LookupCounts(first_tokens=1, steps=8, drafted=16)

        def __init__(self, teacher, student, draft_tokens):
            if student.experiment.model == "strange":
                raise UnavailableError("strange cannot draft")
            assert (teacher.experiment.model, draft_tokens) == ("smollm2-135m-instruct", 2)
            super().__init__(teacher)

    def with_settings(experiment, teacher, student, sequence_tokens):
        both = teacher.as_experiment(experiment, teacher.memory_for(sequence_tokens, 1))
        both.settings = {**teacher.settings, "draft_model": student.experiment.name}
        return both

    student_draft.StudentDrafts = FakeDrafts
    student_draft.beside_student = with_settings
"""
)
DRAFT = ("-m", "draft", "-k", "default", "--documents", "8", "--max-new-tokens", "20")
TEACHER = "smollm2-135m-instruct"


def drafts(project, tmp_path, *names, **provenance):
    """A session of a teacher that verifies the drafts of students with these names."""
    project.use(FAKE_DRAFTS)
    folders = [student_folder(tmp_path / name, **provenance) for name in names]
    return project.bench(*DRAFT, *(word for folder in folders for word in ("--student", str(folder))))


def test_session_shows_drafts_beside_plain_decoding(project, tmp_path):
    session = drafts(project, tmp_path, "small")
    assert session.exit_code == 0, session.output
    ((name, info),) = session.by_experiment.items()
    assert (name, info["model"], info["loader"]) == (f"{TEACHER}-default-draft-small", TEACHER, "default-draft")
    facts = info["lookup"]
    assert (facts["tokens_per_step"], facts["accepted_share"]) == (19 / 8, 11 / 16)
    assert facts["agreement"]["equal_summaries"] == 8
    assert info["decode_tokens_per_second"] == pytest.approx(19 / 0.05)
    assert info["workload_settings"]["loader_settings"]["draft_model"] == "small-default-draft"
    table = session.output.partition("\nDrafts of a student\n")[2].partition("\n\n")[0]
    assert "2.38" in table


def test_each_student_of_a_teacher_has_an_experiment_of_its_own(project, tmp_path):
    session = drafts(project, tmp_path, "small", "smaller")
    assert session.outcomes == {f"{TEACHER}-default-draft-{name}": "passed" for name in ("small", "smaller")}
    workloads = {info["workload"] for info in session.by_experiment.values()}
    assert len(workloads) == 2


def test_session_fails_where_drafts_change_the_words(project, tmp_path):
    project.use(FAKE_DRAFTS.replace("WORD = lambda word: word", "WORD = lambda word: word - 1"))
    session = project.bench(*DRAFT, "--student", str(student_folder(tmp_path / "small")))
    assert session.exit_code == 1
    assert session.outcomes == {f"{TEACHER}-default-draft-small": "failed"}
    assert "8 summaries of 8 differ from those of plain decoding by more than ties" in session.output
    assert "Traceback" not in session.output


def test_student_with_other_tokens_is_unavailable_and_the_others_are_measured(project, tmp_path):
    session = drafts(project, tmp_path, "strange", "small")
    assert session.outcomes == {
        f"{TEACHER}-default-draft-strange": "unavailable",
        f"{TEACHER}-default-draft-small": "passed",
    }
    assert "strange cannot draft" in session.output
    assert "Traceback" not in session.output


def test_documents_that_the_student_was_trained_on_are_refused(project, tmp_path, one_error_line):
    articles = embedded_documents().sample(8, 0)
    session = drafts(project, tmp_path, "small", trained_on=[text_digest(articles[0].text)])
    assert "was trained on 1 of these 8 documents" in one_error_line(session)
    assert session.exit_code == 4


def test_without_a_student_the_session_says_what_is_missing(project):
    project.use(FAKE_DRAFTS)
    session = project.bench(*DRAFT)
    assert session.exit_code == 12, session.output
    assert session.outcomes[f"{TEACHER}-default-draft"] == "skipped"
    assert set(session.outcomes.values()) == {"skipped"}
    assert (
        "there is no student to draft tokens; add --student FOLDER, with a student made by make distill"
        in session.output
    )


def test_drafts_are_measured_only_when_named(project, tmp_path):
    project.use(FAKE_DRAFTS)
    session = project.bench("-m", "student", "-k", "draft", "--student", str(student_folder(tmp_path / "small")))
    assert "nothing is selected" in session.output
