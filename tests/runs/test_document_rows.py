"""The rows of documents.parquet for a page: found by experiment and document, inert, and read only as far as they are shown."""

from __future__ import annotations

import subprocess
import sys

import pytest

from summarybench.core.outcomes import InputError
from summarybench.documents.document import Document
from summarybench.runs.document_rows import DocumentRows
from summarybench.runs.documents_table import ROWS_AT_ONCE, write_documents_table
from tests.forked import ENVIRONMENT
from tests.run_files import benchmark
from tests.runs.test_documents_table import DOCUMENT, journal_of

FOUR = "llama2-7b-chat-4-bit"
WITHOUT_PANDAS = """
import sys
from pathlib import Path
from summarybench.runs.document_rows import DocumentRows
from summarybench.runs.documents_table import read_documents_table, write_documents_table
from tests.run_files import benchmark
from tests.runs.test_documents_table import DOCUMENT, journal_of

path = Path(sys.argv[1])
write_documents_table(path, journal_of(benchmark()), (DOCUMENT,))
assert read_documents_table(path)[0]["text"] == DocumentRows(path)["llama2-7b-chat-4-bit", DOCUMENT.id]["text"] == "A text."
print("pandas" in sys.modules)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "documents.parquet"


def test_rows_are_those_of_the_file_and_lack_what_it_lacks(path):
    write_documents_table(path, journal_of(benchmark()), (DOCUMENT,))
    rows = DocumentRows(path)
    assert len(rows) == 8
    assert set(rows) == {(FOUR, each) for each in (DOCUMENT.id, *(f"document {n}" for n in range(2, 9)))}
    row = rows[FOUR, DOCUMENT.id]
    assert (row["text"], row["hit_cap"], row["rows"], row["unread_tokens"]) == ("A text.", True, 1, None)
    assert row.get("no such column", "nothing") == "nothing"
    assert dict(row)["summary"] == "A summary."
    assert rows.get((FOUR, "document 9")) is None


def test_texts_are_inert_and_keep_their_lines(path):
    hostile = Document(url="https://x", section="a section", text="one\n\ttwo\x1b[31m", reference="\u202ea")
    write_documents_table(path, journal_of(benchmark()), (hostile,))
    row = DocumentRows(path)[FOUR, DOCUMENT.id]
    assert (row["text"], row["reference"]) == ("one\n\ttwo\\x1b[31m", "\\u202ea")


def test_texts_of_other_row_groups_are_not_read(path):
    count = 3 * ROWS_AT_ONCE
    write_documents_table(path, journal_of(benchmark(seconds=(2.0,) * count)), ())
    rows = DocumentRows(path)
    read = []
    real = rows._read
    rows._read = lambda group, name: (read.append((group, name)), real(group, name))[1]
    for number in range(2, ROWS_AT_ONCE):
        assert rows[FOUR, f"document {number}"]["summary"] == "A summary."
    assert rows[FOUR, f"document {count}"]["hit_cap"] is True
    assert read == [(0, "summary"), (2, "hit_cap")]


def test_damage_that_shows_late_is_one_error(path):
    write_documents_table(path, journal_of(benchmark()), (DOCUMENT,))
    row = DocumentRows(path)[FOUR, DOCUMENT.id]
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(InputError, match=r"cannot read .*documents\.parquet"):
        row["text"]


def test_neither_writing_nor_reading_imports_pandas(path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PANDAS, str(path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
