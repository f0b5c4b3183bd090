"""Tables for the terminal, by rich: names that fit the screen, and no text read as markup."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

NARROWEST = 80
WIDTH_WITHOUT_TERMINAL = 100
UNBOUNDED_WIDTH = 1_000


def console_on(screen: io.StringIO, *, width: int, color: bool) -> Any:
    """A rich console that writes to `screen` and shows texts unchanged, whatever markup they seem to contain."""
    from rich.console import Console

    return Console(
        file=screen,
        width=max(width, NARROWEST),
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table for the terminal, with one row for each experiment: the experiment's facts and the cells after its name.

    A line break in a heading is for narrow terminals.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[tuple[Mapping[str, Any], Sequence[Any]]]


def tables_that_fit(console: Any, grids: Sequence[Grid]) -> list[Any]:
    """The grids as rich tables that fit the screen.

    A heading takes one line where the width allows it. Where full names are too wide even so, the tables show each
    model's name once, above its experiments. A grid that is too wide for that as well becomes several tables, because a
    name that is broken over two lines cannot be copied into -k.
    """
    full = [_narrowed(console, grid, _rows_with_full_names) for grid in grids]
    if all(_fits(console, each) for each in full):
        return [_titled(grid, table) for grid, table in zip(grids, full, strict=True)]
    return [_titled(part, table) for grid in grids for part, table in _parts_that_fit(console, grid)]


def _titled(grid: Grid, table: Any) -> Any:
    """The table below its title, which may be wider than the table: rich breaks a table's own title at its width."""
    from rich.console import Group
    from rich.text import Text

    return Group(Text(grid.title, style="bold"), table)


def _parts_that_fit(console: Any, grid: Grid) -> list[tuple[Grid, Any]]:
    """The grid as the fewest tables that fit, with about as many columns each; with one column each if none do."""
    parts: list[tuple[Grid, Any]] = []
    for count in range(1, max(len(grid.headings), 1) + 1):
        parts = [(each, _narrowed(console, each, _rows_below_models)) for each in _divided(grid, count)]
        if all(_fits(console, table) for _, table in parts):
            break
    return parts


def _divided(grid: Grid, count: int) -> Iterator[Grid]:
    """The grid as `count` grids with the same rows, and its columns in their order."""
    edges = [len(grid.headings) * number // count for number in range(count + 1)]
    for start, end in pairwise(edges):
        yield Grid(
            title=f"{grid.title} (continued)" if start else grid.title,
            headings=grid.headings[start:end],
            rows=[(info, cells[start:end]) for info, cells in grid.rows],
        )


def _narrowed(console: Any, grid: Grid, rows_of: Callable[[Grid], Iterable[Sequence[Any]]]) -> Any:
    rows = list(rows_of(grid))
    wide = _table([on_one_line(each) for each in grid.headings], rows, gap=2)
    return wide if _fits(console, wide) else _table(grid.headings, rows, gap=1)


def on_one_line(heading: str) -> str:
    """A heading without line breaks. Broken words and names such as ROUGE-2 are joined again."""
    return heading.replace("-\n", "").replace("\n-", "-").replace("\n/", "/").replace("\n", " ")


def _fits(console: Any, made: Any) -> bool:
    unbounded = console.options.update(max_width=UNBOUNDED_WIDTH)
    return bool(console.measure(made, options=unbounded).maximum <= console.width)


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, gap: int) -> Any:
    """The table with `gap` blanks between two columns."""
    from rich import box
    from rich.table import Table

    made = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0, 0, gap - 1),  # the box has one blank of its own
        pad_edge=False,
    )
    made.add_column("experiment", overflow="fold")
    for heading in headings:
        made.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def _rows_with_full_names(grid: Grid) -> Iterator[Sequence[Any]]:
    return ((str(info["experiment"]), *cells) for info, cells in grid.rows)


def _rows_below_models(grid: Grid) -> Iterator[Sequence[Any]]:
    """Rows named by the rest of the experiment's name, which -k takes too, below a row with the model's name."""
    for model in dict.fromkeys(str(info["model"]) for info, _ in grid.rows):
        yield (model,)
        for info, cells in grid.rows:
            if info["model"] == model:
                yield (str(info["experiment"]).removeprefix(f"{model}-"), *cells)


def without_trailing_blanks(text: str) -> str:
    """The text without the blanks that rich appends to titles and headings."""
    return "\n".join(line.rstrip() for line in text.split("\n"))
