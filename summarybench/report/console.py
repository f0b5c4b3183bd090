"""Tables for the terminal, by rich: names that fit the screen, and no text read as markup."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from summarybench.catalogue.models import MODELS

NARROWEST = 80
WIDTH_WITHOUT_TERMINAL = 100
UNBOUNDED_WIDTH = 1_000

Name = Callable[[Mapping[str, Any]], str]
"""What an experiment is called, from its `experiment`, `model` and `loader`."""


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


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """A rich table with one row for each experiment. The column with its name comes before `columns`."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    made.add_column("experiment", overflow="fold")
    for column in columns:
        made.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def tables_that_fit(console: Any, make: Callable[[Name], Sequence[Any]]) -> Sequence[Any]:
    """The tables with full names, or all of them with short names if one would be wider than the screen."""
    full = make(_full_name)
    unbounded = console.options.update(max_width=UNBOUNDED_WIDTH)
    if all(console.measure(each, options=unbounded).maximum <= console.width for each in full):
        return full
    return make(_short_name)


def without_trailing_blanks(text: str) -> str:
    """The text without the blanks that rich appends to titles and headings."""
    return "\n".join(line.rstrip() for line in text.split("\n"))


def _full_name(info: Mapping[str, Any]) -> str:
    return str(info["experiment"])


def _short_name(info: Mapping[str, Any]) -> str:
    """The model's marker, as for -m, and the rest of the name. In 80 columns the rest may wrap to a second line."""
    model = str(info["model"])
    spec = MODELS.get(model)  # None for a student of another session
    marker = spec.marker if spec and not spec.teacher else model
    return f"{marker} {str(info['experiment']).removeprefix(f'{model}-')}"
