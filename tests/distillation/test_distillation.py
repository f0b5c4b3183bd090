"""Each step of a distillation by itself, without training; test_distillation_runs.py runs the whole pipeline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from distillation.card import describe_examples, own_seconds, shared_steps, total_seconds
from distillation.examples import overlap
from distillation.layers import evenly_spaced_layers
from distillation.options import parse_settings
from distillation.steps import STEPS_FILE, Steps
from distillation.synthetic_documents import synthetic_document_requests, with_synthetic
from distillation.training_documents import draw_documents, passages, sentences, write_documents
from summarybench.core.outcomes import InputError
from summarybench.documents.document import Document, Half
from summarybench.documents.sources import documents_of_file, embedded_documents
from summarybench.session.students import read_students
from tests.forked import ROOT

TEACHER = ("--teacher", "smollm2-135m-instruct")


def settings_of(*arguments, out="students/small"):
    return parse_settings([*TEACHER, "--out", str(out), *arguments])


def documents(urls):
    return [Document(url=url, section="", text=f"About {url}. It is so.", reference="So.") for url in urls]


def urls_in(half, count):
    found = (f"article {number}" for number in range(10_000))
    return [url for url in found if documents([url])[0].half is half][:count]


@pytest.fixture
def mixed_file(tmp_path):
    """Six articles of each half."""
    path = tmp_path / "mixed.jsonl"
    write_documents(path, documents([*urls_in(Half.BENCH, 6), *urls_in(Half.TRAIN, 6)]))
    return path


# Documents -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_benchmarks_never_draw_training_documents_with_any_seed(seed):
    drawn = {each.url for each in draw_documents(settings_of("--layers", "15", "--seed", str(seed))).all}
    assert len(drawn) > 5
    for other in range(5):
        assert drawn.isdisjoint({each.url for each in embedded_documents().sample(None, other)})


def test_other_half_of_a_file_is_held_out(mixed_file):
    drawn = draw_documents(settings_of("--layers", "15", "--documents-file", str(mixed_file)))
    held_out = {each.url for each in drawn.held_out}
    assert set(urls_in(Half.BENCH, 6)) <= held_out
    assert set(urls_in(Half.TRAIN, 6)) <= {each.url for each in drawn.all}
    assert held_out.isdisjoint({each.url for each in drawn.all})


def test_columns_of_other_names_are_read_when_they_are_named(tmp_path):
    path = tmp_path / "odd.csv"
    rows = [(url, f"About {url}. It is so.", "So.") for url in [*urls_in(Half.BENCH, 3), *urls_in(Half.TRAIN, 3)]]
    path.write_text("".join(",".join(row) + "\n" for row in [("url", "corpus", "gist"), *rows]))
    options = ("--layers", "3", "--documents-file", str(path))
    with pytest.raises(InputError, match="--text-column"):
        draw_documents(settings_of(*options))
    drawn = draw_documents(settings_of(*options, "--text-column", "corpus", "--summary-column", "gist"))
    assert {each.url for each in drawn.held_out if each.reference == "So."} == {row[0] for row in rows[:3]}
    assert {row[1] for row in rows[3:]} <= {each.text for each in drawn.all}


def test_nothing_is_held_out_without_a_documents_file():
    assert draw_documents(settings_of("--layers", "15")).held_out == ()


def test_no_article_is_in_both_training_and_validation():
    drawn = draw_documents(settings_of("--layers", "15", "--validation-share", "40%"))
    training, validation = ({each.url for each in part} for part in (drawn.training, drawn.validation))
    assert validation
    assert training.isdisjoint(validation)


def test_fewer_documents_are_the_first_of_more():
    few, many = (draw_documents(settings_of("--layers", "15", "--documents", count)) for count in ("5", "10"))
    assert {each.id for each in few.all} < {each.id for each in many.all}


def test_held_out_file_is_read_back_as_it_was(tmp_path):
    written = documents(urls_in(Half.BENCH, 3))
    write_documents(tmp_path / "heldout.jsonl", written)
    assert list(documents_of_file(tmp_path / "heldout.jsonl").documents) == written


def test_passages_are_the_document_and_its_parts_in_order():
    document = Document(url="u", section="s", text="A b. C d. E f. G h.", reference="r")
    whole, first, second = passages(document, 2)
    assert (whole, first.text, second.text) == (document, "A b. C d.", "E f. G h.")
    assert len({whole.id, first.id, second.id}) == 3
    assert passages(document, 1) == (document,)
    assert passages(replace(document, text="A b. C d."), 2)[0].text == "A b. C d."
    assert len(passages(replace(document, text="A b. C d."), 2)) == 1


def test_each_part_has_at_least_two_sentences():
    document = Document(url="u", section="s", text="A b. C d. E f. G h. I j. K l.", reference="r")
    texts = [each.text for each in passages(document, 9)[1:]]
    assert texts == ["A b. C d. E f.", "G h. I j. K l.", "A b. C d.", "E f. G h.", "I j. K l."]


# Synthetic documents ---------------------------------------------------------------------------------------------


WORDS = SimpleNamespace(
    context_tokens=4096,
    document_offsets=lambda text: [match.span() for match in re.finditer(r"\S+", text)],
    chat_ids=str.split,
)
"""A tokenizer whose tokens are words."""


def synthetic_requests(*arguments):
    settings = settings_of("--layers", "15", *arguments)
    drawn = draw_documents(settings)
    return synthetic_document_requests(drawn, settings, WORDS), drawn


def test_each_synthetic_document_is_about_two_sentences_of_a_training_document():
    requests, drawn = synthetic_requests("--invented-documents", "50")
    assert {each.document.url for each in requests} == {f"invented:{number}" for number in range(50)}
    assert {(each.role, each.task, each.is_sampled) for each in requests} == {("training", "invent", True)}
    texts = [" ".join(document.text.split()) for document in drawn.training]
    for each in requests:
        assert any(" ".join(each.document.text.split()) in text for text in texts)
        assert len(sentences(each.document.text)) == 2
    assert len({each.document.text for each in requests}) == 50


def test_topics_are_used_again_when_there_are_too_few():
    requests, _ = synthetic_requests("--invented-documents", "2000")
    found = {int(each.document.url.partition(":")[2]): (each.document.text, each.sample) for each in requests}
    count = len({topic for topic, _ in found.values()})
    assert count < 2000
    assert [found[count - 1][1], found[count], found[2 * count]] == [1, (found[0][0], 2), (found[0][0], 3)]


def test_requests_for_synthetic_documents_are_sorted_by_length():
    requests, _ = synthetic_requests("--invented-documents", "50")
    lengths = [len(each.prompt_ids) for each in requests]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1]


def test_empty_and_repeating_synthetic_documents_are_dropped():
    _, drawn = synthetic_requests()
    rows = [{"url": f"invented:{number}", "output": kind, "dropped": kind} for number, kind in enumerate(["empty", ""])]
    assert [each.url for each in with_synthetic(drawn, rows).synthetic] == ["invented:1"]


def test_synthetic_documents_are_for_training_alone():
    _, drawn = synthetic_requests()
    more = with_synthetic(drawn, [{"url": "invented:0", "output": "Take a spoon. Stir.", "dropped": ""}])
    assert [each.text for each in more.all if each not in drawn.all] == ["Take a spoon. Stir."]
    assert (more.validation, more.held_out) == (drawn.validation, drawn.held_out)


# Overlap ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("Stir the soup, then serve it.", 1.0),
        ("The soup, THE SOUP, the soup!", 2 / 5),  # of five pairs "the soup" is three, and twice in the text
        ("Stir a soup.", 0.0),
        ("Soup", 0.0),
        ("", 0.0),
    ],
)
def test_overlap_is_the_share_of_word_pairs_that_the_text_has(summary, expected):
    assert overlap(summary, "Warm the soup. Stir the soup, then serve it.") == pytest.approx(expected)


def test_overlap_is_the_precision_of_rouge_2():
    from rouge_score.rouge_scorer import RougeScorer

    for document in embedded_documents().documents:
        score = RougeScorer(["rouge2"]).score(document.text, document.reference)["rouge2"]
        assert overlap(document.reference, document.text) == pytest.approx(score.precision)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "7"),
        (("--finished-only",), "7 (no text that reached the token limit)"),
        (
            ("--least-overlap", "30%", "--finished-only"),
            "7 (only summaries that share at least 30% of their word pairs with their text; no text that reached the token limit)",
        ),
    ],
)
def test_card_says_which_texts_were_left_out(options, expected):
    assert describe_examples(7, asdict(settings_of("--layers", "3", *options))) == expected


# The student -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "keep", "expected"),
    [(30, 1, (0,)), (4, 2, (0, 3)), (5, 3, (0, 2, 4)), (4, 4, (0, 1, 2, 3))],
)
def test_layers_are_evenly_spaced_from_first_to_last(of, keep, expected):
    assert evenly_spaced_layers(of, keep) == expected


def test_fifteen_of_thirty_layers_are_fifteen_different_ones():
    assert len(set(evenly_spaced_layers(30, 15))) == 15


# Steps -----------------------------------------------------------------------------------------------------------


def test_step_is_skipped_if_output_exists_and_inputs_are_unchanged(tmp_path):
    made = []

    def make(path):
        made.append(path)
        path.touch()
        return {"count": len(made)}

    output = tmp_path / "out" / "output"
    inputs = {"layers": 15}
    assert Steps(tmp_path / "out").run("step", inputs, output, make)
    assert not Steps(tmp_path / "out").run("step", inputs, output, make)
    assert Steps(tmp_path / "out").facts("step") == {"count": 1}
    assert Steps(tmp_path / "out").run("step", {"layers": 16}, output, make)
    output.unlink()
    assert Steps(tmp_path / "out").run("step", {"layers": 16}, output, make)
    assert len(made) == 3


def test_interrupted_step_runs_again(tmp_path):
    def interrupted(path):
        path.touch()
        raise KeyboardInterrupt

    output = tmp_path / "output"
    with pytest.raises(KeyboardInterrupt):
        Steps(tmp_path / "out").run("step", {}, output, interrupted)
    assert output.exists()
    assert Steps(tmp_path / "out").run("step", {}, output, lambda _: {})


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--layers", "0"), "--layers 0: must be at least 1"),
        (("--layers", "3", "--student-from", "x"), "either --layers N"),
        ((), "either --layers N"),
        (("--layers", "3", "--kl-weight", "-1"), "--kl-weight -1.0: must not be negative"),
        (("--layers", "3", "--kl-weight", "0", "--ce-weight", "0"), "leaves no loss to train on"),
        (("--layers", "3", "--reverse-kl-weight", "-1"), "--reverse-kl-weight -1.0: must not be negative"),
        (("--layers", "3", "--unlikelihood-weight", "-1"), "--unlikelihood-weight -1.0: must not be negative"),
        (("--student-from", "x", "--hidden-weight", "1"), "--hidden-weight 1: needs --layers N"),
        (("--student-from", "x", "--choose-layers"), "--choose-layers: give --layers N"),
        (("--student-from", "x", "--own-summaries"), "--ce-weight 0, because cross-entropy"),
        (("--layers", "3", "--own-summaries", "--ce-weight", "0"), "give --student-from FOLDER, a model that can"),
        (("--layers", "3", "--learning-rate", "0"), "--learning-rate 0.0: must be more than 0"),
        (("--layers", "3", "--validation-share", "2"), "--validation-share 2: give a share"),
        (("--layers", "3", "--least-overlap", "many"), "--least-overlap many: give a share"),
        (("--layers", "3", "--text-column", "body"), "--text-column is for --documents-file; give one too"),
        (("--layers", "3", "--model-path", "gpt2=/tmp"), "--model-path gpt2=/tmp: give NAME=FOLDER"),
    ],
)
def test_wrong_option_is_refused(arguments, said):
    with pytest.raises(InputError) as error:
        settings_of(*arguments)
    assert said in str(error.value)


def test_unknown_teacher_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="--teacher gpt2: choose from llama2-7b-chat"):
        parse_settings(["--teacher", "gpt2", "--layers", "3", "--out", "x"])


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "a b", ".hidden"])
def test_folder_name_that_cannot_name_a_model_is_refused(name):
    with pytest.raises(InputError, match="the folder's name becomes the student's name"):
        settings_of("--layers", "3", out=f"students/{name}")


def test_output_folder_of_something_else_is_refused_and_unchanged(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="exists and was not made by this command"):
        Steps(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_damaged_steps_file_is_named(tmp_path):
    (tmp_path / STEPS_FILE).write_text('{"schema": 1}')
    with pytest.raises(InputError, match=STEPS_FILE):
        Steps(tmp_path)


def test_source_without_train_documents_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bench.jsonl"
    write_documents(path, documents(urls_in(Half.BENCH, 4)))
    monkeypatch.setattr("distillation.training_documents.embedded_documents", lambda: documents_of_file(path))
    with pytest.raises(InputError, match=r"train half of .* come from 0 articles"):
        draw_documents(settings_of("--layers", "3"))


PRINTING_DISTILLATION = """
import sys
from distillation import __main__ as program, command
from distillation.context import say

command.run = lambda settings, *, is_first: say("3 texts written by the teacher")
sys.exit(program.main(["--teacher", "smollm2-135m-instruct", "--layers", "3", "--out", "students/small"]))
"""
PRINTING_JUDGE = """
import sys
from distillation import judge as program, judgement

judgement.judge_run = lambda *_: "| experiment |\\n"
sys.exit(program.main(["results/latest"]))
"""


@pytest.mark.parametrize("program", [PRINTING_DISTILLATION, PRINTING_JUDGE], ids=["distillation", "judge"])
def test_output_to_a_closed_pipe_ends_quietly_with_141(program):
    """As `make judge | head -0` does."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("program", ["distillation", "distillation.judge"])
def test_unknown_option_is_one_line_and_exits_with_4(program):
    command = [sys.executable, "-m", program, "--no-such-option"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("ERROR: ")


def student_folder(path: Path, **changed) -> Path:
    path.mkdir()
    provenance = {"schema": 1, "name": path.name, "teacher": {"name": "smollm2-135m-instruct"}, "architecture": "llama"}
    (path / "distillation.json").write_text(json.dumps({**provenance, "trained_on": [], **changed}))
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")  # a whole file without tensors
    for name in ("tokenizer_config.json", "tokenizer.json", "chat_template.jinja"):
        (path / name).touch()
    return path


def test_steps_shared_with_earlier_students_are_counted_once():
    first = {"seconds": {"invented": 100.0, "summaries": 40.0, "training": 300.0}}
    students = [first]
    for own in ({"summaries": 50.0, "training": 80.0}, {"summaries": 60.0, "training": 90.0}):
        seconds = {"invented": 100.0, **own}
        shared = shared_steps(seconds, students[-1]["seconds"])
        students.append({"seconds": seconds, "shared_steps": shared, "seconds_before": total_seconds(students[-1])})
    assert [list(own_seconds(each)) for each in students[1:]] == [["summaries", "training"]] * 2
    assert total_seconds(students[-1]) == 100 + (40 + 300) + (50 + 80) + (60 + 90)


def test_student_folder_is_read(tmp_path):
    (student,) = read_students([student_folder(tmp_path / "small")]).values()
    assert (student.name, student.teacher, student.spec.marker) == ("small", "smollm2-135m-instruct", "student")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"schema": 2}, "is of schema 2"),
        ({"teacher": {"name": "gpt2"}}, "its teacher 'gpt2' is none of"),
        ({"trained_on": None}, "distillation.json is damaged"),
        ({"architecture": "mistral"}, "holds a model of type 'llama'"),
        ({"name": "mistral-7b-instruct"}, "cannot be one"),
    ],
)
def test_student_folder_that_is_none_is_named(tmp_path, changed, said):
    folder = student_folder(tmp_path / "small", **changed)
    with pytest.raises(InputError) as error:
        read_students([folder])
    assert said in str(error.value)
    assert str(folder) in str(error.value)


def test_any_other_folder_is_no_student(tmp_path):
    with pytest.raises(InputError, match=r"is not a student .*python -m distillation"):
        read_students([tmp_path])


def test_two_students_of_one_name_are_refused(tmp_path):
    folder = student_folder(tmp_path / "small")
    with pytest.raises(InputError, match="holds a student of that name too"):
        read_students([folder, folder])
