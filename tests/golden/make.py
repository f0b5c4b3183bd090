"""Freeze what the twelve stored runs say: `.venv/bin/python -m tests.golden.make` writes tests/golden/expected anew.

Run it from the project's folder after a change of output that is meant, and read the difference with `git diff`.
tests/test_golden.py compares the same texts with the files.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.golden import adapter
from tests.golden.page_text import PageText, page_text

ROOT = Path(__file__).parent.parent.parent
EXPECTED = Path(__file__).parent / "expected"
SLUG = "nvidia-h100-80gb-hbm3"
RUNS = (
    "0001_main",
    "0002_main",
    "0003_main-8-bit",
    "0004_main-8-bit",
    "0005_embedded",
    "0006_compiled",
    "0007_matrix",
    "0008_throughput",
    "0009_two-gpus",
    "0010_two-gpus-compiled",
    "0011_compiled-by-layer",
    "0012_fastest",
)
"""Named one by one: a run that is stored later changes nothing here."""
SIDE_BY_SIDE = ("0006_compiled", "0011_compiled-by-layer")
"""The runs that one page shows together."""
SCORED = "0005_embedded"
"""The only stored run whose summaries were scored: its comparison with a worse copy shows a loss of quality."""
README_BLOCKS = ("published", "measured", "scaling", "documents")
SIGNIFICANT_DIGITS = 10
"""Of the floats in JSON: the last few depend on the machine's mathematical library."""

Freeze = Callable[[Path], str]
"""Makes a text from a folder of baselines."""


def copy_stored_runs(folder: Path) -> Path:
    """Copy the twelve runs and their device's noise into a folder of baselines of their own, and return it."""
    copied = folder / "baselines" / SLUG
    copied.mkdir(parents=True)
    for name in (*RUNS, "spread"):
        shutil.copy(ROOT / "baselines" / SLUG / f"{name}.json", copied)
    return copied.parent


def cases() -> dict[str, Freeze]:
    """What is frozen, by the name of its file in EXPECTED."""
    return {
        **{f"runs/{name}.json": partial(_facts, name) for name in RUNS},
        **{f"compare/{name}.txt": partial(_comparisons, name) for name in RUNS},
        f"compare/{SCORED}-made-worse.txt": _comparison_of_worse_copy,
        **{f"summary/{name}.md": partial(_summary, name) for name in RUNS},
        **{f"terminal/{name}.txt": partial(_terminal, name) for name in RUNS},
        **{f"html/{name}.txt": partial(_page, (name,)) for name in RUNS},
        "html/side-by-side.txt": partial(_page, SIDE_BY_SIDE),
        "html/definitions.txt": _definitions,
        **{f"readme/{name}.md": partial(_readme_block, name) for name in README_BLOCKS},
        "readme/names.txt": _names_of_readme_blocks,
        "baselines.json": _baseline_choices,
        "spread.json": _spread,
    }


def _run(baselines: Path, name: str) -> Path:
    return baselines / SLUG / f"{name}.json"


def _facts(name: str, baselines: Path) -> str:
    return _json(adapter.run_facts(_run(baselines, name)))


def _comparisons(name: str, baselines: Path) -> str:
    """The run against itself and against every other that holds one of its experiments."""
    mine = adapter.experiments(_run(baselines, name))
    sharing = [other for other in RUNS if mine & adapter.experiments(_run(baselines, other))]
    return "\n".join(
        f"$ make compare RUN={name}.json AGAINST={other}.json\n"
        + adapter.compare(_run(baselines, name), _run(baselines, other))
        for other in sharing
    )


def _comparison_of_worse_copy(baselines: Path) -> str:
    """Every second summary another one that scores 0.1 less, and the first two of all empty."""
    run = json.loads(_run(baselines, SCORED).read_text(encoding="utf-8"))
    for benchmark in run["benchmarks"]:
        info = benchmark["extra_info"]
        info["rouge1_scores"][::2] = [max(0.0, score - 0.1) for score in info["rouge1_scores"][::2]]
        info["summary_sha256"][::2] = ["0" * 64] * len(info["summary_sha256"][::2])
        info["degenerate_document_ids"]["empty"] = info["document_ids"][:2]
    with tempfile.TemporaryDirectory() as folder:
        worse = Path(folder) / f"{SCORED}-made-worse.json"
        worse.write_text(json.dumps(run), encoding="utf-8")
        return adapter.compare(worse, _run(baselines, SCORED))


def _summary(name: str, baselines: Path) -> str:
    return adapter.summary_markdown(_run(baselines, name))


def _terminal(name: str, baselines: Path) -> str:
    return adapter.terminal_report(_run(baselines, name))


def _page(names: Iterable[str], baselines: Path) -> str:
    return _lines(_read_page(names, baselines).lines)


def _definitions(baselines: Path) -> str:
    """They are the same on every page; this one is drawn fastest."""
    return _lines(_read_page(("0003_main-8-bit",), baselines).definitions)


def _read_page(names: Iterable[str], baselines: Path) -> PageText:
    with tempfile.TemporaryDirectory() as folder:
        runs = [_run(baselines, name) for name in names]
        return page_text(adapter.html_report(runs, baselines, Path(folder) / "report.html"))


def _readme_block(name: str, baselines: Path) -> str:
    return _readme_blocks(baselines)[name]


def _names_of_readme_blocks(baselines: Path) -> str:
    """So that a block that is added is seen."""
    return _lines(_readme_blocks(baselines))


@cache
def _readme_blocks(baselines: Path) -> dict[str, str]:
    """All of them: they are made at once, and `baselines` is a copy that nobody changes after the first is read."""
    return adapter.readme_blocks(baselines)


def _spread(baselines: Path) -> str:
    return _json(adapter.spread(baselines / SLUG))


def _baseline_choices(baselines: Path) -> str:
    return _json({name: adapter.baseline_choices(_run(baselines, name)) for name in RUNS})


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _json(facts: Any) -> str:
    return json.dumps(_rounded(facts), indent=1, ensure_ascii=False) + "\n"


def _rounded(facts: Any) -> Any:
    if isinstance(facts, float):
        return float(f"{facts:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(facts, dict):
        return {key: _rounded(value) for key, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [_rounded(value) for value in facts]
    return facts


def main() -> None:
    """Write every file of EXPECTED, and delete those that are no longer made."""
    with tempfile.TemporaryDirectory() as folder:
        baselines = copy_stored_runs(Path(folder))
        texts = {name: freeze(baselines) for name, freeze in cases().items()}
    shutil.rmtree(EXPECTED, ignore_errors=True)
    for name, text in texts.items():
        path = EXPECTED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(texts)} files written to {EXPECTED.relative_to(ROOT)}; read `git diff` before committing\n")


if __name__ == "__main__":
    main()
