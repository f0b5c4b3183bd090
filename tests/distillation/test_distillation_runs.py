"""Whole distillations with a tiny random teacher: uninterrupted, killed and resumed, and measured beside the teacher."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from distillation.generation import BatchGenerator
from distillation.judgement import TargetCheck, judge_run
from distillation.loading import load_weights
from distillation.summaries import read_rows
from distillation.training_documents import write_documents
from summarybench.core.outcomes import InputError
from summarybench.documents.document import Document
from summarybench.documents.sources import documents_of_file, embedded_documents
from summarybench.machine.cpu_device import CpuDevice
from summarybench.session.students import read_students
from tests.distillation.test_distillation import student_folder
from tests.forked import ENVIRONMENT, forked_python

CPU = CpuDevice(kind="cpu", name="cpu", slug="cpu", family="cpu", memory_bytes=2**34, compute_dtype="float32")
TEACHER = "smollm2-135m-instruct"
SHORT = ("--layers", "1", "--documents", "6", "--max-new-tokens", "8", "--max-prompt-tokens", "96", "--batch-size", "4")
SIX_STEPS = (*SHORT, "--steps", "6", "--evaluations", "3")
LAUNCH = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
)
"""Two processes. Without a GPU, --multi_gpu starts both of them, but --cpu would start one."""
LONGEST_WAIT_SECONDS = 180


@dataclass(frozen=True)
class Workspace:
    """A folder for distillations, with a tiny teacher."""

    folder: Path
    teacher: Path

    def command(self, *arguments: str, launch: tuple[str, ...] = ()) -> list[str]:
        of_teacher = ("--teacher", TEACHER, "--model-path", f"{TEACHER}={self.teacher}")
        python = forked_python(with_models=True)
        return [python, *launch, "-m", "distillation", *of_teacher, "--out", "students/small", *arguments]

    def distil(self, *arguments: str, launch: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, launch=launch)
        return subprocess.run(
            command, cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=110, check=False
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def student(self) -> Path:
        return self.folder / "students" / "small"

    @property
    def weights_sha256(self) -> str:
        return hashlib.sha256((self.student / "model.safetensors").read_bytes()).hexdigest()

    @property
    def provenance(self) -> dict:
        return json.loads((self.student / "distillation.json").read_text())

    @property
    def summaries(self) -> Path:
        (found,) = self.folder.glob("students/.teacher-summaries-*/summaries.parquet")
        return found


@pytest.fixture
def workspace(tmp_path, tiny_llama):
    return Workspace(tmp_path, tiny_llama)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_llama):
    """A student distilled without interruption, from the embedded documents and a file of the same articles."""
    folder = tmp_path_factory.mktemp("finished")
    write_documents(folder / "more.jsonl", embedded_documents().documents)
    made = Workspace(folder, tiny_llama)
    done = made.distil(*SIX_STEPS, "--summaries-per-document", "2", "--documents-file", "more.jsonl")
    assert done.returncode == 0, done.stderr
    return made


def wait_for(process, path_pattern, folder):
    """Wait for a file, and fail if the process ends without it: killing it then would prove nothing."""
    end = time.monotonic() + LONGEST_WAIT_SECONDS
    while not list(folder.glob(path_pattern)):
        assert process.poll() is None, f"the process ended without {path_pattern}"
        assert time.monotonic() < end, f"no {path_pattern} in {LONGEST_WAIT_SECONDS} s"
        time.sleep(0.02)


# Uninterrupted ---------------------------------------------------------------------------------------------------


def test_student_folder_has_weights_tokenizer_card_and_provenance(finished):
    names = {path.name for path in finished.student.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "heldout.jsonl"} <= names
    provenance = finished.provenance
    assert (provenance["training"]["steps"], provenance["layers"], provenance["teacher"]["name"]) == (6, [0], TEACHER)
    assert len(provenance["trained_on"]) == 6
    card = (finished.student / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "\nbase_model: HuggingFaceTB/SmolLM2-135M-Instruct\n" in card
    assert "`pytest benchmarks -m student --student students/small`" in card
    assert "6 steps of 4 examples" in card
    assert re.search(r"^\| 6 \| \d+\.\d{4} \| \d+\.\d{4} \| \d+\.\d{4} \|$", card, re.MULTILINE)
    assert not list(finished.student.glob("checkpoints-*"))


def test_summaries_file_holds_its_provenance(finished):
    from pyarrow import parquet

    provenance = json.loads(parquet.read_schema(finished.summaries).metadata[b"distillation"])
    assert provenance["teacher"]["name"] == TEACHER
    rows = read_rows(finished.summaries)
    assert {row["role"] for row in rows} == {"training", "validation"}
    assert {row["sample"] for row in rows} == {0, 1}


def test_untrained_student_is_saved_too(finished):
    untrained = json.loads((finished.student / "initial" / "distillation.json").read_text())
    assert (untrained["name"], untrained["training"]["steps"]) == ("small-initial", 0)
    card = (finished.student / "initial" / "README.md").read_text()
    assert "`pytest benchmarks -m student --student students/small/initial`" in card
    assert untrained["weights_sha256"] != finished.provenance["weights_sha256"]


def test_second_run_skips_finished_steps(finished):
    before = finished.weights_sha256, finished.summaries.stat().st_mtime_ns
    done = finished.distil(*SIX_STEPS, "--summaries-per-document", "2", "--documents-file", "more.jsonl")
    assert done.returncode == 0
    assert "unchanged:" in done.stdout
    assert "step 1 of 6" not in done.stdout
    assert (finished.weights_sha256, finished.summaries.stat().st_mtime_ns) == before


def test_other_training_reuses_the_summaries(finished):
    done = finished.distil(
        *SIX_STEPS, "--summaries-per-document", "2", "--documents-file", "more.jsonl", "--kl-weight", "0",
        "--out", "students/without-kl",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "unchanged:" in done.stdout
    assert finished.summaries.is_file()  # `summaries` unpacks exactly one


def test_chosen_layers_are_kept_and_reported(workspace):
    options = (*SHORT, "--choose-layers", "--steps", "1", "--evaluations", "1")
    done = workspace.distil(*options)
    assert done.returncode == 0, done.stderr
    (kept,) = workspace.provenance["layers"]
    assert workspace.provenance["choose_layers"]
    assert f"keeping layers {kept}; untrained, they differ from the teacher by" in done.stdout
    assert (
        "of the teacher (chosen by their effect on the teacher's predictions)"
        in (workspace.student / "README.md").read_text()
    )
    again = workspace.distil(*options)
    assert "keeping layers" not in again.stdout


def test_plan_prints_costs_and_writes_nothing(workspace):
    done = workspace.distil(*SIX_STEPS, "--invented-documents", "5", "--plan")
    assert done.returncode == 0, done.stderr
    assert "5 of them synthetic documents" in done.stdout
    assert "generate: 16 texts, at most 248 tokens" in done.stdout  # 6 + 5 summaries of 8, 5 documents of 32
    assert done.stdout.count("  total: ") == 1  # of what was asked for, and of nothing else
    assert "train: " in done.stdout
    assert list(workspace.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--layers", "2"),
            "--layers 2: smollm2-135m-instruct has 2 layers, and a student must have fewer; give at most 1",
        ),
        (("--student-from", "nowhere"), "--student-from nowhere: holds no config.json"),
        (("--layers", "1", "--documents-file", "no.jsonl"), "--documents-file no.jsonl: no such file"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(workspace, arguments, said):
    done = workspace.distil(*arguments)
    assert done.returncode == 4
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in done.stderr
    assert list(workspace.folder.iterdir()) == []


# Synthetic documents ---------------------------------------------------------------------------------------------

SYNTHETIC = (*SIX_STEPS, "--invented-documents", "5", "--teacher-batch", "2")


@pytest.fixture(scope="module")
def with_synthetic(tmp_path_factory, tiny_llama):
    """A student that was also trained on synthetic documents."""
    made = Workspace(tmp_path_factory.mktemp("with_synthetic"), tiny_llama)
    done = made.distil(*SYNTHETIC)
    assert done.returncode == 0, done.stderr
    assert "5 synthetic documents written by the teacher; dropped: 0 empty, 0 repeating" in done.stdout
    return made


def test_synthetic_documents_are_summarized_for_training(with_synthetic):
    (path,) = with_synthetic.folder.glob("students/.teacher-documents-*/invented.parquet")
    written = {row["url"]: row["output"] for row in read_rows(path)}
    assert set(written) == {f"invented:{number}" for number in range(5)}
    rows = [row for row in read_rows(with_synthetic.summaries) if row["url"].startswith("invented:")]
    assert {row["url"]: row["text"] for row in rows} == written
    assert [(row["role"], row["task"], row["sample"]) for row in rows] == [("training", "summarize", 0)] * 5


def test_synthetic_documents_are_recorded_and_count_as_seen(with_synthetic):
    provenance = with_synthetic.provenance
    assert (provenance["documents"]["invented"], provenance["data_settings"]["invented_documents"]) == (5, 5)
    assert (provenance["invented"]["asked"], provenance["seconds"]["invented"] > 0) == (5, True)
    assert "| synthetic documents written by the teacher | 5, " in (with_synthetic.student / "README.md").read_text()
    seen = [row["text"] for row in read_rows(with_synthetic.summaries) if row["url"].startswith("invented:")]
    (student,) = read_students([with_synthetic.student]).values()
    with pytest.raises(InputError, match="was trained on 5 of these 5 documents"):
        student.refuse_seen(Document(url="elsewhere", section="", text=text, reference="") for text in seen)


def test_other_summaries_reuse_synthetic_documents_and_only_lost_parts_are_rewritten(with_synthetic):
    (folder,) = with_synthetic.folder.glob("students/.teacher-documents-*")
    whole = read_rows(folder / "invented.parquet")
    (folder / "invented.parquet").unlink()
    (folder / "parts" / "part-00001.parquet").unlink()
    kept = (folder / "parts" / "part-00000.parquet").stat().st_mtime_ns
    done = with_synthetic.distil(*SYNTHETIC, "--summaries-per-document", "2", "--steps", "1", "--out", "students/other")
    assert done.returncode == 0, done.stderr
    assert list(with_synthetic.folder.glob("students/.teacher-documents-*")) == [folder]
    assert read_rows(folder / "invented.parquet") == whole
    assert (folder / "parts" / "part-00000.parquet").stat().st_mtime_ns == kept


# Texts written by the student ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def second(with_synthetic):
    """A student that started from another student, and was trained on its texts."""
    of_the_teacher = sorted(with_synthetic.folder.glob("students/.teacher-summaries-*"))
    done = with_synthetic.distil(
        "--student-from", "students/small", "--own-summaries", "--ce-weight", "0", *SYNTHETIC[2:], "--documents", "8",
        "--out", "students/second",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "texts written by the student" in done.stdout
    assert sorted(with_synthetic.folder.glob("students/.teacher-summaries-*")) == of_the_teacher
    return with_synthetic.folder / "students" / "second"


def test_texts_of_the_student_are_stored_in_their_own_folder(with_synthetic, second):
    (path,) = with_synthetic.folder.glob("students/.student-summaries-*/summaries.parquet")
    rows = read_rows(path)
    student = load_weights(with_synthetic.student, "float32", "cpu")
    greedy = [row for row in rows if row["sample"] == 0]
    assert {row["role"] for row in greedy} == {"training", "validation"}
    for row in greedy[:3]:
        assert row["output_ids"] == BatchGenerator(student, CPU, 1).generate([row["prompt_ids"]], 8)[0]


def test_provenance_of_a_second_student_includes_the_first(with_synthetic, second):
    first, provenance = with_synthetic.provenance, json.loads((second / "distillation.json").read_text())
    assert (provenance["student_from"], provenance["layers"]) == ("small", first["layers"])
    assert provenance["seconds_before"] == pytest.approx(sum(first["seconds"].values()))
    assert set(first["trained_on"]) < set(provenance["trained_on"])  # it was trained on two more documents
    assert provenance["weights_sha256"] != first["weights_sha256"]
    card = (second / "README.md").read_text()
    assert "It started from the smaller model small." in card
    assert "| texts written by the student | " in card
    assert re.search(r"; before that, small: \d+\.\d\d hours \|$", card, re.MULTILINE)


def test_repeating_texts_are_reported_as_kept_with_unlikelihood(with_synthetic, second):
    done = with_synthetic.distil(
        "--student-from", "students/small", "--own-summaries", "--ce-weight", "0", *SYNTHETIC[2:], "--documents", "8",
        "--unlikelihood-weight", "1", "--steps", "1", "--evaluations", "1", "--out", "students/third",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^unchanged: \d+ texts written by the student; among them: 0 empty, 0 repeating$", done.stdout, re.MULTILINE
    )
    card = (with_synthetic.folder / "students" / "third" / "README.md").read_text()
    assert re.search(
        r"^\| texts written by the student \| .* tokens; among them: 0 empty, 0 repeating \|$", card, re.MULTILINE
    )
    assert "1 × unlikelihood of repeated tokens" in card


# Measured beside its teacher -------------------------------------------------------------------------------------

ONE_THREAD = """
    import torch

    torch.set_num_threads(1)
"""
"""On a busy machine, threads that wait for each other made the machine probes of six experiments take minutes."""


def bench(project, finished, *arguments):
    project.use(ONE_THREAD)
    return project.bench(
        "--student", str(finished.student), "--model-path", f"{TEACHER}={finished.teacher}",
        "--documents", "8", "--max-new-tokens", "6", *arguments,
    )  # fmt: skip


@pytest.mark.slow
def test_student_is_measured_and_judged_beside_its_teacher(project, finished):
    session = bench(project, finished, "-m", "student", "--documents-file", str(finished.student / "heldout.jsonl"))
    infos = session.by_experiment
    loaders = ("default", "8-bit", "4-bit")
    assert set(infos) == {f"{model}-{loader}" for model in (TEACHER, "small") for loader in loaders}, session.output
    for loader in loaders:
        info, teacher = infos[f"small-{loader}"], infos[f"{TEACHER}-{loader}"]
        assert info["teacher"] == TEACHER
        assert info["student_provenance"]["teacher"]["revision"] == teacher["workload_settings"]["revision"]
        change = info["teacher_change"]
        assert change["teacher"] == f"{TEACHER}-{loader}"
        assert change["weights_ratio"] == info["weights_bytes"] / teacher["weights_bytes"]
        assert change["generated_tokens_per_second"]["low"] < change["generated_tokens_per_second"]["high"]
    assert "Students beside their teachers" in session.output
    results = project.folder / "results" / "latest"
    text = judge_run(results, {TEACHER: finished.teacher})
    assert len(text.splitlines()) == 2 + 6
    assert (results / "students.md").read_text() == text
    (results / "documents.parquet").unlink()  # as if the session had been killed
    with pytest.raises(InputError, match=f"documents.parquet: not there.* --resume {results}"):
        judge_run(results, {TEACHER: finished.teacher})


def test_documents_that_the_student_was_trained_on_are_refused(project, finished, one_error_line):
    seen = project.folder / "seen.jsonl"
    write_documents(seen, documents_of_file(finished.folder / "more.jsonl").documents)
    session = bench(project, finished, "-m", "student", "--documents-file", str(seen), "--documents", "79")
    assert session.exit_code == 4
    assert "was trained on 6 of these 79 documents; use --documents-file" in one_error_line(session)


def test_student_of_synthetic_weights_is_refused(project, finished, one_error_line):
    assert "a student is its weights" in one_error_line(bench(project, finished, "--weights", "synthetic"))


def test_folder_without_a_student_is_one_line(project, one_error_line, tmp_path):
    assert "is not a student" in one_error_line(project.bench("--student", str(tmp_path)))


def test_students_are_collected_beside_the_usual_experiments(project, tmp_path):
    folder = student_folder(tmp_path / "small")
    collected = project.bench("--student", str(folder), "--collect-only", "-q").output
    assert f"[{TEACHER}-4-bit]" in collected
    assert "[small-4-bit]" in collected


def test_worse_student_fails_for_its_quality(project, tmp_path):
    folder = student_folder(tmp_path / "small")
    project.script({"worthless": ["default"]}, conftest=WORTHLESS_STUDENT)
    session = project.bench("--student", str(folder), "-k", "default", "--documents", "12")
    assert session.exit_code == 10, session.output
    info = session.by_experiment["small-default"]
    assert info["teacher_change"]["quality_change"]["verdict"] == "INFERIOR"
    assert "INFERIOR to smollm2-135m-instruct-default" in session.output


def test_margin_is_a_share_of_the_teachers_rouge(project, tmp_path):
    folder = student_folder(tmp_path / "small")
    session = project.bench("--student", str(folder), "-m", "student", "-k", "default", "--student-margin", "25%")
    info, teacher = (session.by_experiment[f"{name}-default"] for name in ("small", TEACHER))
    assert info["teacher_change"]["margin"] == pytest.approx(0.25 * teacher["rouge1"])
    assert info["teacher_change"]["quality_change"]["verdict"] == "NON-INFERIOR"


def test_student_is_judged_beside_its_teacher_in_any_order(project, tmp_path):
    """As with --ff, --lf or a plugin for random order."""
    folder = student_folder(tmp_path / "small")
    backwards = """
    def pytest_collection_modifyitems(items):
        items.reverse()
"""
    project.script({"worthless": ["default"]}, conftest=WORTHLESS_STUDENT + backwards)
    session = project.bench("--student", str(folder), "-k", "default", "--documents", "12")
    assert session.exit_code == 10, session.output
    assert session.by_experiment["small-default"]["teacher_change"]["quality_change"]["verdict"] == "INFERIOR"


def test_student_that_invents_numbers_fails_as_against_a_baseline(project, tmp_path):
    folder = student_folder(tmp_path / "small")
    project.script({}, conftest=INVENTING_STUDENT)
    options = ("--student", str(folder), "-k", "default", "--documents", "12", "--gpu-hour-price", "2")
    session = project.bench(*options)
    assert session.exit_code == 10, session.output
    change = session.by_experiment["small-default"]["teacher_change"]
    found = change["faithfulness_change"]
    assert (found["verdict"], found["baseline"]) == ("INFERIOR", f"{TEACHER}-default")
    assert (found["counted"]["novel_numbers"]["more"], found["counted"]["novel_numbers"]["fewer"]) == (12, 0)
    assert change["quality_change"]["verdict"] != "INFERIOR"
    (note,) = (each for each in session.output.splitlines() if each.startswith("small-default: faithfulness "))
    assert note.startswith(
        f"small-default: faithfulness INFERIOR to {TEACHER}-default: summaries with new numbers +100"
    )
    assert "saved/1k" in session.output
    assert change["length_ratio"] > 1


def test_student_without_its_teacher_does_not_pass_and_says_so(project, tmp_path):
    folder = student_folder(tmp_path / "small")
    session = project.bench("--student", str(folder), "-k", "small-default")
    assert session.exit_code == 1
    assert "nothing says whether this student is good enough" in session.output
    assert session.by_experiment["small-default"]["teacher_change"] is None
    assert f"its teacher {TEACHER} was not measured in this session" in session.output


WORTHLESS_STUDENT = """
    import tests.fakes

    WHOLE = tests.fakes.Scripted.model

    def model(self, experiment, time):
        made = WHOLE(self, experiment, time)
        made._summary = "zzz" if experiment.model == "small" else None
        return made

    tests.fakes.Scripted.model = model
"""

INVENTING_STUDENT = """
    import tests.fakes

    WHOLE = tests.fakes.Scripted.model

    def model(self, experiment, time):
        made = WHOLE(self, experiment, time)
        if experiment.model == "small":
            decode = made.decode
            made.decode = lambda ids: decode(ids) + " It was 987654 in all."
        return made

    tests.fakes.Scripted.model = model
"""


# The verdict -----------------------------------------------------------------------------------------------------

GOOD = {
    "speed_ratio": 1.7,
    "weights_ratio": 0.65,
    "rouge1_ratio": 0.9,
    "quality": "NON-INFERIOR",
    "faithfulness": "INCONCLUSIVE",
    "perplexity_ratio": 1.5,
    "more_degenerate": 0,
}


def test_student_exactly_at_the_targets_reaches_them():
    assert TargetCheck(**GOOD).verdict == "REACHED (ROUGE-1 NON-INFERIOR, faithfulness INCONCLUSIVE)"


def test_too_few_documents_are_named_for_each_comparison():
    few = TargetCheck(**GOOD | {"quality": None, "faithfulness": None})
    assert few.verdict == "REACHED (ROUGE-1 not compared, faithfulness not compared)"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"speed_ratio": 1.69}, "MISSED: tok/s 1.69× (at least 1.7×)"),
        ({"weights_ratio": 0.66}, "MISSED: weights 66% (at most 65%)"),
        ({"rouge1_ratio": 0.89}, "MISSED: ROUGE-1 89% (at least 90%)"),
        ({"quality": "INFERIOR"}, "MISSED: ROUGE-1 INFERIOR"),
        ({"faithfulness": "INFERIOR"}, "MISSED: faithfulness INFERIOR"),
        ({"perplexity_ratio": 1.51}, "MISSED: perplexity 1.51× (at most 1.5×)"),
        ({"more_degenerate": 1}, "MISSED: 1 more empty or repeating summaries"),
    ],
)
def test_each_missed_target_is_named(changed, said):
    assert TargetCheck(**{**GOOD, **changed}).verdict == said


def test_run_without_a_student_cannot_be_judged(project):
    project.bench("-k", "smollm2 and default", "--documents", "2")
    with pytest.raises(InputError, match="has no student; measure one"):
        judge_run(project.folder / "results" / "latest", {})


# Interrupted -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_run_resumes_and_ends_with_the_weights_of_an_uninterrupted_run(workspace, tmp_path):
    """Killed while the teacher writes, then while the student trains; the third run is left alone."""
    long = (
        *SHORT,
        "--documents",
        "24",
        "--steps",
        "40",
        "--evaluations",
        "10",
        "--patience",
        "10",
        "--teacher-batch",
        "2",
    )
    process = workspace.start(*long)
    wait_for(process, "students/.teacher-summaries-*/parts/part-00002.parquet", tmp_path)
    process.kill()
    process.communicate()
    parts = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("students/.teacher-*/parts/*.parquet")}
    assert parts
    process = workspace.start(*long)
    wait_for(process, "students/small/checkpoints-*/checkpoint-8/trainer_state.json", tmp_path)
    process.kill()
    output, _ = process.communicate()
    assert "step 40 of 40" not in output
    assert not (workspace.student / "distillation.json").exists()
    done = workspace.distil(*long)
    assert done.returncode == 0, done.stderr
    assert "unchanged:" in done.stdout
    assert "step 1 of 40" not in done.stdout
    now = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("students/.teacher-*/parts/*.parquet")}
    assert {name: now[name] for name in parts} == parts
    resumed = workspace.weights_sha256
    again = Workspace(tmp_path / "again", workspace.teacher)
    again.folder.mkdir()
    assert again.distil(*long).returncode == 0
    assert again.weights_sha256 == resumed


@pytest.mark.slow
def test_ctrl_c_saves_a_checkpoint_and_exits_with_130(workspace, tmp_path):
    long = (*SHORT, "--steps", "200", "--evaluations", "2", "--patience", "10")
    process = workspace.start(*long)
    for line in process.stdout:
        if line.startswith("step 20 of 200"):
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    message = next(line for line in errors.splitlines() if line.startswith("interrupted after step "))
    step = message.split()[3].rstrip(",")
    assert list(workspace.student.glob(f"checkpoints-*/checkpoint-{step}/trainer_state.json"))


@pytest.mark.slow
def test_two_processes_make_one_student(workspace):
    synthetic = (*SIX_STEPS, "--invented-documents", "3", "--teacher-batch", "2")
    done = workspace.distil(*synthetic, launch=LAUNCH)
    assert done.returncode == 0, done.stderr
    assert (workspace.provenance["processes"], workspace.provenance["documents"]["invented"]) == (2, 3)
    assert done.stdout.count("student: students/small") == 1
    before = workspace.weights_sha256
    done = workspace.distil(*synthetic, "--steps", "4", launch=LAUNCH)
    assert done.returncode == 0, done.stderr
    assert workspace.weights_sha256 != before
    assert workspace.provenance["training"]["steps"] == 4
