"""What sessions write is what the schema declares: every kind's run file is read again, and no key is unknown."""

from __future__ import annotations

import json
import re

import pytest

from summarybench.runs.declared_keys import declared_keys
from summarybench.runs.extra_info import ExtraInfo
from summarybench.runs.run_file import read_run
from summarybench.runs.schema import DocumentRecord, ExperimentRecord, OutcomeRecord, Run, SessionRecord
from summarybench.runs.schema import SessionSecondsRecord as Seconds
from summarybench.runs.validation import check_record
from tests.conftest import FAKE_MODELS
from tests.measure.test_continuous import ONE, with_engine
from tests.sessions.test_fastest import fake_fastest
from tests.sessions.test_gpu_sessions import MEMORY_OF_LLAMA, fake_gpu

RECORDS = {
    "session": SessionRecord,
    "document": DocumentRecord,
    "experiment": ExperimentRecord,
    "outcome": OutcomeRecord,
    "session_seconds": Seconds,
}


def undeclared(record, type_):
    """The keys of a record that the schema does not know; a kind's options are settings of their own."""
    return record.keys() - {each.name for each in declared_keys(type_)}


@pytest.mark.parametrize(
    ("models", "options", "kind"),
    [
        pytest.param(FAKE_MODELS, ("-k", "smollm2 and 4-bit"), "summarize", id="summarize"),
        pytest.param(FAKE_MODELS, ("-m", "batching and cpu", "-k", "4-bit-batch2"), "batching", id="batching"),
        pytest.param(
            FAKE_MODELS, ("-m", "batching and cpu", "-k", "4-bit-largest"), "largest_safe_batch", id="largest-batch"
        ),
        pytest.param(FAKE_MODELS + fake_fastest(60), ("--fastest", "-k", "4-bit"), "fastest", id="fastest-in-batches"),
        pytest.param(FAKE_MODELS + fake_fastest(0.001), ("--fastest", "-k", "4-bit"), "fastest", id="fastest-at-once"),
        pytest.param(with_engine(), ONE, "continuous", id="continuous"),
        pytest.param(FAKE_MODELS, ("-m", "overhead and cpu", "-k", "4-bit"), "overhead", id="overhead"),
        pytest.param(fake_gpu(), (*MEMORY_OF_LLAMA, "-k", "4-bit"), "memory", id="memory"),
    ],
)
def test_run_file_and_journal_of_each_kind_have_the_declared_keys_and_no_other(project, models, options, kind):
    project.use(models)
    session = project.bench(*options, "--documents", "8")
    folder = project.folder / "results" / "latest"
    run = read_run(folder / "run.json")
    infos = [each["extra_info"] for each in run["benchmarks"]]
    assert infos, session.output
    assert {info["kind"]["name"] for info in infos} == {kind}
    assert [undeclared(info, ExtraInfo) for info in infos] == [set()] * len(infos)
    assert undeclared(run, Run) == set()
    for line in (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        type_ = RECORDS[record.pop("kind")]
        assert re.fullmatch("[0-9a-f]{8}", record.pop("crc32"))
        assert undeclared(record, type_) <= {"group", "params", "param", "options"}  # pytest-benchmark's
        check_record(record, type_, "record")
