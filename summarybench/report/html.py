"""`report.html`: a run, or several, as one page without network.

Jinja2 escapes whatever it puts into the page; no text of a document or a model reaches the page's script or style.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from summarybench.core.files import write_where_asked
from summarybench.core.outcomes import InputError
from summarybench.report.charts import change_chart, history_chart, seconds_chart, tradeoff_chart, utilization_chart
from summarybench.report.page import Source, page_of
from summarybench.runs.baselines import Baselines, open_run
from summarybench.runs.documents_table import read_documents_table

TEMPLATES = Path(__file__).parent / "templates"
DOCUMENTS = "documents.parquet"

TERMS: Mapping[str, tuple[str, str]] = {
    "verdict": (
        "Verdict",
        "REGRESSED: the ratio is 0.985 or less and its one-sided 99% upper bound lies below 1. IMPROVED: the mirror image. "
        "Of two passes each alone must show such a ratio. UNCHANGED: the 95% interval lies within 1 ± the tolerance (5% unless "
        "asked otherwise). INCONCLUSIVE: anything else.",
    ),
    "ratio": (
        "Ratio",
        "exp(d) with d = log(generated tokens/s now ÷ baseline), paired over the documents that both runs have. In brackets "
        "its 95% interval: se² = s_doc² ÷ n + s_run² (1 ÷ R_baseline + 1 ÷ R_now), Student's t.",
    ),
    "anchor": (
        "Ratio to the anchor",
        "The same ratio to a stored run that never moves, so that a slow slide shows which each newest baseline hides.",
    ),
    "generated": (
        "Generated tokens per second",
        "Σ generated tokens ÷ Σ seconds, end token included and padding not. This is what verdicts compare.",
    ),
    "document": (
        "Document tokens per second",
        "Σ document tokens ÷ Σ seconds. The first published table called this “tokens/sec”.",
    ),
    "decode": ("Decode tokens per second", "Σ (generated tokens − 1) ÷ Σ (end − first token)."),
    "ttft": (
        "Time to first token",
        "From the prompt on the device to the first token chosen, in seconds; the median over documents.",
    ),
    "seconds": (
        "Seconds per document",
        "From the prompt on the device to the last token; one document is one timed round. p50 is the median; p95 needs 20 "
        "documents, and is – with fewer.",
    ),
    "peak": (
        "Peak memory",
        "GiB (2³⁰ bytes). GPU: the most that torch's allocator held over the rounds. CPU: the process's resident memory.",
    ),
    "rouge": (
        "ROUGE-1",
        "F1 of the words that summary and reference share (rouge_score, stemmed), 0 to 1; the mean over documents. In "
        "brackets its 95% bootstrap interval.",
    ),
    "rouge2": ("ROUGE-2", "F1 of the word pairs that summary and reference share, 0 to 1; the mean over documents."),
    "rougel": (
        "ROUGE-Lsum",
        "F1 of the longest common subsequences, sentence by sentence, 0 to 1; the mean over documents.",
    ),
    "lead3": ("Lead-3", "ROUGE-1 of the document's own first three sentences: what no model at all would score."),
    "floor": ("Floor", "The test fails if the mean ROUGE-1's one-sided 99% upper bound lies below it."),
    "quality": (
        "Quality verdict",
        "ROUGE-1 now minus then, paired by document, in points (100 × F1). NON-INFERIOR: its one-sided 95% lower bound lies "
        "above −1.5 points. INFERIOR: the upper bound lies below 0, and the mean at or below −1.5.",
    ),
    "empty": ("Empty", "Summaries with nothing in them, or only whitespace: they end at once and look fast."),
    "repeating": (
        "Repeating",
        "Of 24 words or more, fewer than half of the three-word sequences are distinct: going round in circles.",
    ),
    "cap": ("Cap-hit", "Summaries that the token limit ended. Normal at few new tokens."),
    "truncated": ("Truncated", "Documents that lost their end so that the prompt fits; never the instruction."),
    "changed": ("Changed", "Summaries whose text is another than the baseline's (by its SHA-256)."),
    "utilization": (
        "Model bandwidth utilization",
        "Bytes of weights read per decoded token × decode tokens/s ÷ the copy bandwidth measured at the session's start. 1 is "
        "the device's limit at batch size 1. (Where weights fit a CPU's caches, it can pass 1.)",
    ),
    "frontier": (
        "Efficient frontier",
        "The experiments that no other beats in both figures: each of the others is slower without being any better.",
    ),
    "joules": ("Joules per token", "NVML's energy counter over the rounds ÷ generated tokens."),
    "predicted": ("Predicted peak", "Peak memory as predicted before loading, from the model's shape and the loader."),
    "cause": (
        "Cause",
        "WORKLOAD: the outputs' lengths explain half of the change or more. GPU: copy bandwidth or matrix product moved "
        "along. HOST: kernel launches moved along (on a CPU, any control). CODE: the controls held. "
        "UNKNOWN: they cannot tell, or two passes have different causes.",
    ),
    "controls": (
        "Controls",
        "Small loads that no model and no library changes, run before and after each experiment; the figure is the geometric "
        "mean of both. One has moved when it differs by more than 3% and by more than three of its standard deviations.",
    ),
}
"""What each figure means: name and formula, as docs/explanation/measuring.md has them."""


def report_html(sources: Sequence[Source]) -> str:
    """The page. Raises KeyError, TypeError, ValueError, AttributeError or Jinja2's UndefinedError where a run is not whole."""
    page = page_of(sources)
    has_rows = bool(page.rows)
    script = _asset("report.js")
    text: str = (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            terms=TERMS,
            tradeoff=tradeoff_chart(page) if has_rows else None,
            seconds=seconds_chart(page) if has_rows else None,
            change=change_chart(page),
            utilization=utilization_chart(page),
            history=history_chart(page),
            style=_asset("report.css"),
            script=script,
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return text


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
    made.filters["number"] = _number
    made.filters["prefixed"] = _prefixed
    return made


def _number(value: Any, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _prefixed(value: float) -> str:
    """Three digits and a prefix: 2.83 T."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g}"


@cache
def _asset(name: str) -> Any:
    """One of our own files, as it is. The page's policy lets a script run by its digest alone."""
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704


def write_report(run: Path, baselines: Baselines | None) -> Path:
    """Write report.html into a run's folder. Raises InputError."""
    path = run / "report.html"
    write_where_asked(path, page_text([source_of(run, baselines)]))
    return path


def source_of(path: Path, baselines: Baselines | None) -> Source:
    """A run with its documents, where its folder has them. Raises InputError."""
    stored = open_run(path)
    table = stored.path.with_name(DOCUMENTS)
    is_of_run = stored.path.name == "run.json" and table.is_file()
    return Source(stored=stored, baselines=baselines, documents=read_documents_table(table) if is_of_run else ())


def page_text(sources: Sequence[Source]) -> str:
    """The page. Raises InputError where a run is not whole."""
    from jinja2 import UndefinedError

    try:
        return report_html(sources)
    except (KeyError, TypeError, ValueError, AttributeError, UndefinedError) as error:
        named = ", ".join(str(source.stored.path) for source in sources)
        raise InputError(f"{named}: not a whole run of this suite ({type(error).__name__}: {error})") from error
