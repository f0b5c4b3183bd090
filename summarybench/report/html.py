"""`report.html`: one run, or several side by side, as one page that needs no network.

Jinja2 escapes everything that it puts into the page. No text of a document or a model gets into the page's script or style.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from summarybench.core.files import write_where_asked
from summarybench.core.numbers import decimal, percent, prefixed, span
from summarybench.core.outcomes import InputError
from summarybench.report import tables
from summarybench.report.charts.change import change_chart
from summarybench.report.charts.history import history_chart
from summarybench.report.charts.latency import latency_chart
from summarybench.report.charts.seconds import seconds_chart
from summarybench.report.charts.tradeoff import tradeoff_chart
from summarybench.report.charts.utilization import utilization_chart
from summarybench.report.documents import FLAGS
from summarybench.report.experiment import Source
from summarybench.report.figures.cost import COST_PER_DOCUMENTS, COST_PER_TOKENS, ENERGY_PER_TOKENS, PRICE
from summarybench.report.figures.memory import PEAK
from summarybench.report.figures.quality import ROUGE1
from summarybench.report.figures.speed import GENERATED
from summarybench.report.glossary import terms_of
from summarybench.report.notes import Note
from summarybench.report.probes import probes_of
from summarybench.report.view import RunView, view_of
from summarybench.runs.baselines import Baselines, StoredRun, open_run
from summarybench.runs.document_rows import DocumentRows
from summarybench.stats.sequential import FEWEST_NIGHTS

TEMPLATES = Path(__file__).parent / "templates"
DOCUMENTS = "documents.parquet"
NO_BREAK = "\N{NO-BREAK SPACE}"


def report_html(sources: Sequence[Source]) -> str:
    """The page. Raises as `_parts`."""
    return "".join(_parts(sources))


def _parts(sources: Sequence[Source]) -> Iterator[str]:
    """The page in small parts.

    Raises KeyError, TypeError, ValueError, AttributeError or Jinja2's UndefinedError if a run is damaged.
    """
    view = view_of(sources)
    has_experiments = bool(view.experiments)
    script = _asset("report.js")
    yield from (
        _environment()
        .get_template("report.html.j2")
        .generate(
            view=view,
            terms=terms_of(view),
            overview=tables.overview(view.experiments),
            details=tables.details(view.experiments),
            notes=_nested(view.notes),
            more_tables=tables.page_tables(view.experiments),
            probes=[(each, found) for each in view.experiments if (found := probes_of(each))],
            tradeoff=tradeoff_chart(view) if has_experiments else None,
            seconds=seconds_chart(view) if has_experiments else None,
            prices=_prices(view),
            flags=[flag for flag in FLAGS if any(flag in document.flags for document in view.documents)],
            change=change_chart(view),
            latency=latency_chart(view),
            utilization=utilization_chart(view),
            history=history_chart(view),
            first_tested_night=FEWEST_NIGHTS + 1,
            style=_asset("report.css"),
            script=script,
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _prices(view: RunView) -> str:
    """What a GPU-hour costs, in words; with several prices, those of each run."""
    found = {source.tag: PRICE.format.text(source.price) for source in view.sources if source.price is not None}
    if len(set(found.values())) < 2:
        return "".join(f"a GPU-hour costs {each}" for each in set(found.values()))
    return "a GPU-hour costs " + ", ".join(f"{price} in run {tag}" for tag, price in found.items())


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters |= {"number": decimal, "percent": percent, "prefixed": prefixed, "range": _range}
    made.filters |= {"heading": _heading, "with_code": _with_code}
    made.globals |= {"generated": GENERATED, "peak": PEAK, "rouge1": ROUGE1}
    made.globals |= {"cost": COST_PER_DOCUMENTS, "cost_tokens": COST_PER_TOKENS, "energy_tokens": ENERGY_PER_TOKENS}
    return made


def _heading(text: str) -> Any:
    """With a capital letter, and without line breaks at a hyphen, before a slash or before a short unit."""
    from markupsafe import Markup, escape

    capital = text[:1].upper() + text[1:] if text[1:2].islower() else text
    joined = re.sub(r" (?=\S{1,2}$)", NO_BREAK, capital.replace(" / ", f"{NO_BREAK}/{NO_BREAK}"))
    whole = Markup('<span class="whole">{}</span>')
    return Markup(" ").join(whole.format(word) if "-" in word else escape(word) for word in joined.split(" "))


def _with_code(text: str) -> Any:
    """A text whose `commands` are shown as such."""
    from markupsafe import Markup, escape

    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a backtick without its partner
        return escape(text)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(each) if number % 2 else escape(each) for number, each in enumerate(pieces))


def _nested(notes: Sequence[Note]) -> list[list[Note]]:
    """The notes, each followed by the indented ones that belong to it."""
    items: list[list[Note]] = []
    for note in notes:
        if items and note.before.startswith(" "):
            items[-1].append(note)
        else:
            items.append([note])
    return items


def _range(pair: tuple[float, float]) -> str:
    """The lowest and the highest of several numbers, or one number if they look the same."""
    low, high = (decimal(each, 2) for each in pair)
    return low if low == high else span(*pair, 2)


@cache
def _asset(name: str) -> Any:
    """One of the page's own files, unescaped. The page's policy allows the script by its digest alone."""
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704


def write_report(run: Path, baselines: Baselines | None, *, is_saved: bool = False) -> Path:
    """Write report.html into a run's folder.

    `is_saved` says that the run has just become a baseline, after `baselines` were read. Raises InputError if the run is
    damaged or the page cannot be written.
    """
    path = run / "report.html"
    source = source_of(open_run(run), baselines)
    write_where_asked(path, page_parts([replace(source, is_saved=is_saved or source.is_saved)]))
    return path


def source_of(stored: StoredRun, baselines: Baselines | None, gpu_hour_price: float | None = None) -> Source:
    """A run with its documents, if its folder has them. Raises InputError if they cannot be read."""
    table = stored.path.with_name(DOCUMENTS)
    is_of_run = stored.path.name == "run.json" and table.is_file()
    documents = DocumentRows(table) if is_of_run else {}
    is_saved = baselines is not None and baselines.has_all_of(stored.run)
    return Source(
        stored=stored, baselines=baselines, documents=documents, is_saved=is_saved, gpu_hour_price=gpu_hour_price
    )


def page_parts(sources: Sequence[Source]) -> Iterator[str]:
    """The page in parts: as one text, the page of many documents would take much memory. Raises InputError if a run is damaged."""
    from jinja2 import UndefinedError

    try:
        yield from _parts(sources)
    except (KeyError, TypeError, ValueError, AttributeError, UndefinedError) as error:
        named = ", ".join(str(source.stored.path) for source in sources)
        raise InputError(f"{named}: not a whole run of this suite ({type(error).__name__}: {error})") from error
