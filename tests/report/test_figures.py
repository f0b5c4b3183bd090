"""Figures: how values are written, that each is declared once, and those that a kind declares itself."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from summarybench.kinds.registry import KINDS
from summarybench.report import tables
from summarybench.report.figures.comparison import RATIO
from summarybench.report.figures.declared import declared_figure, group_of_kind
from summarybench.report.figures.figure import Better, Column, Estimate, Extremes, Figure, Format, Part, Percentiles
from summarybench.report.figures.quality import ROUGE1
from summarybench.report.glossary import COMMON, OF_SOME_KINDS
from summarybench.report.html import page_parts, source_of
from summarybench.report.layout import TableLayout
from summarybench.report.terminal import final_report
from summarybench.runs.baselines import open_run
from summarybench.runs.kind_facts import KindFacts, KindFigure, Unit
from tests.command import command
from tests.run_files import A100, benchmark, run_of

DECLARED = [group_of_kind(kind.facts) for kind in KINDS.values() if kind.facts.figures]
TERMS = [term for group in (*COMMON, *OF_SOME_KINDS, *DECLARED) for term in group.terms]
LAYOUTS = [each for each in vars(tables).values() if isinstance(each, TableLayout)]


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (1234.56, ".1f", "1234.6"),
        (None, ".1f", "–"),
        ("sdpa", "", "sdpa"),
        (Estimate(0.9, 0.855, 0.945), ".3f", "0.900 [0.855, 0.945]"),
        (Estimate(0.9), ".3f", "0.900"),
        (Percentiles(1.5, None), ".2f", "1.50 / –"),
        (Extremes(53.94, 54.06), ".1f", "53.9–54.1"),
        (Part(8, 32), "d", "8 of 32"),
    ],
)
def test_values_are_written(value, spec, text):
    assert Format(spec=spec).text(value) == text


def test_page_separates_thousands_and_keeps_the_interval_apart():
    cell = Column(figure=RATIO).cell(Estimate(1234.5, 1.0, 2000.0))
    assert (cell.text, cell.number, cell.interval) == ("1234.500 [1.000, 2000.000]", "1,234.500", "[1.000, 2000.000]")
    without = Column(figure=ROUGE1, has_interval=False).cell(Estimate(0.25, 0.2, 0.3))
    assert (without.text, without.number, without.interval) == ("0.250", "0.250", "")


def test_unit_of_a_format_follows_the_number():
    assert Format(spec=".1f", suffix=" ms").text(2.0) == "2.0 ms"
    assert Format(spec=".1f", suffix=" ms").text(None) == "–"


def test_each_figure_is_declared_once_and_defined_in_sentences():
    assert len({term.key for term in TERMS}) == len(TERMS)
    assert len({term.name for term in TERMS}) == len(
        {(term.name, term.definition) for term in TERMS}
    )  # kinds may share one
    assert [term.key for term in TERMS if not term.definition.endswith(".")] == []


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.title)
def test_every_column_is_defined_in_the_glossary(layout):
    assert [each.figure.key for each in layout.columns if each.figure not in TERMS] == []


def test_every_column_of_the_page_is_defined_in_the_glossary():
    shown = [column.figure for column in tables.OVERVIEW] + [*tables.SCORES, *tables.RESOURCES]
    assert [figure.key for figure in shown if figure not in TERMS] == []


def test_short_heading_in_one_line_has_no_divided_words():
    headings = {term.short_line for term in TERMS if isinstance(term, Figure)}
    assert {"truncated", "padding", "docs/s", "ROUGE-2", "max °C"} <= headings


# Figures of a kind ----------------------------------------------------------------------------------------------------

TOY = KindFacts(
    name="toy_kind",
    unit=Unit.DOCUMENT,
    title="toy kind",
    figures=(
        KindFigure(key="toy.words", heading="words", unit="", format=".1f", meaning="Mean words of a summary."),
        KindFigure(key="toy.lag", heading="lag", unit="ms", format=".2f", meaning="Mean lag of a word."),
    ),
)
NAME = "llama2-7b-chat-4-bit"


@pytest.fixture
def run():
    toy = benchmark(kind=TOY.as_record(), toy={"words": 12.34, "lag": 2}) | {"name": f"test_toy[{NAME}]"}
    return {**run_of(toy, benchmark("llama2-7b-chat-fp16")), "device": asdict(A100)}


@pytest.fixture
def run_file(run, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run))
    return path


def test_terminal_shows_the_figures_that_a_kind_declares(run):
    table = final_report(run, A100, width=100, color=False).partition("Toy kind\n")[2].partition("\n\n")[0]
    heading, _, row = (line.split() for line in table.splitlines())
    assert (heading, row) == (["experiment", "words", "lag"], [NAME, "12.3", "2.00", "ms"])


def test_markdown_shows_the_figures_that_a_kind_declares(run_file, capsys):
    assert command("summary")([str(run_file)]) == 0
    table = capsys.readouterr().out.partition("**Toy kind**\n\n")[2].partition("\n\n")[0]
    assert table.splitlines() == [
        "| experiment | words | lag |",
        "| --- | ---: | ---: |",
        f"| {NAME} | 12.3 | 2.00 ms |",
    ]


def test_page_shows_and_explains_the_figures_that_a_kind_declares(run_file):
    page = "".join(page_parts([source_of(open_run(run_file), None)]))
    assert ">Toy kind</caption>" in page
    assert 'popovertarget="term-toy-kind-toy-words"' in page
    assert "Mean words of a summary." in page
    assert ">2.00 ms</td>" in page


@pytest.mark.parametrize(
    ("heading", "unit", "text"), [("lag", "ms", "2.00 ms"), ("lag ms", "ms", "2.00"), ("words", "words", "2.00 words")]
)
def test_unit_follows_the_number_unless_the_heading_ends_with_it(heading, unit, text):
    lag = KindFigure(key="lag", heading=heading, unit=unit, format=".2f", meaning="Mean lag of a word.")
    assert declared_figure(TOY, lag).format.text(2) == text


@pytest.mark.parametrize(
    ("higher_is_better", "better"), [(True, Better.HIGHER), (False, Better.LOWER), (None, Better.NEITHER)]
)
def test_declared_figure_says_which_way_it_improves(higher_is_better, better):
    lag = KindFigure(
        key="lag", heading="lag", unit="", format=".2f", meaning="A lag.", higher_is_better=higher_is_better
    )
    assert declared_figure(TOY, lag).better is better


def kind_table(name, title, **info):
    """The row that the terminal shows for one experiment of a built-in kind, without the name."""
    measured = benchmark(kind={**KINDS[name].facts.as_record(), "unit": Unit.DOCUMENT.value}, **info)
    text = final_report(run_of(measured), A100, width=120, color=False)
    return text.partition(f"\n{title}\n")[2].partition("\n\n")[0].splitlines()[-1].split()[1:]


def test_overhead_has_its_ratios_and_the_lower_bound_in_a_table():
    typical = {"ratio": 0.99912, "low": 0.9961, "high": 1.0012, "confidence": 0.95, "documents": 48}
    bounds = {"lower_bound": 0.9954, "bound_confidence": 0.99}
    overhead = {"ratio": 0.99876, "low": 0.99, "high": 1.0051, "confidence": 0.95}
    assert kind_table("overhead", "Overhead", overhead={**overhead, "typical": {**typical, **bounds}}) == [
        "0.9988",
        "0.9991",
        "0.9954",
    ]
    assert kind_table("overhead", "Overhead", overhead=overhead) == ["0.9988"]


def test_memory_has_prediction_and_measured_peak_in_gib_in_a_table():
    info = {"predicted_memory_bytes": 6 * 1024**3, "peak_memory_bytes": 5 * 1024**3}
    assert kind_table("memory", "Memory", **info) == ["6.00", "5.00"]


def test_distributed_has_the_slowest_and_the_fastest_process_in_its_table():
    speeds = [{"tokens_per_second": each} for each in (54.06, 53.94)]
    process = {"device": "a GPU", "documents": 8, "generated_tokens": 800, "seconds": 14.8}
    each = [{"process": rank, **process, **speed} for rank, speed in enumerate(speeds)]
    scaling = {"tokens_per_second": 107.8, "tokens_per_second_alone": 55.9, "per_process": each}
    info = {"processes": 2, "scaling_efficiency": 0.9646, "baseline_scaling_efficiency": None, "scaling": scaling}
    assert kind_table("distributed", "Distributed", **info) == ["2", "55.9", "107.8", "53.9–54.1", "0.965"]


def test_kind_without_figures_has_no_table():
    assert "Toy kind" not in final_report(
        run_of(benchmark(kind=KindFacts(name="toy_kind", title="toy kind").as_record())), A100, width=100, color=False
    )
