"""Sessions with --long-documents: experiments side by side, what reports show, and what is refused."""

from __future__ import annotations

import json

import pytest
from pyarrow import parquet

from tests.conftest import make_project, newest_results

LONG, SHORT = "One two three four five. " * 50, "One short text."
LIMITS = ("-k", "4-bit", "--max-prompt-tokens", "100", "--max-new-tokens", "4", "--documents-file", "texts.jsonl")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("long") / "project")
    rows = [{"text": f"Text {number}. {LONG}", "summary": "one two three"} for number in range(2)]
    rows.append({"text": SHORT, "summary": "one short text"})
    (project.folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return project


@pytest.fixture(scope="module")
def side_by_side(shared):
    return shared.bench("-m", "embedded", *LIMITS, "--long-documents", "all")


@pytest.mark.slow
def test_the_strategies_are_experiments_side_by_side(side_by_side):
    assert side_by_side.exit_code == 0, side_by_side.output
    name = "smollm2-135m-instruct-4-bit"
    assert list(side_by_side.by_experiment) == [name, f"{name}-map-reduce", f"{name}-refine"]
    strategies = [each["workload_settings"].get("long_documents") for each in side_by_side.by_experiment.values()]
    assert strategies == [None, "map-reduce", "refine"]
    assert len({each["workload"] for each in side_by_side.by_experiment.values()}) == 3


@pytest.mark.slow
def test_one_table_has_what_each_strategy_costs_on_the_long_documents(side_by_side):
    table = side_by_side.output.partition("Long documents")[2].partition("Side by side")[0]
    rows = [line.split() for line in table.splitlines() if line.startswith("smollm2")]
    assert [row[1:4] for row in rows] == [["2", "of", "3"]] * 3
    unread = [each["long_documents"]["unread_tokens"] for each in side_by_side.by_experiment.values()]
    assert unread == [[0, 159, 159], [0, 0, 0], [0, 0, 0]]
    calls = [each["long_documents"]["earlier_calls"] for each in side_by_side.by_experiment.values()]
    assert calls == [[0, 0, 0], [0, 3, 3], [0, 3, 3]]


@pytest.mark.slow
def test_documents_that_fit_have_equal_summaries(side_by_side):
    assert len({each["summary_sha256"][0] for each in side_by_side.by_experiment.values()}) == 1


@pytest.mark.slow
def test_the_table_of_documents_counts_the_calls(side_by_side):
    rows = parquet.read_table(newest_results(side_by_side.folder) / "documents.parquet").to_pylist()
    assert [row["earlier_calls"] for row in rows] == [0, 0, 0, 0, 3, 3, 0, 3, 3]
    assert [row["unread_tokens"] for row in rows] == [0, 159, 159, 0, 0, 0, 0, 0, 0]


def test_kinds_that_read_a_document_in_one_call_are_refused(shared, one_error_line):
    found = shared.bench("-m", "overhead", *LIMITS, "--long-documents", "refine")
    assert found.exit_code == 4
    assert one_error_line(found) == (
        "ERROR: test_overhead[smollm2-135m-instruct-4-bit] reads each document in one call; leave out --long-documents, or select "
        "tests of these kinds: summarize, batching, continuous, server"
    )


@pytest.mark.parametrize("strategy", ["map-reduce", "refine"])
def test_dry_run_says_that_a_limit_has_no_room_if_the_tokenizer_is_at_hand(
    shared, tiny_llama, one_error_line, strategy
):
    asked = (*LIMITS, "--max-prompt-tokens", "40", "--long-documents", strategy, "--dry-run")
    found = shared.bench(*asked, "--model-path", f"smollm2-135m-instruct={tiny_llama}")
    assert found.exit_code == 4
    assert f"--long-documents {strategy}: a prompt of 40 tokens leaves" in one_error_line(found)


@pytest.mark.slow
def test_a_limit_without_room_for_the_strategys_prompts_is_one_line_of_wrong_input(shared):
    limits = [*LIMITS, "--max-prompt-tokens", "60"]
    found = shared.bench("-m", "embedded", *limits, "--long-documents", "map-reduce")
    assert found.exit_code == 4
    assert "--long-documents map-reduce: a prompt of 60 tokens leaves" in found.output
    assert "Traceback" not in found.output
