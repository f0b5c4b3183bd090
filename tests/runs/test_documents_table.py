"""documents.parquet: typed whatever is in it, versioned, and loadable in the lines that docs/guide/reports.md shows."""

from __future__ import annotations

import pytest
from pyarrow import parquet

from summarybench.documents.document import Document
from summarybench.runs.documents_table import COLUMNS, SCHEMA_VERSION, write_documents_table
from summarybench.runs.faithfulness_record import FAITHFULNESS_LISTS
from summarybench.runs.journal import JournalContents
from tests.run_files import MACHINE, benchmark, faithfulness_of_documents

SESSION = {"machine_info": MACHINE, "commit_info": {"id": "a commit"}, "datetime": "2026-11-23T17:41:24+00:00"}
DOCUMENT = Document(url="https://x", section="a section", text="A text.", reference="A reference.")


def with_ids(info):
    """Its first document is the one that was drawn."""
    return info | {"document_ids": [DOCUMENT.id, *info["document_ids"][1:]]}


def journal_of(*experiments, **facts):
    """A journal in which each document of each experiment has these facts beside its counts and times."""
    documents, finished = [], []
    for each in experiments:
        info, nodeid = with_ids(each["extra_info"]), each["name"]
        finished.append({"name": nodeid, "fullname": nodeid, "extra_info": info})
        for number, document_id in enumerate(info["document_ids"]):
            times = {"start_seconds": 1.0, "first_token_seconds": 1.25, "end_seconds": 3.0}
            counts = {name: info[name][number] for name in ("document_tokens", "prompt_tokens", "generated_tokens")}
            flags = {"truncated": False, "hit_cap": True, "summary": "A summary.", "host_rate_per_second": None}
            places = {"batch": number, "rows": 1}
            documents.append(
                {"nodeid": nodeid, "document_id": document_id, **times, **counts, **flags, **places, **facts}
            )
    return JournalContents(
        session=SESSION, documents=tuple(documents), experiments=tuple(finished), outcomes=(), dropped_lines=0
    )


@pytest.fixture
def written(tmp_path):
    """The arrow table that a journal makes, as it was read back."""

    def write(*experiments, documents=(DOCUMENT,), **facts):
        path = tmp_path / "documents.parquet"
        write_documents_table(path, journal_of(*experiments, **facts), documents)
        return parquet.read_table(path)

    return write


def test_row_has_the_facts_of_one_document_and_experiment(written):
    repeating = {"degenerate_document_ids": {"empty": [], "repeating": [DOCUMENT.id]}}
    rows = written(benchmark(**repeating), benchmark("llama2-7b-chat-fp16", seconds=(2.0,))).to_pylist()
    assert len(rows) == 8 + 1
    assert rows[0] == {
        "experiment": "llama2-7b-chat-4-bit",
        "model": "llama2-7b-chat",
        "loader": "4-bit",
        "weights": "hub",
        "workload": "a workload",
        "batch_size": 1,
        "max_new_tokens": 100,
        "max_prompt_tokens": 2_048,
        "document_id": DOCUMENT.id,
        "document_tokens": 500,
        "prompt_tokens": 550,
        "generated_tokens": 100,
        "truncated": False,
        "hit_cap": True,
        "start_seconds": 1.0,
        "first_token_seconds": 1.25,
        "end_seconds": 3.0,
        "host_rate_per_second": None,
        "batch": 0,
        "rows": 1,
        "unread_tokens": None,
        "earlier_calls": None,
        "earlier_prompt_tokens": None,
        "earlier_generated_tokens": None,
        "summary": "A summary.",
        "summary_sha256": "0" * 64,
        "empty": False,
        "repeating": True,
        "rouge1": 0.25,
        "rouge2": 0.0625,
        "rougeL": 0.1,
        "rougeLsum": 0.125,
        **dict.fromkeys(FAITHFULNESS_LISTS),
        "url": "https://x",
        "section": "a section",
        "reference": "A reference.",
        "text": "A text.",
    }
    assert (rows[1]["repeating"], rows[1]["text"]) == (False, None)


def test_row_has_the_faithfulness_of_its_summary(written):
    found = faithfulness_of_documents(novel_words=[0.5, None] * 4, numbers=[3] * 8, novel_numbers=[3, 0] * 4)
    rows = written(benchmark(faithfulness=found)).to_pylist()
    assert [(each["novel_words"], each["novel_numbers"]) for each in rows[:2]] == [(0.5, 3), (None, 0)]


def test_types_are_the_schema_s_also_where_every_value_is_missing(written):
    unscored = {f"{name}_scores": [] for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")}
    table = written(benchmark(degenerate_document_ids=None, **unscored), documents=())
    assert {field.name: str(field.type) for field in table.schema} == {each.name: each.type for each in COLUMNS}
    assert table["rouge1"].null_count == table["empty"].null_count == table["text"].null_count == 8


def test_facts_that_are_new_change_no_column_and_those_that_an_old_run_lacks_are_null(written):
    old = benchmark(largest_safe_batch=32)
    del old["extra_info"]["degenerate_document_ids"]
    table = written(old, step=7)
    assert table.column_names == [each.name for each in COLUMNS]
    assert table["empty"].null_count == 8


def test_file_says_its_schema_s_version_and_where_it_is_from(written):
    metadata = {name.decode(): value.decode() for name, value in written(benchmark()).schema.metadata.items()}
    assert metadata == {
        "schema_version": str(SCHEMA_VERSION),
        "device": "NVIDIA A100-SXM4-40GB",
        "commit": "a commit",
        "datetime": "2026-11-23T17:41:24+00:00",
    }


def test_each_column_says_what_it_means(written):
    schema = written(benchmark()).schema
    meanings = {field.name: field.metadata[b"meaning"].decode() for field in schema}
    assert meanings == {each.name: each.meaning for each in COLUMNS}


def test_columns_of_version_1_are_what_they_were():
    """Who changes one of these raises SCHEMA_VERSION and says so in the changelog; adding one is free."""
    assert SCHEMA_VERSION == 1
    first = {
        "string": "experiment model loader weights workload document_id summary summary_sha256 url section reference text",
        "int64": "batch_size max_new_tokens max_prompt_tokens document_tokens prompt_tokens generated_tokens",
        "bool": "truncated hit_cap empty repeating",
        "double": "start_seconds first_token_seconds end_seconds host_rate_per_second rouge1 rouge2 rougeL rougeLsum",
    }
    now = {each.name: each.type for each in COLUMNS}
    assert {name: now.get(name) for names in first.values() for name in names.split()} == {
        name: type_ for type_, names in first.items() for name in names.split()
    }


def test_pandas_and_datasets_load_it(written, tmp_path):
    import datasets

    written(benchmark())
    path = tmp_path / "documents.parquet"
    import pandas  # not for the module, which a test imports to see that the suite does without

    assert pandas.read_parquet(path)["generated_tokens"].sum() == 800
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert sum(loaded["generated_tokens"]) == 800
