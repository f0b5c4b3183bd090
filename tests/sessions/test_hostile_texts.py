"""What documents, models, libraries and servers say reaches terminal and files without control characters and secrets."""

from __future__ import annotations

import json
import re

import pytest

HOSTILE_MODEL = """
    import pytest
    from tests.fakes import FakeModel, FakeTime, pretend_avx512, probes

    TIME = FakeTime()
    pretend_avx512()

    @pytest.fixture(scope="session")
    def clock():
        return TIME.clock

    @pytest.fixture(scope="session")
    def load_model():
        return lambda experiment: {model}
"""
HOSTILE_BRANCH = """
    def pytest_benchmark_generate_commit_info():
        return {"id": "a commit", "branch": "@everyone\\x1b[2J"}
"""
SUMMARY = "Fine.\x1b]0;owned\x07\x1b[2J\u202ereversed\u2069 @everyone <script>alert(1)</script>"
PASSWORD = "tr0ub4dor-and-3"
ADDRESS = f"https://me:{PASSWORD}@127.0.0.1:9"


def texts_in(folder):
    """Each file of the session's folder, as far as it is text."""
    for path in (folder / "results").rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def test_hostile_summary_moves_no_cursor_and_mentions_nobody(project):
    project.use(HOSTILE_MODEL.format(model=f"FakeModel(experiment, TIME, summary={SUMMARY!r})") + HOSTILE_BRANCH)
    session = project.bench("-k", "smollm2 and 4-bit", "--documents", "8")
    assert session.exit_code == 10, session.output  # no good summary
    assert "\x1b" not in session.output
    pages = dict(texts_in(project.folder))
    shown = {path.name: content.decode() for path, content in pages.items() if path.suffix in (".html", ".md", ".json")}
    assert set(shown) == {"run.json", "report.html", "report.md"}
    for name, text in shown.items():
        assert not {"\x1b", "\x07", "\u202e", "\u2069"} & set(text), name
    page = re.sub(r"</?mark[^>]*>", "", shown["report.html"])  # the 0 is a number that no document has
    assert r"Fine.\x1b]0;owned\x07\x1b[2J\u202ereversed\u2069 @everyone &lt;script&gt;" in page
    assert "@everyone" not in shown["report.md"]
    assert r"(@&#8203;everyone\\x1b\[2J)" in shown["report.md"]
    (line, *_) = [
        record
        for record in map(json.loads, (project.folder / "results/latest/journal.jsonl").read_text().splitlines())
        if record["kind"] == "document"
    ]
    assert line["summary"] == SUMMARY, "the journal keeps what was generated, which its digest and scores belong to"


@pytest.mark.parametrize(
    "error",
    [
        f"OSError('cannot reach {ADDRESS}/api')",
        f"RuntimeError('401 for {ADDRESS}, password {PASSWORD}\\\\nsecond line with {PASSWORD}')",
    ],
    ids=["expected", "unexpected"],
)
def test_password_of_an_address_reaches_neither_terminal_nor_file(project, error):
    failing = f"(_ for _ in ()).throw({error})"
    project.use(HOSTILE_MODEL.format(model=failing))
    session = project.bench("-k", "smollm2 and 4-bit", "--documents", "8", HF_ENDPOINT=ADDRESS)
    assert session.exit_code == 1, session.output
    assert "***@127.0.0.1:9" in session.output
    assert PASSWORD not in session.output
    assert [path for path, content in texts_in(project.folder) if PASSWORD.encode() in content] == []
