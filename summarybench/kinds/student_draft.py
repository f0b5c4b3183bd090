"""Teachers that decode with the drafts of their students, beside plain decoding with the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from summarybench.catalogue.models import LOADERS, MODELS, Experiment, student_draft_experiments
from summarybench.engines.loaded_model import LoadedModel
from summarybench.engines.student_drafts import StudentDrafts, beside_student
from summarybench.kinds.kind import Case, Kind, Marker, RunContext, cases_of
from summarybench.kinds.prompt_lookup import FIGURES, beside_plain, summarized_plainly
from summarybench.kinds.toolbox import Measurement, Toolbox
from summarybench.runs.kind_facts import KindFacts


class StudentDraftKind(Kind):
    """One document is one timed round. Plain decoding summarizes the same documents first, outside the rounds."""

    facts = KindFacts(name="student_draft", title="drafts of a student", place=0, figures=FIGURES)
    marker = Marker(
        name="draft",
        description="teachers that verify the drafts of their students (--student), beside plain decoding; runs when -m names it",
    )
    is_planned = True

    def cases(self) -> Sequence[Case]:
        """Each student's teacher with each loader. All students of a teacher share one load.

        Without students: all models that could be teachers, so that `skip_reason` is shown for them.
        """
        students = _students_by_teacher()
        if not students:
            return cases_of(student_draft_experiments())
        return [
            Case(loaded=each, measured=replace(each, suffix=f"-{student}", draft_model=student))
            for each in student_draft_experiments()
            for student in students.get(each.model, ())
        ]

    def skip_reason(self, context: RunContext) -> str:
        if context.synthetic_weights:
            return "with random weights the teacher would accept no draft; leave out --weights synthetic"
        if not _students_by_teacher():
            return "there is no student to draft tokens; add --student FOLDER, with a student made by make distill"
        return ""

    def measure(self, toolbox: Toolbox) -> Measurement:
        """The finding is a `Lookup`.

        The student is loaded beside its teacher after plain decoding. Raises as `Kind.measure`, and UnavailableError where
        the two have different tokens.
        """
        teacher = toolbox.loaded_model()
        sample = toolbox.sample_for(teacher)
        plain = summarized_plainly(toolbox, teacher, sample)

        def measured_with(student: LoadedModel) -> Measurement:
            engine = StudentDrafts(teacher, student, LOADERS[toolbox.experiment.loader].draft_tokens)
            both = beside_student(toolbox.experiment, teacher, student, sample.longest_sequence)
            measured = toolbox.measure(both, sample, model=engine)
            found = beside_plain(toolbox, teacher, sample, measured, engine, plain)
            replaced = found.replaced_figures(teacher, toolbox.copy_bandwidth, student)
            return toolbox.measurement(
                both, sample, measured, extra_info={**replaced, "lookup": found.as_extra_info()}, finding=found
            )

        return toolbox.lend(_drafting(toolbox.experiment), measured_with)


def _drafting(experiment: Experiment) -> Experiment:
    """The student that drafts in this experiment, to be loaded in the precision of its teacher."""
    return replace(experiment, model=experiment.draft_model, suffix="", draft_model="")


def _students_by_teacher() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, spec in MODELS.items():
        if spec.teacher:
            found.setdefault(spec.teacher, []).append(name)
    return found
