"""Sessions on documents of the user's own, and the options that answer a question in place of measuring."""

from __future__ import annotations

import csv
import json
import re
from statistics import fmean

import pytest

from tests.conftest import FAKE_MODELS, newest_results

FOUR_BIT = ("-k", "4-bit")


@pytest.fixture
def table(project):
    """A CSV of ten documents with columns of unusual names."""
    path = project.folder / "ten.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Body", "Tl;dr"])
        writer.writerows(
            [f"Chapter {n}. Boil water, and wait {n} minutes.", f"Boil water for {n} minutes."] for n in range(10)
        )
    return path


def jsonl(project, rows):
    path = project.folder / "documents.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


COLUMNS = ("--documents-file", "ten.csv", "--text-column", "Body", "--summary-column", "Tl;dr")


def test_csv_is_measured_scored_and_compared(project, table):
    first = project.bench(*FOUR_BIT, *COLUMNS, "--benchmark-save=main")
    assert first.exit_code == 0
    assert "ten.csv: documents from column 'Body', summaries from 'Tl;dr'" in first.output
    info = project.bench(*FOUR_BIT, *COLUMNS).infos["4-bit"]
    assert info["rouge1"] > 0
    assert info["change"]["documents"] == 8
    assert info["workload_settings"]["document_source"] == "file"


def test_other_columns_are_other_work(project, table):
    project.bench(*FOUR_BIT, *COLUMNS, "--benchmark-save=main")
    session = project.bench(
        *FOUR_BIT, "--documents-file", "ten.csv", "--text-column", "Tl;dr", "--summary-column", "Body"
    )
    assert session.infos["4-bit"]["verdict"] == "INCOMPARABLE"


def test_instruction_is_part_of_the_workload(project, table):
    project.bench(*FOUR_BIT, *COLUMNS, "--benchmark-save=main")
    session = project.bench(*FOUR_BIT, *COLUMNS, "--instruction", "In one sentence:")
    assert session.infos["4-bit"]["verdict"] == "INCOMPARABLE"
    assert session.run["settings"]["instruction"] == "In one sentence:"


def test_language_is_part_of_the_workload_and_without_a_floor(project, table):
    project.bench(*FOUR_BIT, *COLUMNS, "--benchmark-save=main")
    session = project.bench(*FOUR_BIT, *COLUMNS, "--language", "de")
    info = session.infos["4-bit"]
    assert session.exit_code == 0
    assert info["verdict"] == "INCOMPARABLE"
    assert "--language de here, en there" in info["verdict_detail"]
    assert (info["workload_settings"]["language"], session.run["settings"]["language"]) == ("de", "de")
    assert info["rouge1"] > 0


def test_documents_without_references_are_measured_for_speed_and_sanity(project):
    path = jsonl(
        project, [{"text": f"Text {n} about tea. It is hot.", "summary": None if n % 2 else "…"} for n in range(10)]
    )
    session = project.bench(*FOUR_BIT, "--documents-file", path)
    info = session.infos["4-bit"]
    assert session.exit_code == 0
    assert (info["rouge1"], info["rouge1_scores"], info["lead3_rouge1"], info["rouge1_floor"]) == (None, [], None, None)
    assert info["degenerate"] == {"empty": 0, "repeating": 0}
    assert "no reference summaries with words, so ROUGE is left out" in session.output
    assert "Quality" in session.output
    assert "ROUGE-1" not in session.output.partition("Quality")[2]


def test_nonsense_without_references_still_fails(project):
    project.use(FAKE_MODELS.replace("experiment, TIME)", "experiment, TIME, summary=' ')"))
    path = jsonl(project, [{"text": f"Text {n} about tea."} for n in range(10)])
    session = project.bench(*FOUR_BIT, "--documents-file", path)
    assert session.exit_code == 1
    assert "summaries are empty or repeating" in session.output


def test_what_is_dropped_is_counted_by_reason(project):
    rows = [{"text": f"Text {n}.", "summary": "Do."} for n in range(10)]
    path = jsonl(project, [*rows, rows[0], {"text": "", "summary": "x"}])
    session = project.bench(*FOUR_BIT, "--documents-file", path)
    assert f"{path}: 10 documents; dropped 1 without text, 1 equal to an earlier one" in session.output
    assert session.infos["4-bit"]["dropped_documents"] == {"no_text": 1, "equal": 1}
    note = "file documents: dropped 1 equal to an earlier one, 1 without text"
    assert note in session.output
    assert note in (newest_results(session.folder) / "report.md").read_text(encoding="utf-8")


def test_where_some_documents_have_references_rouge_and_its_verdict_are_of_those(project):
    rows = [{"text": f"Text {n} about tea.", **({"summary": "Text about tea."} if n % 3 else {})} for n in range(15)]
    options = (*FOUR_BIT, "--documents-file", jsonl(project, rows), "--documents", "15")
    first = project.bench(*options, "--benchmark-save=main")
    assert "10 of 15 documents have a reference with words, so ROUGE is of those" in " ".join(first.output.split())
    info = project.bench(*options).infos["4-bit"]
    scores = info["rouge1_scores"]
    assert (len(scores), scores.count(None)) == (15, 5)
    assert info["rouge1"] == fmean(each for each in scores if each is not None)
    assert (info["change"]["documents"], info["quality_change"]["documents"]) == (15, 10)
    quality = first.output.partition("Quality (F1)")[2]
    assert "scored" in quality


def test_table_with_no_known_column_says_how_to_name_it(project, one_error_line, table):
    line = one_error_line(project.bench(*FOUR_BIT, "--documents-file", "ten.csv"))
    assert "no column of documents among 'Body', 'Tl;dr'" in line
    assert "name it with --text-column" in line


# Answers in place of measuring ---------------------------------------------------------------------------------------


def test_dry_run_lists_experiments_and_measures_nothing(project):
    session = project.bench("--dry-run")
    for loader in ("default", "8-bit", "4-bit"):
        assert f"smollm2-135m-instruct-{loader} " in session.output
    assert "time: unknown for 3 experiments: this device has no earlier run of the same work" in session.output
    assert session.exit_code == 0
    assert not (project.folder / "results").exists()


WITH_THE_WHEEL_S_REVISION = (
    FAKE_MODELS.replace("return lambda experiment: FakeModel(experiment, TIME)", "return embedded")
    + """
    from summarybench.engines.embedded import embedded_revision
    from summarybench.engines.weights import Weights

    def embedded(experiment):
        found = FakeModel(experiment, TIME)
        found.weights = Weights(kind="embedded", revision=embedded_revision(), location="nowhere")
        return found
"""
)


def test_dry_run_expects_the_time_of_an_earlier_run(project):
    project.use(WITH_THE_WHEEL_S_REVISION)
    project.bench(*FOUR_BIT, "--documents", "8", "--max-new-tokens", "40")
    session = project.bench(*FOUR_BIT, "--documents", "16", "--max-new-tokens", "80", "--dry-run")
    # 1.5 s for loading, and 17 times 80 tokens of 0.01 s, with up to a tenth more that the fakes add to a round
    assert "time: 16 s for 1 experiment, without starting and downloading" in session.output


def test_dry_run_counts_a_load_that_batch_sizes_share_once(project):
    project.use(WITH_THE_WHEEL_S_REVISION.replace("return found", "found.load_seconds = 600.0\n        return found"))
    batches = ("-m", "batching and embedded", "-k", "4-bit and (batch2 or batch4)", "--documents", "8")
    assert len(project.bench(*batches).by_experiment) == 2
    session = project.bench(*batches, "--dry-run")
    assert re.search(r"time: 10 min \d+ s for 2 experiments", session.output)


def test_dry_run_takes_no_time_from_another_workload(project, table, tiny_llama):
    project.use(WITH_THE_WHEEL_S_REVISION)
    project.bench(*FOUR_BIT, "--documents", "8")
    for other in (
        ("--model-path", f"smollm2-135m-instruct={tiny_llama}"),
        ("--max-prompt-tokens", "1024"),
        COLUMNS,
        ("--weights", "synthetic"),
    ):
        session = project.bench(*FOUR_BIT, *other, "--dry-run")
        assert "time: unknown for 1 experiment: this device has no earlier run of the same work" in session.output
    assert "time: unknown" not in project.bench(*FOUR_BIT, "--dry-run").output


@pytest.mark.parametrize(
    ("option", "kind", "said"),
    [("--dry-run", "distributed", "one process cannot be spread"), ("--plan", "memory", "on a CPU the peak memory")],
)
def test_question_about_skipped_tests_of_this_device_gives_their_reason(project, one_error_line, option, kind, said):
    line = one_error_line(project.bench(option, "-m", f"{kind} and embedded"))
    assert f"none of the selected experiments can be measured: {said}" in line
    assert "; for a100" not in line


@pytest.mark.parametrize("option", ["--dry-run", "--plan", "--show-prompt"])
def test_question_about_models_of_other_devices_says_so(project, one_error_line, option):
    session = project.bench(option, "-m", "llama2", *FOUR_BIT)
    line = one_error_line(session)
    assert "none of the selected experiments is for this device" in line
    assert "; for this device, use: " in line
    assert line.endswith(f"pytest benchmarks {option}")
    assert session.exit_code == 4


@pytest.mark.parametrize("option", ["--dry-run", "--plan"])
def test_answer_says_what_was_chosen_for_the_cpu(project, option):
    session = project.bench(option, *FOUR_BIT, ATEN_CPU_CAPABILITY="avx2")
    assert session.exit_code == 0, session.output
    chosen = "a document has at most 12 new tokens and 128 prompt tokens (for more: --max-new-tokens 48 --max-prompt-tokens 2048)"
    assert f"this CPU has no AVX-512, so quantized models are slow on it: {chosen}" in session.output


def test_first_prompt_is_shown_as_the_model_gets_it(project, table, tiny_llama):
    model = f"smollm2-135m-instruct={tiny_llama}"
    session = project.bench(*COLUMNS, "--model-path", model, "--instruction", "In one sentence:", "--show-prompt")
    assert "smollm2-135m-instruct: first prompt, " in session.output
    assert "<user> In one sentence:\n\nChapter " in session.output
    assert not (project.folder / "results").exists()
