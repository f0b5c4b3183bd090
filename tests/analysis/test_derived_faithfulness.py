"""Faithfulness of older runs, from the texts in their folders."""

from __future__ import annotations

import pytest

from summarybench.analysis.derived_faithfulness import with_faithfulness
from summarybench.documents.document import Document
from summarybench.runs.baselines import open_run
from summarybench.runs.documents_table import write_documents_table
from summarybench.runs.run_file import run_text
from tests.command import command
from tests.run_files import benchmark, faithfulness_of_documents, run_of
from tests.runs.test_documents_table import journal_of

SOURCES = [Document(url=f"u{number}", section="s", text="It took 3 days.", reference="3 days") for number in range(8)]
NOTHING = {"empty": [], "repeating": []}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Writes a results folder whose summaries are all this one, and returns its path."""
    monkeypatch.setattr("tests.runs.test_documents_table.with_ids", lambda info: info)

    def write(name, summary, *, documents=SOURCES, **info):
        made = benchmark(document_ids=[each.id for each in SOURCES], degenerate_document_ids=NOTHING, **info)
        made["extra_info"]["summary_sha256"] = [f"{len(summary):064}"] * 8
        path = tmp_path / name
        path.mkdir()
        (path / "run.json").write_text(run_text(run_of(made)))
        write_documents_table(path / "documents.parquet", journal_of(made, summary=summary), documents)
        return path

    return write


def derived(path):
    return with_faithfulness(open_run(path)).run["benchmarks"][0]["extra_info"]["faithfulness"]


def test_older_run_with_its_texts_has_the_figures(folder):
    found = derived(folder("a", "It took 4 days."))
    assert (found["numbers"], found["novel_numbers"]) == ([1] * 8, [1] * 8)
    assert found["length_ratio"] == [2.0] * 8


def test_recorded_figures_stay(folder):
    recorded = faithfulness_of_documents(novel_words=[0.25] * 8)
    assert derived(folder("a", "It took 4 days.", faithfulness=recorded)) == recorded


@pytest.mark.parametrize("lost", [{"documents": ()}, {"degenerate": None}], ids=["no-document", "not-scored"])
def test_run_without_texts_or_scores_has_none(folder, lost):
    assert derived(folder("a", "It took 4 days.", **lost)) is None


def test_stored_run_has_no_texts(folder):
    path = folder("a", "It took 4 days.")
    assert derived((path / "run.json").rename(path / "0001_main.json")) is None


def test_compare_judges_older_folders_by_their_texts(folder, capsys):
    now, before = folder("now", "It took 4 days."), folder("before", "It took 3 days.")
    exit_code = command("compare")([now, before])
    output = capsys.readouterr().out
    assert "faithfulness INFERIOR to" in output
    assert "summaries with new numbers +100 points" in output
    assert exit_code == 10
