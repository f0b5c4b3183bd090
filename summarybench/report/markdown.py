"""A run as markdown: `report.md` in its folder, and the page on which CI shows it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from summarybench.core.outcomes import ExitCode, InputError, Verdict
from summarybench.report.terminal import cells_by_column, notes
from summarybench.runs.baselines import StoredRun
from summarybench.runs.run_file import device_of
from summarybench.runs.run_folder import Results, read_exit_code

PAGE = "report.md"
FILES = ("report.html", "documents.parquet", "run.json")
"""What a run's folder may hold besides, for those who want the details."""

IN_WORDS = {
    ExitCode.CLEAN: "Clean: nothing regressed",
    ExitCode.FAILED: "Failed",
    2: "Interrupted",
    3: "Internal error of pytest",
    4: "Wrong input",
    5: "No tests",
    ExitCode.QUALITY: "Quality: below its floor, or worse than the baseline's",
    ExitCode.NO_VERDICT: "No verdict: a model could not be had, or the device was not itself",
    ExitCode.NOTHING_MEASURED: "Nothing measured: every test was for another device",
}
"""What each exit code says of a night; 2 to 5 are pytest's."""

COLUMNS = {
    "docs": "documents",
    "gen. tok/s": "generated tok/s",
    "doc. tok/s": "document tok/s",
    "ROUGE-1 95% interval": "ROUGE-1 (95% interval)",
    "peak GiB": "peak GiB",
    "verdict": "verdict",
}
"""The report's columns that are shown, and what they are called where there is room."""

ENVIRONMENT = ("driver", "cuda", "torch", "transformers", "bitsandbytes", "accelerate", "python")

SPECIAL = re.compile(r"([\\`*{}\[\]<>#|~$&]|(?<![^\W_])_|_(?![^\W_]))")
"""What markdown would read as more than text; an underscore within a word is none of that, and part of many an address."""


def write_page(results: Results) -> None:
    """Write report.md of a finished run, beside its run file. Raises InputError where the disk refuses."""
    there = [name for name in FILES if (results.folder / name).is_file()]
    links = ", ".join(f"[{name}]({name})" for name in there)
    found = StoredRun(path=results.folder / "run.json", run=results.run)
    results.write(results.folder / PAGE, summary_text(found, f"details: {links}"))


def summary_text(found: StoredRun, details: str) -> str:
    """`summary`, which raises InputError where the run is not whole."""
    try:
        return summary(found, details)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{found.path} is not a whole run of this suite ({type(error).__name__}: {error})") from error


def summary(found: StoredRun, details: str = "") -> str:
    """Headline, outcomes, a row an experiment, what there is to say about them, and where all this was measured.

    `details` is markdown with a link to more, shown below the outcomes.
    """
    run = found.run
    paragraphs = [f"## {escaped(headline(found))}", escaped(_outcomes(run))]
    if details:
        paragraphs.append(details)
    if run["benchmarks"]:
        paragraphs.append("\n".join(_table(run["benchmarks"])))
    if said := [f"- {escaped(str(note))}" for note in notes(run, device_of(run))]:
        paragraphs.append("\n".join(said))
    paragraphs.append(f"{escaped(_environment(run))}  \n{escaped(_origin(found))}")
    return "\n\n".join(paragraphs) + "\n"


def headline(found: StoredRun) -> str:
    """The session's exit code in words; a regression is named for what it is."""
    code = read_exit_code(found.path.parent)
    if code is None:
        return "Unknown: no exit_code beside the run file (killed, or a copy)"
    verdicts = [benchmark["extra_info"]["verdict"] for benchmark in found.run["benchmarks"]]
    regressed = f"REGRESSED: {verdicts.count(Verdict.REGRESSED)} of {len(verdicts)} experiments"
    if code == ExitCode.FAILED and Verdict.REGRESSED in verdicts:
        words = regressed
    elif code == ExitCode.NO_VERDICT and any(_is_of_machine(outcome) for outcome in found.run["outcomes"]):
        words = f"{regressed}, along with the machine"
    else:
        words = IN_WORDS.get(code, "Ended by something else than the suite")
    return f"{words} (exit code {code})"


def _is_of_machine(outcome: Mapping[str, Any]) -> bool:
    return bool(outcome.get("machine_only"))


def _outcomes(run: Mapping[str, Any]) -> str:
    counted = Counter(str(outcome["outcome"]).replace("_", " ") for outcome in run["outcomes"])
    return ", ".join(f"{count} {outcome}" for outcome, count in counted.items()) or "no test came to an end"


def _table(benchmarks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    headings = ["experiment", *COLUMNS.values(), "ratio (95% interval)"]
    yield markdown_row(headings)
    yield markdown_row(["---"] + ["---:"] * (len(headings) - 1))
    for benchmark in benchmarks:
        cells = cells_by_column(benchmark)
        shown = [escaped(cells.get(column, "–")) for column in COLUMNS]
        yield markdown_row(
            [escaped(benchmark["extra_info"]["experiment"]), *shown, escaped(_ratio(benchmark["extra_info"]))]
        )


def markdown_row(cells: Sequence[str]) -> str:
    """One line of a table; its cells are markdown already."""
    return f"| {' | '.join(cells)} |"


def _ratio(info: Mapping[str, Any]) -> str:
    change = info["change"]
    return "–" if change is None else f"{change['ratio']:.3f} [{change['low']:.3f}, {change['high']:.3f}]"


def _environment(run: Mapping[str, Any]) -> str:
    machine = run["machine_info"]
    versions = (f"{name} {machine[name]}" for name in ENVIRONMENT if machine.get(name) is not None)
    return ", ".join([str(machine["device"]), *versions])


def _origin(found: StoredRun) -> str:
    commit = found.run.get("commit_info") or {}
    dirty = ", with changes that are not committed" if commit.get("dirty") else ""
    branch = f" ({commit['branch']})" if commit.get("branch") else ""
    return f"commit {found.commit}{branch}{dirty}; run {found.label}"


def escaped(text: str) -> str:
    """One line of markdown that is shown as the text it was made from."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))
