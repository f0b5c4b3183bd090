"""What grows with the number of documents grows no faster than they do: work is counted, not timed."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from summarybench.measure import generation
from summarybench.report import documents as report_documents
from summarybench.report.documents import documents_of
from summarybench.report.experiment import Source, experiments_of
from summarybench.runs.baselines import StoredRun
from summarybench.runs.run_file import Entry
from summarybench.session.progress import Progress, Tally
from summarybench.stats.intervals import mean_interval
from tests.kill_at_random import run_session
from tests.run_files import benchmark, run_of

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


def test_many_measured_documents_are_read_from_the_journal_a_few_times_only(tmp_path, monkeypatch):
    """Once for each test and at the end, and never between rounds."""
    from summarybench.runs import run_folder

    reads = []
    read_journal = run_folder.read_journal
    monkeypatch.setattr(run_folder, "read_journal", lambda path: (reads.append(path), read_journal(path))[1])
    monkeypatch.setattr("summarybench.session.closing.write_report", lambda folder, baselines: folder)
    run_session(tmp_path, lambda _: None)
    assert len(reads) < 10
