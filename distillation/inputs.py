"""What each step depends on, and where it leaves its output."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distillation.card import TRAINING_SETTINGS
from distillation.context import Context
from distillation.steps import fingerprint
from distillation.summaries import read_rows, summary_inputs
from distillation.synthetic_documents import synthetic_inputs, with_synthetic
from distillation.training_documents import TrainingDocuments
from summarybench.engines.weights import folder_digest
from summarybench.session.students import PROVENANCE_FILE, Student, read_students


@dataclass(frozen=True)
class StepInputs:
    """The inputs of the steps, as plain JSON types, and their output paths.

    The texts are kept beside the student's folder, in folders named by a fingerprint of their inputs, so that other
    students use them too.
    """

    context: Context

    @cached_property
    def synthetic(self) -> dict[str, Any]:
        context = self.context
        inputs = synthetic_inputs(context.drawn, context.settings, context.teacher.facts(), context.teacher.chat)
        return {**inputs, "teacher_batch": context.teacher_batch}

    @cached_property
    def synthetic_path(self) -> Path:
        folder = f".teacher-documents-{fingerprint(self.synthetic)}"
        return self.context.settings.out.parent / folder / "invented.parquet"

    @cached_property
    def documents(self) -> TrainingDocuments:
        """All documents: the drawn ones and the synthetic ones, which must exist by now."""
        if not self.context.settings.invented_documents:
            return self.context.drawn
        return with_synthetic(self.context.drawn, read_rows(self.synthetic_path))

    @cached_property
    def summaries(self) -> dict[str, Any]:
        context = self.context
        inputs = summary_inputs(self.documents, context.settings, context.teacher.facts(), context.teacher.chat)
        writer = {"writer": self._starting_digest} if context.settings.own_summaries else {}
        return {**inputs, "teacher_batch": context.teacher_batch, **writer}

    @cached_property
    def summaries_path(self) -> Path:
        writer = "student" if self.context.settings.own_summaries else "teacher"
        folder = f".{writer}-summaries-{fingerprint(self.summaries)}"
        return self.context.settings.out.parent / folder / "summaries.parquet"

    @cached_property
    def student(self) -> dict[str, Any]:
        settings = self.context.settings
        return {
            "teacher": self.context.teacher.facts(),
            "layers": settings.layers,
            "student_from": self._starting_digest,
            "name": settings.name,
            **({"chosen_by": fingerprint(self.summaries)} if settings.choose_layers else {}),
        }

    @cached_property
    def training(self) -> dict[str, Any]:
        values = {key: getattr(self.context.settings, key) for key in (*TRAINING_SETTINGS, "steps")}
        return {"summaries": fingerprint(self.summaries), "student": self.student, **values}

    @cached_property
    def earlier(self) -> Student | None:
        """The --student-from model, if it was distilled too."""
        given = self.context.settings.student_from
        if given is None or not (given / PROVENANCE_FILE).is_file():
            return None
        (found,) = read_students([given]).values()
        return found

    @cached_property
    def _starting_digest(self) -> str | None:
        given = self.context.settings.student_from
        return None if given is None else folder_digest(given)
