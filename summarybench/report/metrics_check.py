"""The table of `summarybench metrics-check`: what each metric says of summaries that are spoiled on purpose."""

from __future__ import annotations

from collections.abc import Sequence

from summarybench.analysis.corruptions import MetricRow
from summarybench.core.numbers import decimal, percent
from summarybench.report.markdown import markdown_row

HEADINGS = (
    "summaries",
    "ROUGE-1",
    "ROUGE-2",
    "repeating",
    "new words",
    "with new numbers",
    "with new names",
    "coverage",
    "density",
    "compression",
    "length ÷ reference",
    "in band",
)


def metrics_check_table(rows: Sequence[MetricRow]) -> str:
    """A markdown table with one row for each corruption."""
    lines = [HEADINGS, ["---", *["---:"] * (len(HEADINGS) - 1)], *map(_cells, rows)]
    return "".join(f"{markdown_row(line)}\n" for line in lines)


def _cells(row: MetricRow) -> list[str]:
    return [
        row.corruption,
        decimal(row.rouge1, 3),
        decimal(row.rouge2, 3),
        str(row.repeating),
        percent(row.new_words),
        str(row.with_new_numbers),
        str(row.with_new_names),
        percent(row.coverage),
        decimal(row.density, 1),
        decimal(row.compression, 1),
        decimal(row.length_ratio, 2),
        percent(row.in_band),
    ]
