"""Distilled models in a session, and their teachers beside them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from summarybench.catalogue.models import MODELS, Experiment, ModelSpec
from summarybench.core.outcomes import InputError, first_line
from summarybench.documents.document import Document
from summarybench.engines.weights import check_model_folder

PROVENANCE_FILE = "distillation.json"
SCHEMA = 1
HELD_OUT_FILE = "heldout.jsonl"
STUDENT_LOADERS = ("default", "8-bit", "4-bit")
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A model folder made by `python -m distillation`.

    `trained_on` has a digest of each document of its training.
    """

    name: str
    folder: Path
    spec: ModelSpec
    teacher: str
    provenance: Mapping[str, Any]
    trained_on: frozenset[str]

    def refuse_seen(self, documents: Iterable[Document]) -> None:
        """Refuse documents on which the student was trained.

        Its score would mean nothing. Raises InputError.
        """
        sample = list(documents)
        seen = sum(text_digest(document.text) in self.trained_on for document in sample)
        if seen:
            held_out = self.folder / HELD_OUT_FILE
            remedy = f"use --documents-file {held_out}" if held_out.is_file() else "use other documents"
            raise InputError(
                f"--student {self.folder}: was trained on {seen} of these {len(sample)} documents; {remedy}"
            )


def text_digest(text: str) -> str:
    """A document's name by its text, because one article may have several addresses."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_student_name(name: str, option: str) -> None:
    """Check that a folder's name can be a model's name.

    It becomes part of test ids and command lines. Raises InputError where it cannot.
    """
    if not NAME.fullmatch(name) or name in MODELS:
        rule = "letters, digits, '.', '_' and '-', and no other model's name"
        raise InputError(
            f"{option}: the folder's name becomes the student's name, and {name!r} cannot be one; use {rule}"
        )


def read_students(folders: Sequence[Path]) -> dict[str, Student]:
    """The students by name.

    Raises InputError for a folder without a student, and for two students of the same name.
    """
    found: dict[str, Student] = {}
    for folder in folders:
        student = _read_student(folder)
        if student.name in found:
            raise InputError(f"--student {folder}: {found[student.name].folder} holds a student of that name too")
        found[student.name] = student
    return found


def _read_student(folder: Path) -> Student:
    option = f"--student {folder}"
    path = folder / PROVENANCE_FILE
    try:
        provenance = json.loads(path.read_text(encoding="utf-8"))
        if provenance["schema"] != SCHEMA:
            raise InputError(f"{option}: is of schema {provenance['schema']}, and this version reads {SCHEMA}")
        name, teacher = str(provenance["name"]), str(provenance["teacher"]["name"])
        trained_on = frozenset(map(str, provenance["trained_on"]))
        architecture = str(provenance["architecture"])
    except OSError as error:
        raise InputError(
            f"{option}: is not a student ({PROVENANCE_FILE}: {error.strerror}); "
            "`python -m distillation` (make distill) makes one, and writes that file last"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{option}: {PROVENANCE_FILE} is damaged ({first_line(error)}); make the student again"
        ) from error
    check_student_name(name, option)
    if teacher not in MODELS:
        raise InputError(f"{option}: its teacher {teacher!r} is none of {', '.join(MODELS)}")
    spec = ModelSpec(
        name=name,
        repository=str(folder),
        revision="",
        marker="student",
        architecture=architecture,
        licence_url=MODELS[teacher].licence_url,
        teacher=teacher,
    )
    check_model_folder(spec, folder, option)
    return Student(
        name=name,
        folder=folder.absolute(),
        spec=spec,
        teacher=teacher,
        provenance={key: value for key, value in provenance.items() if key != "trained_on"},
        trained_on=trained_on,
    )


def with_students(experiments: Sequence[Experiment], students: Mapping[str, Student]) -> list[Experiment]:
    """The experiments, and for each student those that its teacher has.

    A teacher's experiments run unasked on every device on which they can run, so that its student is never alone.
    """
    teachers = {student.teacher for student in students.values()}
    known = [_beside(each) if _is_paired(each) and each.model in teachers else each for each in experiments]
    return known + [
        replace(each, model=student.name)
        for student in students.values()
        for each in known
        if each.is_beside_student and each.model == student.teacher
    ]


def _is_paired(experiment: Experiment) -> bool:
    return experiment.loader in STUDENT_LOADERS and experiment.batch_size == 1


def _beside(experiment: Experiment) -> Experiment:
    return replace(experiment, families=experiment.families | experiment.on_request, is_beside_student=True)
