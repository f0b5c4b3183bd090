"""`summarybench metrics-check`: the table of a run's own summaries, and what it refuses."""

from __future__ import annotations

import json
import shutil

import pytest

from summarybench.commands.docs import simulated_tables
from summarybench.core.outcomes import InputError
from summarybench.documents.sources import embedded_documents
from summarybench.runs.documents_table import write_documents_table
from summarybench.runs.run_file import run_text
from tests.command import command
from tests.forked import ROOT
from tests.run_files import benchmark, run_of
from tests.runs.test_documents_table import journal_of

SOURCES = embedded_documents().documents[:8]
EMBEDDED = ROOT / "baselines" / "nvidia-h100-80gb-hbm3" / "0005_embedded.json"
metrics_check = command("metrics-check")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A results folder with eight built-in documents, whose summaries are all the same."""
    monkeypatch.setattr("tests.runs.test_documents_table.with_ids", lambda info: info)
    nothing = {"empty": [], "repeating": []}
    made = benchmark(document_ids=[each.id for each in SOURCES], degenerate_document_ids=nothing)
    device = json.loads(EMBEDDED.read_text(encoding="utf-8"))["device"]
    (tmp_path / "run.json").write_text(run_text(run_of(made) | {"device": device}))
    write_documents_table(tmp_path / "documents.parquet", journal_of(made), SOURCES)
    return tmp_path


def test_table_has_a_row_for_each_corruption_and_the_summaries_are_written(folder, capsys):
    assert metrics_check([folder, "--documents", "3", "--output", folder / "out.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| as the model wrote it |")
    assert len(lines) == 2 + 7
    written = json.loads((folder / "out.json").read_text())
    assert list(written["summaries"]) == [each.id for each in SOURCES[:3]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--experiment", "x"], "no scored summaries of x; it has those of: llama2-7b-chat-4-bit"),
        (["--documents", "0"], "--documents 0: give 1 or more"),
        (["--documents", "1"], "1 scored summaries, and 2 are needed"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_4(folder, words, message, capsys):
    assert metrics_check([folder, *words]) == 4
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert message in output


def test_run_without_its_texts_is_refused(folder, capsys):
    (folder / "documents.parquet").unlink()
    assert metrics_check([folder]) == 4
    assert "documents.parquet: not there" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", "[]", '{"summaries": {"x": "A summary."}}', "no JSON"])
def test_damaged_summaries_beside_the_docs_are_named(tmp_path, text):
    shutil.copytree(ROOT / "docs" / "explanation", tmp_path / "docs")
    (tmp_path / "docs" / "summaries.json").write_text(text)
    with pytest.raises(InputError, match=r"summaries\.json does not hold summaries of the built-in documents"):
        simulated_tables(tmp_path / "docs")
