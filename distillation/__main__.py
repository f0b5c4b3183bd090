"""`python -m distillation`: documents, the teacher's summaries, the student, its training, and what is left of it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distillation import invented, summaries
from distillation.card import DATA_SETTINGS, TRAINING_SETTINGS, provenance, write_card
from distillation.opening import Teacher, compute_dtype, load_teacher, load_weights, open_teacher
from distillation.settings import DistillSettings, parse_settings
from distillation.steps import Steps, check_out_folder, fingerprint
from distillation.student import (
    CHOSEN_BY_TEXTS,
    check_layers,
    chosen_layers,
    initial_student,
    open_smaller,
    passes_to_choose,
    save_student,
    spaced_layers,
)
from distillation.training_documents import Drawn, draw, write_documents
from summarybench.core.exit_codes import run_to_exit_code
from summarybench.core.invocation import this_invocation
from summarybench.core.outcomes import ExitCode
from summarybench.engines.loading import quiet_libraries
from summarybench.engines.weights import folder_digest
from summarybench.machine.detection import detect_device, leave_one_gpu_visible
from summarybench.machine.device import Device
from summarybench.runs.run_folder import shown
from summarybench.session.students import HELD_OUT_FILE, PROVENANCE_FILE, Student, read_students

INITIAL = "initial"
UNTRAINED: Mapping[str, Any] = {"steps": 0, "best_step": 0, "best_validation_loss": None, "examples": 0, "history": []}


def main(arguments: Sequence[str] | None = None) -> int:
    """Distil and return the exit code; of several processes, the first one reports."""
    is_first = os.environ.get("RANK", "0") == "0"
    return run_to_exit_code(lambda: _distill(arguments, is_first=is_first), reports=is_first)


def _distill(arguments: Sequence[str] | None, *, is_first: bool) -> int:
    settings = parse_settings(arguments)
    if "WORLD_SIZE" not in os.environ:
        leave_one_gpu_visible(0)  # the Trainer would spread one process over all of them, with other batches
    try:
        run(settings, is_first=is_first)
    except KeyboardInterrupt as interruption:
        if interruption.args:
            raise
        raise KeyboardInterrupt("interrupted; the same command goes on with what is finished") from None
    return ExitCode.CLEAN


def run(settings: DistillSettings, *, is_first: bool) -> None:
    """Check everything that can be wrong, then do the steps that are not done. Raises SuiteError."""
    check_out_folder(settings.out)
    drawn = draw(settings)
    quiet_libraries(show_progress=False)
    teacher = open_teacher(settings.teacher, settings.model_paths)
    if settings.layers is not None:
        check_layers(teacher, settings.layers)
    if settings.student_from is not None:
        open_smaller(settings.student_from, teacher)
    device = detect_device()
    if settings.plan:
        from distillation.plan import tell_plan

        tell_plan(settings, teacher, drawn, device)
        return
    from accelerate import PartialState

    state = PartialState(cpu=not device.is_gpu)
    if is_first and settings.documents and len(drawn.all) < settings.documents:
        _say(f"{settings.documents} documents asked for, and {len(drawn.all)} are in the train half of the sources")
    Distillation(settings=settings, teacher=teacher, found=drawn, device=device, state=state).run()
    state.destroy_process_group()


def _say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True)
class Distillation:
    """One run's steps. The first process makes what is made once; all of them generate and train."""

    settings: DistillSettings
    teacher: Teacher
    found: Drawn
    device: Device
    state: Any

    def run(self) -> None:
        self._in_first(lambda: Steps(self.settings.out))
        if self.settings.invented_documents:
            self._invent()
        self._summarize()
        self._in_first(self._begin_student)
        self._train()
        self._in_first(self._finish)

    # What goes into the steps ------------------------------------------------------------------------------------

    @cached_property
    def invented_inputs(self) -> dict[str, Any]:
        inputs = invented.inputs_of(self.found, self.settings, self.teacher.facts(), self.teacher.chat)
        return {**inputs, "teacher_batch": self.teacher_batch}

    @cached_property
    def invented_folder(self) -> Path:
        return self.settings.out.parent / f".teacher-documents-{fingerprint(self.invented_inputs)}"

    @property
    def invented_path(self) -> Path:
        return self.invented_folder / "invented.parquet"

    @cached_property
    def drawn(self) -> Drawn:
        """What was found, and what the teacher has invented beside it."""
        if not self.settings.invented_documents:
            return self.found
        return invented.with_invented(self.found, summaries.read_rows(self.invented_path))

    @cached_property
    def data_inputs(self) -> dict[str, Any]:
        inputs = summaries.inputs_of(self.drawn, self.settings, self.teacher.facts(), self.teacher.chat)
        writer = {"writer": self.initial_inputs["student_from"]} if self.settings.own_summaries else {}
        return {**inputs, "teacher_batch": self.teacher_batch, **writer}

    @cached_property
    def data_folder(self) -> Path:
        """Beside the student and named by what went into it, so that students of the same summaries share them."""
        writer = "student" if self.settings.own_summaries else "teacher"
        return self.settings.out.parent / f".{writer}-summaries-{fingerprint(self.data_inputs)}"

    @property
    def summaries_path(self) -> Path:
        return self.data_folder / "summaries.parquet"

    @cached_property
    def earlier(self) -> Student | None:
        """What it begins with, where that was distilled too."""
        given = self.settings.student_from
        if given is None or not (given / PROVENANCE_FILE).is_file():
            return None
        (found,) = read_students([given]).values()
        return found

    @cached_property
    def initial_inputs(self) -> dict[str, Any]:
        given = self.settings.student_from
        return {
            "teacher": self.teacher.facts(),
            "layers": self.settings.layers,
            "student_from": None if given is None else folder_digest(given),
            "name": self.settings.name,
            **({"chosen_by": fingerprint(self.data_inputs)} if self.settings.choose_layers else {}),
        }

    @property
    def training_inputs(self) -> dict[str, Any]:
        chosen = {key: getattr(self.settings, key) for key in (*TRAINING_SETTINGS, "steps")}
        return {"summaries": fingerprint(self.data_inputs), "student": self.initial_inputs, **chosen}

    @property
    def teacher_batch(self) -> int:
        return self.settings.teacher_batch or (128 if self.device.is_gpu else 8)

    @property
    def dtype(self) -> str:
        return compute_dtype(self.device, float32=self.settings.float32)

    @cached_property
    def steps(self) -> Steps:
        return Steps(self.settings.out)

    def _in_first(self, make: Any) -> None:
        if self.state.is_main_process:
            make()
        self.state.wait_for_everyone()

    def _in_all(
        self,
        steps: Steps,
        name: str,
        inputs: Mapping[str, Any],
        output: Path,
        make: Callable[[Path], Mapping[str, Any]],
    ) -> bool:
        """A step that all processes do together; the first keeps the record. Whether it was done now."""
        is_done = steps.is_done(name, inputs, output)
        self.state.wait_for_everyone()  # all have looked before the first one changes anything
        if self.state.is_main_process:
            steps.run(name, inputs, output, make)
        elif not is_done:
            make(output)
        self.state.wait_for_everyone()
        return not is_done

    # The steps ---------------------------------------------------------------------------------------------------

    def _invent(self) -> None:
        self._in_first(lambda: Steps(self.invented_folder))
        self._ask(
            "invented",
            "documents of the teacher's own, dropped",
            self._inventions,
            self.invented_inputs,
            self.invented_path,
            self._open_teacher,
        )

    def _inventions(self) -> list[summaries.Request]:
        return invented.inventions(self.found, self.settings, self.teacher.chat)

    def _summarize(self) -> None:
        self._in_first(lambda: self._make_data_folder(self.data_folder))
        what, open_writer = "texts of the teacher, dropped", self._open_teacher
        if self.settings.own_summaries:
            what, open_writer = f"texts of the student's own, {self.settings.repeating_are}", self._open_given
        self._ask("summaries", what, self._requests, self.data_inputs, self.summaries_path, open_writer)

    def _requests(self) -> list[summaries.Request]:
        return summaries.requests(self.drawn, self.settings, self.teacher.chat)

    def _ask(
        self,
        name: str,
        what: str,
        asked: Callable[[], Sequence[summaries.Request]],
        inputs: Mapping[str, Any],
        output: Path,
        open_writer: Callable[[], Any],
    ) -> None:
        """What the writer answers, in a folder that other students share; prompts are built where it has not answered yet."""
        folder = output.parent
        steps = Steps(folder)

        def make(path: Path) -> Mapping[str, Any]:
            parts = summaries.batches(asked(), self.teacher_batch)
            self._answer(name, parts, folder / "parts", open_writer)
            self.state.wait_for_everyone()
            if not self.state.is_main_process:
                return {}
            told = {**self.teacher.facts(), **{key: getattr(self.settings, key) for key in (*DATA_SETTINGS, "seed")}}
            return summaries.join_parts(
                folder / "parts", len(parts), path, {"teacher": told, "sources": self.found.sources}
            )

        is_made = self._in_all(steps, name, inputs, output, make)
        if self.state.is_main_process:
            facts = steps.facts(name)
            _say(f"{'' if is_made else 'unchanged: '}{facts['asked']} {what} {summaries.degenerate_told(facts)}")

    def _make_data_folder(self, folder: Path) -> None:
        Steps(folder)
        write_documents(folder / "training_documents.jsonl", self.drawn.training)
        write_documents(folder / "validation_documents.jsonl", self.drawn.validation)

    def _open_teacher(self) -> Any:
        return load_teacher(self.teacher, self.dtype, self.state.device)

    def _open_given(self) -> Any:
        return load_weights(str(self.settings.student_from), self.dtype, self.state.device, local_files_only=True)

    def _answer(
        self,
        name: str,
        parts: Sequence[Sequence[summaries.Request]],
        folder: Path,
        open_writer: Callable[[], Any],
    ) -> None:
        from tqdm import tqdm

        rank, world = self.state.process_index, self.state.num_processes
        left = [number for number in range(len(parts)) if number % world == rank]
        missing = [number for number in left if not summaries.part_path(folder, number).is_file()]
        if not missing:
            return
        model = open_writer()
        tokens = 0
        with tqdm(
            total=len(left), initial=len(left) - len(missing), desc=name, disable=None if rank == 0 else True
        ) as bar:

            def on_part(generated: int) -> None:
                nonlocal tokens
                tokens += generated
                bar.update()
                bar.set_postfix_str(f"{tokens / max(bar.format_dict['elapsed'], 1e-9):.0f} tok/s")

            summaries.answer_parts(
                parts,
                folder,
                model,
                self.device,
                decode=self._decode,
                temperature=self.settings.sampling_temperature,
                seed=self.settings.seed,
                on_part=on_part,
                share=(rank, world),
            )

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.teacher.chat.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    @property
    def initial_folder(self) -> Path:
        return self.settings.out / INITIAL

    def _begin_student(self) -> None:
        def make(folder: Path) -> Mapping[str, Any]:
            layers = self._kept_layers()
            model = initial_student(self.teacher, layers, self.settings.student_from)
            self._leave(model, folder, f"{self.settings.name}-{INITIAL}", layers, UNTRAINED)
            return {"layers": list(layers)}

        self.steps.run("student", self.initial_inputs, self.initial_folder, make)

    def _kept_layers(self) -> tuple[int, ...]:
        """Of the teacher's; none are known of a smaller model that was not distilled from it."""
        layers = self.settings.layers
        if layers is None:
            return () if self.earlier is None else tuple(self.earlier.provenance["layers"])
        whole = int(self.teacher.chat.config.num_hidden_layers)
        if not self.settings.choose_layers:
            return spaced_layers(whole, layers)
        from distillation.trainer import training_and_validation

        texts, _ = training_and_validation(summaries.read_rows(self.summaries_path), self.settings)
        _say(
            f"choosing {layers} of {whole} layers: {passes_to_choose(whole, layers)} passes over {CHOSEN_BY_TEXTS} texts at most"
        )
        kept, nats = chosen_layers(self._open_teacher(), texts, layers)
        _say(
            f"layers {', '.join(map(str, kept))} are kept; without the others, before training, {nats:.2f} nats a token"
        )
        return kept

    def _train(self) -> None:
        self._in_all(self.steps, "training", self.training_inputs, self.settings.out / "trained", self._train_into)

    def _train_into(self, path: Path) -> Mapping[str, Any]:
        """Train, and leave the weights at `path`, whole or not at all; checkpoints of other settings are let go of."""
        checkpoints = self.settings.out / f"checkpoints-{fingerprint(self.training_inputs)}"
        model, told = load_weights(self.initial_folder, "float32", "cpu", local_files_only=True), dict(UNTRAINED)
        if self.settings.steps != 0:
            from distillation.trainer import Interrupted, train

            try:
                model, told = train(
                    checkpoints,
                    summaries.read_rows(self.summaries_path),
                    self.settings,
                    self.device,
                    dtype=self.dtype,
                    open_student=lambda: load_weights(self.initial_folder, "float32", "cpu", local_files_only=True),
                    teacher=self._open_teacher() if self.settings.needs_teacher else None,
                    layers=self.steps.facts("student")["layers"],
                    decode=self._decode,
                    pad=0,
                    processes=self.state.num_processes,
                    say=_say,
                )
            except Interrupted as interruption:
                raise KeyboardInterrupt(str(interruption)) from None
        if self.state.is_main_process:
            temporary = path.with_name(".trained")
            model.to("cpu").save_pretrained(temporary)
            temporary.rename(path)
        return told

    def _finish(self) -> None:
        """The student's own files; checkpoints go, since nothing is left to be resumed."""
        import shutil

        out = self.settings.out
        layers = tuple(self.steps.facts("student")["layers"])
        told = self.steps.facts("training")
        model = load_weights(out / "trained", "float32", "cpu", local_files_only=True)
        self._leave(model, out, self.settings.name, layers, told)
        if self.drawn.held_out:
            write_documents(out / HELD_OUT_FILE, self.drawn.held_out)
        for folder in out.glob("checkpoints-*"):
            shutil.rmtree(folder)
        held_out = ["--documents-file", shown(out / HELD_OUT_FILE)] if self.drawn.held_out else []
        judging = ["benchmarks", "-m", "student", "--student", shown(out), *held_out]
        _say(f"student: {shown(out)}; judge it: {this_invocation().program('pytest', *judging)}")

    def _leave(self, model: Any, folder: Path, name: str, layers: tuple[int, ...], training: Mapping[str, Any]) -> None:
        chat = self.teacher.chat
        folder.mkdir(parents=True, exist_ok=True)
        digest = _weights_digest(model)
        save_student(model, chat.tokenizer, folder, dtype=chat.config.dtype, mark=digest)
        data = Steps(self.data_folder)
        inventing = Steps(self.invented_folder) if self.settings.invented_documents else None
        facts = provenance(
            name,
            self.teacher,
            self.settings,
            self.drawn,
            self.device,
            layers=layers,
            earlier=self.earlier,
            invented=None if inventing is None else inventing.facts("invented"),
            summaries=data.facts("summaries"),
            training=training,
            seconds={**({} if inventing is None else inventing.seconds), **data.seconds, **self.steps.seconds},
            processes=self.state.num_processes,
            dtype=self.dtype,
            weights_sha256=digest,
        )
        write_card(folder, facts, self.teacher, self.settings)


def _weights_digest(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
