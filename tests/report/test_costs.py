"""Cost and energy in the reports."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from summarybench.report import html
from summarybench.report.experiment import Source
from summarybench.report.tables import COST, STUDENTS
from summarybench.report.view import view_of
from summarybench.runs.baselines import StoredRun
from tests.analysis.test_history import noisy
from tests.command import command
from tests.run_files import A100, benchmark, run_of

FP16, EIGHT, FOUR = "llama2-7b-chat-fp16", "llama2-7b-chat-8-bit", "llama2-7b-chat-4-bit"


def source(*benchmarks, price=None, stated=None):
    run = run_of(*benchmarks) | ({} if stated is None else {"gpu_hour_price": stated})
    return Source(stored=StoredRun(path=Path("a/run.json"), run=run), device=A100, gpu_hour_price=price)


def cost_rows(*sources):
    tables = [each for each in view_of(sources).kind_tables if each.title == COST.title]
    return [[cell.text for cell in row.cells] for table in tables for row in table.rows]


def at(name, seconds, rouge1):
    """8 documents of 100 tokens."""
    return benchmark(name, seconds=(seconds,) * 8, rouge1=rouge1)


def test_the_table_has_cost_and_energy():
    assert cost_rows(source(benchmark(), price=1.80)) == [["1.80", "1.0000", "10.000", "111.1", "1111.1"]]


def test_without_a_price_the_table_has_energy_alone_and_without_both_there_is_none():
    assert cost_rows(source(benchmark())) == [["111.1", "1111.1"]]
    assert cost_rows(source(benchmark(joules_per_token=None))) == []


def test_a_price_given_later_replaces_the_one_of_the_run():
    assert cost_rows(source(benchmark(), stated=1.80))[0][0] == "1.80"
    assert cost_rows(source(benchmark(), stated=1.80, price=3.60))[0][:2] == ["3.60", "2.0000"]


def test_a_run_with_two_gpus_says_so():
    one, two = benchmark(FP16), benchmark(processes=2)
    rows = cost_rows(source(one, two, price=1.80))
    assert [row[1:3] for row in rows] == [["1", "1.0000"], ["2", "2.0000"]]


def test_students_save_the_difference_of_costs_at_the_stated_price():
    change = {"seconds_ratio": 0.5, "weights_ratio": 0.6, "peak_memory_ratio": 0.7, "rouge1_ratio": 0.9, "margin": 0.02}
    speed = {"ratio": 2.0, "low": 1.9, "high": 2.1}
    whole = change | {"generated_tokens_per_second": speed, "length_ratio": 0.8, "quality_change": None}
    student = benchmark(teacher=FP16, teacher_change=whole)

    def row(**prices):
        (table,) = (each for each in view_of([source(student, **prices)]).kind_tables if each.title == STUDENTS.title)
        return [cell.text for cell in table.rows[0].cells]

    assert row(price=1.80) == ["2.00 [1.90, 2.10]", "0.50", "1.0000", "60%", "70%", "90%", "2.0", "0.80"]
    assert row() == ["2.00 [1.90, 2.10]", "0.50", "60%", "70%", "90%", "2.0", "0.80"]


def test_with_prices_the_frontier_is_of_cost_and_quality():
    cheap, dear = source(at(FP16, 2.0, 0.30), price=1.0), source(at(FOUR, 1.0, 0.25), price=4.0)
    assert [each.label for each in view_of([cheap, dear]).frontier] == ["fp16"]
    unpriced = [replace(each, gpu_hour_price=None) for each in (cheap, dear)]
    assert [each.label for each in view_of(unpriced).frontier] == ["fp16", "4-bit"]


def test_one_run_without_a_price_leaves_the_chart_at_speed():
    both = [source(at(FP16, 2.0, 0.30), price=1.0), source(at(FOUR, 1.0, 0.25))]
    assert not view_of(both).is_priced
    assert "Speed against quality</h2>" in html.report_html(both)


def test_the_chart_of_costs_names_price_and_frontier():
    page = html.report_html([source(at(FP16, 2.0, 0.30), at(EIGHT, 9.0, 0.28), at(FOUR, 1.0, 0.25), price=1.80)])
    assert "Cost against quality</h2>" in page
    assert "a GPU-hour costs 1.80." in page
    assert "8-bit: 4.5000 per 1,000 documents, 11.1 generated tokens/s, ROUGE-1 0.280, peak 5.00 GiB" in page
    assert set(re.findall(r"([\w-]+): [^:;]*; on the efficient frontier", page)) == {"fp16", "4-bit"}


def test_runs_with_different_prices_name_each():
    page = html.report_html([source(at(FP16, 2.0, 0.3), price=1.80), source(at(FOUR, 1.0, 0.2), price=0.90)])
    assert "a GPU-hour costs 1.80 in run A, 0.90 in run B." in page


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.json").write_text(json.dumps(run_of(benchmark()) | {"device": asdict(A100), "gpu_hour_price": 1.80}))
    return "run.json"


def test_the_history_has_cost_and_energy_of_each_run_at_the_page_s_price():
    (history,) = view_of([source(benchmark(), stated=3.60, price=1.80)]).histories
    assert [(round(each.cost, 6), round(each.watt_hours, 1)) for each in history.measurements] == [(10.0, 1111.1)]


def test_the_page_s_history_has_columns_for_cost_and_energy():
    nights = [
        Source(stored=StoredRun(path=Path(f"{n}/run.json"), run=run), device=A100) for n, run in enumerate(noisy(2))
    ]
    headings = ("Cost per 1M tokens</th>", "Wh per 1M tokens</th>")
    page = html.report_html(nights)
    assert [heading in page for heading in headings] == [False, True]
    page = html.report_html([replace(each, gpu_hour_price=1.80) for each in nights])
    assert [heading in page for heading in headings] == [True, True]


def test_a_price_given_to_the_command_reaches_the_page(stored):
    assert command("report")([stored, "--gpu-hour-price", "3.60"]) == 0
    page = Path("report.html").read_text()
    assert "a GPU-hour costs 3.60." in page


def test_markdown_has_the_costs(stored, capsys):
    assert command("summary")([stored]) == 0
    assert f"| {FOUR} | 1.80 | 1.0000 | 10.000 | 111.1 | 1111.1 |" in capsys.readouterr().out


def test_prices_are_one_for_all_runs_or_one_for_each(stored, capsys):
    prices = ["--gpu-hour-price", "1"] * 2
    assert command("report")([stored, *prices]) == 4
    assert capsys.readouterr().err == (
        "ERROR: --gpu-hour-price: 2 prices for 1 run; give one for all runs, or one for each\n"
    )
