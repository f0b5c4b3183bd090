"""A profile in the reports: its title in every output, scenarios, and targets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from summarybench.kinds.registry import KINDS
from summarybench.report.experiment import Source
from summarybench.report.html import report_html
from summarybench.report.markdown import summary_text
from summarybench.report.terminal import quiet_report, terminal_text
from summarybench.report.view import view_of
from summarybench.runs.baselines import StoredRun
from summarybench.runs.profile_record import Scenario, scenario_of
from tests.analysis.test_targets import PROFILE
from tests.run_files import A100, benchmark, run_of

TITLE = "MLPerf-shaped, not a submission"
RUN = run_of(benchmark(summary_characters=[600] * 8)) | {"profile": PROFILE, "device": asdict(A100)}
STORED = StoredRun(path=Path("a/run.json"), run=RUN)
SOURCE = Source(stored=STORED, device=A100)


def test_every_output_says_what_the_profile_is_not():
    outputs = [
        terminal_text(view_of([SOURCE]), width=100, color=False),
        "\n".join(quiet_report(STORED.run)),
        summary_text(STORED, ""),
        report_html([SOURCE]),
    ]
    assert [TITLE in each for each in outputs] == [True] * 4


def test_the_table_has_scenario_shares_of_the_reference_and_the_worst_target():
    (table,) = [each for each in view_of([SOURCE]).kind_tables if each.title == TITLE]
    (row,) = table.rows
    assert [cell.text for cell in row.cells] == [
        "SingleStream", "0.50", "62.5%", "39.1%", "41.7%", "39.1%", "100.0%", "MISSED",
    ]  # fmt: skip


def test_a_run_without_a_profile_has_neither_table_nor_note():
    plain = Source(stored=StoredRun(path=Path("a/run.json"), run=run_of(benchmark())), device=A100)
    assert TITLE not in terminal_text(view_of([plain]), width=100, color=False)
    assert TITLE not in report_html([plain])


def served(rate=None, batch_size=1):
    return {"served": {"arrivals_per_second": rate}, "batch_size": batch_size, "document_ids": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("kind", "info", "scenario"),
    [
        ("summarize", {}, Scenario.SINGLE_STREAM),
        ("continuous", {}, Scenario.OFFLINE),
        ("batching", {}, Scenario.OFFLINE),
        ("overhead", {}, None),
        ("server", served(rate=2.0), Scenario.SERVER),
        ("server", served(batch_size=3), Scenario.OFFLINE),
        ("server", served(batch_size=1), Scenario.SINGLE_STREAM),
        ("server", served(batch_size=2), None),
    ],
)
def test_kinds_and_loads_resemble_scenarios(kind, info, scenario):
    assert scenario_of(KINDS[kind].facts, info) is scenario
