"""A thousand documents in one run: memory, the page, and a kill at document 900."""

from __future__ import annotations

import itertools
import json
import signal
from collections import Counter

import pytest

from summarybench.documents.sources import embedded_documents
from summarybench.runs.journal import read_journal
from tests.conftest import FAKE_MODELS, newest_results

pytestmark = pytest.mark.slow

DOCUMENTS, FEW, KILLED_AT, MANY = 1_000, 100, 900, 5_000
MOST_BYTES_A_DOCUMENT = 25_000
"""Of memory, for each more document of a session with two experiments and the page. The documents have 3,000 characters."""
MOST_PEAK_BYTES = 300 * 2**20
"""Of such a session with 5,000 documents."""
MOST_PAGE_BYTES = 5_000_000
SMALLEST_REAL_PEAK = 1_000_000_000
"""The peak of a session with the embedded model, in bytes: libraries and weights, which fakes do without."""
FIRST, SECOND = "smollm2-135m-instruct-8-bit", "smollm2-135m-instruct-4-bit"

WITH_PAGE_AND_PEAK = (
    FAKE_MODELS.replace("    leave_out_pages()\n", "")
    + """
    def pytest_unconfigure():
        from pathlib import Path

        (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        Path("peak").write_text(peak.split()[1])
"""
)
KILLED_IN_THE_SECOND_EXPERIMENT = (
    FAKE_MODELS
    + f"""
    import os, signal
    from pathlib import Path
    from summarybench.session.progress import Progress

    show = Progress.document

    def show_and_kill(self, experiment, done, total):
        show(self, experiment, done, total)
        if experiment == "{SECOND}" and done.documents == {KILLED_AT} and not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    Progress.document = show_and_kill
"""
)


def options(project, count):
    """Distinct documents of a section's usual length: each joins the halves of two built-in articles."""
    articles = embedded_documents().documents
    pairs = itertools.islice(itertools.cycle(itertools.permutations(articles, 2)), count)
    path = project.folder / f"{count}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, (a, b) in enumerate(pairs):
            text = f"Note {number}. {a.text[: len(a.text) // 2]} {b.text[len(b.text) // 2 :]}"
            file.write(json.dumps({"text": text, "summary": f"{a.reference} {number}"}) + "\n")
    return ["--documents-file", str(path), "--documents", str(count), "-k", "8-bit or 4-bit"]


def measured(project, count):
    """The finished session, and its peak of resident memory in bytes."""
    session = project.bench_in_own_python(*options(project, count))
    assert session.exit_code == 0, session.output
    return session, int((project.folder / "peak").read_text(encoding="utf-8")) * 1024


def test_memory_and_page_stay_small(project):
    project.use(WITH_PAGE_AND_PEAK)
    _, few_peak = measured(project, FEW)
    session, peak = measured(project, DOCUMENTS)
    document_bytes = (project.folder / f"{DOCUMENTS}.jsonl").stat().st_size
    assert peak - few_peak <= SMALLEST_REAL_PEAK / 10 + document_bytes

    page = (newest_results(project.folder) / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) <= MOST_PAGE_BYTES
    assert page.count("<li data-number=") == DOCUMENTS, "the page has figures of each document"
    assert f" of {DOCUMENTS} documents have their texts here" in page
    assert [len(info["document_ids"]) for info in session.infos.values()] == [DOCUMENTS, DOCUMENTS]


def test_each_further_document_takes_little_memory(project):
    project.use(WITH_PAGE_AND_PEAK)
    _, fewer_peak = measured(project, DOCUMENTS)
    _, peak = measured(project, MANY)
    assert (peak - fewer_peak) / (MANY - DOCUMENTS) <= MOST_BYTES_A_DOCUMENT
    assert peak <= MOST_PEAK_BYTES


def test_run_that_is_killed_at_document_900_is_resumed(project):
    project.use(KILLED_IN_THE_SECOND_EXPERIMENT)
    arguments = options(project, DOCUMENTS)
    killed = project.bench_in_own_python(*arguments)
    assert killed.exit_code == -signal.SIGKILL
    first_folder = newest_results(project.folder)
    journal = read_journal(first_folder / "journal.jsonl")
    assert Counter(each["experiment"] for each in journal.documents) == {FIRST: DOCUMENTS, SECOND: KILLED_AT}

    resumed = project.bench_in_own_python(*arguments, "--resume", str(first_folder))
    assert resumed.exit_code == 0, resumed.output
    assert resumed.outcomes == {FIRST: "passed", SECOND: "passed"}
    assert {name: "carried_from" in info for name, info in resumed.by_experiment.items()} == {
        FIRST: True,
        SECOND: False,
    }
    journal = read_journal(newest_results(project.folder) / "journal.jsonl")
    ids = {(each["experiment"], each["document_id"]) for each in journal.documents}
    assert len(ids) == len(journal.documents) == 2 * DOCUMENTS
    assert Counter(each["experiment"] for each in journal.superseded_documents) == {SECOND: KILLED_AT}
