"""What grows with the number of documents grows no faster than they do: work is counted, not timed."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from summarybench.documents.document import Document
from summarybench.documents.prompts import build_prompt
from summarybench.measure import generation
from summarybench.report import documents as report_documents
from summarybench.report.documents import documents_of
from summarybench.report.experiment import Source, experiments_of
from summarybench.report.page_budget import PageBudget
from summarybench.runs.baselines import StoredRun
from summarybench.runs.journal import Journal, read_journal
from summarybench.runs.run_file import Entry
from summarybench.session.progress import Progress, Tally
from summarybench.stats.intervals import mean_interval
from tests.command import command
from tests.kill_at_random import run_session
from tests.run_files import A100, benchmark, faithfulness_of_documents, run_of

MIB = 2**20


def test_interval_of_many_values_takes_bounded_memory():
    mean_interval([0.0, 1.0])  # imports
    tracemalloc.start()
    try:
        mean_interval([number / 5_000 for number in range(5_000)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * MIB


def test_collection_between_rounds_does_not_visit_what_earlier_rounds_recorded(monkeypatch):
    visited = []
    collect = gc.collect
    monkeypatch.setattr(generation.gc, "collect", lambda: (visited.append(len(gc.get_objects())), collect()))
    kept = []
    with generation.collector_off():
        for _ in range(200):
            kept.append([[number] for number in range(100)])
            generation.collect_new_garbage()
    assert len(visited) == 201
    assert max(visited[2:]) < 2_000, "100 lists of each round, not those of all rounds"


def test_progress_adds_each_document_once():
    class Counted:
        read = 0
        generated_tokens = 1

        @property
        def seconds(self):
            type(self).read += 1
            return 1.0

    progress, done = Progress(None, None), Tally()
    for _ in range(100):
        done.add(Counted())
        progress.document("x", done, 100)
    assert (done.documents, done.tokens, done.seconds, Counted.read) == (100, 100, 100.0, 100)


@pytest.mark.parametrize("count", [20, 200])
def test_page_looks_up_counterparts_and_flags_once_for_each_experiment(monkeypatch, count):
    calls = Counter()
    degenerate, counterpart = Entry.degenerate.fget, report_documents._counterpart

    def counted_degenerate(entry):
        calls["degenerate"] += 1
        return degenerate(entry)

    def counted_counterpart(holder, holding):
        calls["counterpart"] += 1
        return counterpart(holder, holding)

    monkeypatch.setattr(Entry, "degenerate", property(counted_degenerate))
    monkeypatch.setattr(report_documents, "_counterpart", counted_counterpart)
    several = [benchmark(name, seconds=(2.0,) * count) for name in ("llama2-7b-chat-4-bit", "llama2-7b-chat-fp16")]
    experiments = experiments_of([Source(stored=StoredRun(path=Path("run.json"), run=run_of(*several)))])
    calls.clear()
    assert len(list(documents_of(experiments))) == count
    assert calls == {"degenerate": 2, "counterpart": 2}


@pytest.mark.parametrize("count", [40, 400])
def test_page_compares_and_marks_only_the_summaries_that_it_shows(monkeypatch, count):
    calls = Counter()

    def counted(name):
        real = getattr(report_documents, name)
        return lambda *arguments: (calls.update([name]), real(*arguments))[1]

    for name in ("marks_in", "word_changes"):
        monkeypatch.setattr(report_documents, name, counted(name))
    names, budget = ("llama2-7b-chat-fp16", "llama2-7b-chat-4-bit"), PageBudget(most_bytes=20 * len("one two six text"))
    faithfulness = {name: each[:1] * count for name, each in faithfulness_of_documents().items()}
    entries = [benchmark(name, seconds=(2.0,) * count, faithfulness=faithfulness) for name in names]
    rows = {
        (name, f"document {number}"): {"text": "text", "summary": summary}
        for name, summary in zip(names, ("one two", "one six"), strict=True)
        for number in range(1, count + 1)
    }
    run = StoredRun(path=Path("run.json"), run=run_of(*entries))
    found = list(documents_of(experiments_of([Source(stored=run, documents=rows)]), budget.has_room_for_texts))
    assert len(found) == count
    with_texts = sum(each.text is not None for each in found)
    assert 0 < with_texts < 20
    assert calls == {"marks_in": 2 * (with_texts + 1), "word_changes": with_texts + 1}


def test_journal_takes_little_more_memory_than_its_records_while_it_is_read(tmp_path):
    def peak(characters):
        path = tmp_path / f"{characters}.jsonl"
        journal = Journal(path)
        journal.begin({})
        for number in range(200):
            journal.append("document", {"nodeid": "a", "document_id": str(number), "summary": "x" * characters})
        tracemalloc.start()
        try:
            read_journal(path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # imports
    assert peak(10_000) - peak(1) < 1.2 * 200 * 10_000


def test_equal_tokens_of_prompts_are_one_object():
    class Tokenizer:
        def document_offsets(self, text):
            return [(place, place + 1) for place in range(len(text))]

        def chat_ids(self, message):
            return [int(f"{1_000 + ord(each)}") for each in message]

    document = Document(url="u", section="", text="abc" * 100, reference="")
    one, other = (build_prompt(document, Tokenizer(), 1_000).token_ids for _ in range(2))
    assert one == other
    assert {id(each) for each in one} == {id(each) for each in other}
    assert len({id(each) for each in one}) == len(set(one))


def test_many_measured_documents_are_read_from_the_journal_a_few_times_only(tmp_path, monkeypatch):
    """Once for each test and at the end, and never between rounds."""
    from summarybench.runs import run_folder

    reads = []
    read_journal = run_folder.read_journal
    monkeypatch.setattr(run_folder, "read_journal", lambda path: (reads.append(path), read_journal(path))[1])
    monkeypatch.setattr("summarybench.session.closing.write_report", lambda folder, baselines, is_saved: folder)
    run_session(tmp_path, lambda _: None)
    assert len(reads) < 10


def test_report_reads_its_run_once(tmp_path, monkeypatch):
    from summarybench.runs import baselines

    reads = []
    read_run = baselines.read_run
    monkeypatch.setattr(baselines, "read_run", lambda path: (reads.append(path), read_run(path))[1])
    run = {**run_of(benchmark()), "device": asdict(A100)}
    path = tmp_path / "one.json"
    path.write_text(json.dumps(run), encoding="utf-8")
    assert command("report")([str(path), "--output", str(tmp_path / "report.html"), "--baselines", str(tmp_path)]) == 0
    assert reads == [path]
