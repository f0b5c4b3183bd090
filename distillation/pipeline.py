"""The steps of a distillation in order, from documents to a student's folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distillation.card import StudentRecord, write_card
from distillation.context import Context, say
from distillation.examples import training_and_validation
from distillation.inputs import StepInputs
from distillation.layers import CHOICE_TEXTS, choose_layers, evenly_spaced_layers, passes_to_choose
from distillation.loading import load_weights
from distillation.settings import DistillSettings
from distillation.steps import Steps, fingerprint
from distillation.student import save_student, untrained_student, weights_digest
from distillation.summaries import read_rows, summary_requests
from distillation.synthetic_documents import synthetic_document_requests
from distillation.text_step import TextStep
from distillation.training_documents import write_documents
from summarybench.core.invocation import this_invocation
from summarybench.core.numbers import decimal
from summarybench.runs.run_folder import shown
from summarybench.session.students import HELD_OUT_FILE

UNTRAINED: Mapping[str, Any] = {"steps": 0, "best_step": 0, "best_validation_loss": None, "examples": 0, "history": []}


@dataclass(frozen=True)
class Distillation:
    """One run of all steps.

    All processes write texts and train. The first process alone does the other steps.
    """

    context: Context

    def run(self) -> None:
        """Do the steps that are not done yet.

        Raises SuiteError, and KeyboardInterrupt after training was stopped with a checkpoint.
        """
        in_first = self.context.in_first
        in_first(lambda: Steps(self.out))
        if self.settings.invented_documents:
            self._write_synthetic_documents()
        self._write_summaries()
        in_first(self._make_untrained_student)
        self.context.in_all(self.steps, "training", self.inputs.training, self.out / "trained", self._train)
        in_first(self._finish)

    @property
    def settings(self) -> DistillSettings:
        return self.context.settings

    @property
    def out(self) -> Path:
        return self.context.settings.out

    @property
    def untrained_folder(self) -> Path:
        return self.out / "initial"

    @cached_property
    def inputs(self) -> StepInputs:
        return StepInputs(self.context)

    @cached_property
    def steps(self) -> Steps:
        return Steps(self.out)

    # Texts -------------------------------------------------------------------------------------------------------

    def _write_synthetic_documents(self) -> None:
        context, inputs = self.context, self.inputs
        context.in_first(lambda: Steps(inputs.synthetic_path.parent))
        step = TextStep(
            name="invented",
            title="synthetic documents written by the teacher",
            inputs=inputs.synthetic,
            output=inputs.synthetic_path,
            requests=lambda: synthetic_document_requests(context.drawn, self.settings, context.teacher.chat),
            load_writer=context.load_teacher,
        )
        step.run(context)

    def _write_summaries(self) -> None:
        context, inputs = self.context, self.inputs
        is_own = self.settings.own_summaries
        context.in_first(lambda: self._make_summaries_folder(inputs.summaries_path.parent))
        step = TextStep(
            name="summaries",
            title=f"texts written by the {'student' if is_own else 'teacher'}",
            inputs=inputs.summaries,
            output=inputs.summaries_path,
            requests=lambda: summary_requests(inputs.documents, self.settings, context.teacher.chat),
            load_writer=context.load_starting_model if is_own else context.load_teacher,
            keeps_repeating=self.settings.trains_on_repeating,
        )
        step.run(context)

    def _make_summaries_folder(self, folder: Path) -> None:
        Steps(folder)
        write_documents(folder / "training_documents.jsonl", self.inputs.documents.training)
        write_documents(folder / "validation_documents.jsonl", self.inputs.documents.validation)

    # The student -------------------------------------------------------------------------------------------------

    def _make_untrained_student(self) -> None:
        def make(folder: Path) -> Mapping[str, Any]:
            layers = self._kept_layers()
            model = untrained_student(self.context.teacher, layers, self.settings.student_from)
            self._save(model, folder, f"{self.settings.name}-initial", layers, UNTRAINED)
            return {"layers": list(layers)}

        self.steps.run("student", self.inputs.student, self.untrained_folder, make)

    def _kept_layers(self) -> tuple[int, ...]:
        """The teacher's layers that the student keeps.

        There are none if it starts from a model that was not distilled here.
        """
        keep, earlier = self.settings.layers, self.inputs.earlier
        if keep is None:
            return () if earlier is None else tuple(earlier.provenance["layers"])
        total = int(self.context.teacher.chat.config.num_hidden_layers)
        if not self.settings.choose_layers:
            return evenly_spaced_layers(total, keep)
        texts, _ = training_and_validation(read_rows(self.inputs.summaries_path), self.settings)
        passes = passes_to_choose(total, keep)
        say(f"choosing {keep} of {total} layers: {passes} passes over at most {CHOICE_TEXTS} texts")
        kept, nats = choose_layers(self.context.load_teacher(), texts, keep)
        listed = ", ".join(map(str, kept))
        say(f"keeping layers {listed}; untrained, they differ from the teacher by {decimal(nats, 2)} nats per token")
        return kept

    def _train(self, path: Path) -> Mapping[str, Any]:
        """Train, save the weights at `path`, and return facts about the training.

        The weights are saved completely or not at all.
        """
        model, facts = self._load_untrained(), dict(UNTRAINED)
        if self.settings.steps != 0:
            from distillation.callbacks import TrainingInterrupted
            from distillation.training import TrainingRun, train

            context = self.context
            run = TrainingRun(
                checkpoints=self.out / f"checkpoints-{fingerprint(self.inputs.training)}",
                rows=read_rows(self.inputs.summaries_path),
                settings=self.settings,
                device=context.device,
                dtype=context.dtype,
                load_student=self._load_untrained,
                teacher=context.load_teacher() if self.settings.needs_teacher else None,
                layers=self.steps.facts("student")["layers"],
                decode=context.decode,
                processes=context.state.num_processes,
                say=say,
            )
            try:
                model, facts = train(run)
            except TrainingInterrupted as interruption:
                raise KeyboardInterrupt(str(interruption)) from None
        if self.context.state.is_main_process:
            temporary = path.with_name(".trained")
            model.to("cpu").save_pretrained(temporary)
            temporary.rename(path)
        return facts

    def _load_untrained(self) -> Any:
        return load_weights(self.untrained_folder, "float32", "cpu")

    def _finish(self) -> None:
        """Save the student's own files, and delete the checkpoints."""
        out, held_out = self.out, self.inputs.documents.held_out
        layers = tuple(self.steps.facts("student")["layers"])
        model = load_weights(out / "trained", "float32", "cpu")
        self._save(model, out, self.settings.name, layers, self.steps.facts("training"))
        if held_out:
            write_documents(out / HELD_OUT_FILE, held_out)
        for folder in out.glob("checkpoints-*"):
            shutil.rmtree(folder)
        documents = ["--documents-file", shown(out / HELD_OUT_FILE)] if held_out else []
        arguments = ["benchmarks", "-m", "student", "--student", shown(out), *documents]
        say(f"student: {shown(out)}; measure it: {this_invocation().program('pytest', *arguments)}")

    def _save(self, model: Any, folder: Path, name: str, layers: tuple[int, ...], training: Mapping[str, Any]) -> None:
        """Save a student with its tokenizer, model card and provenance."""
        context, inputs = self.context, self.inputs
        chat = context.teacher.chat
        folder.mkdir(parents=True, exist_ok=True)
        digest = weights_digest(model)
        save_student(model, chat.tokenizer, folder, dtype=chat.config.dtype, mark=digest)
        summaries = Steps(inputs.summaries_path.parent)
        synthetic = Steps(inputs.synthetic_path.parent) if self.settings.invented_documents else None
        synthetic_seconds = {} if synthetic is None else synthetic.seconds
        record = StudentRecord(
            name=name,
            folder=self.settings.given_out / folder.relative_to(self.out),
            teacher=context.teacher,
            settings=self.settings,
            documents=inputs.documents,
            device=context.device,
            layers=layers,
            earlier=inputs.earlier,
            synthetic=None if synthetic is None else synthetic.facts("invented"),
            summaries=summaries.facts("summaries"),
            training=training,
            seconds={**synthetic_seconds, **summaries.seconds, **self.steps.seconds},
            processes=context.state.num_processes,
            dtype=context.dtype,
            weights_sha256=digest,
        )
        write_card(folder, record)
