"""The only place where the golden test touches the code under test: when modules move, change the imports here.

Every function takes paths and returns text or plain JSON data. Nothing here decides, formats or rounds.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from summarybench.analysis.device_noise import place_of, read_device_noise
from summarybench.analysis.judge import Judge
from summarybench.analysis.noise import read_probe_noise
from summarybench.commands.command_line import main
from summarybench.commands.docs import tables_of
from summarybench.report.terminal import final_report
from summarybench.runs.baselines import find_baseline, open_run, read_baselines
from summarybench.runs.run_file import Entry, device_of, entries_of

TERMINAL_WIDTH = 100
TOLERANCE = 0.05
BASELINE_RUNS = 3
"""The default of --baseline-runs."""

RECORDED = (
    "workload",
    "generated_tokens_per_second",
    "decode_tokens_per_second",
    "document_tokens_per_second",
    "documents_per_second",
    "model_bandwidth_utilization",
    "joules_per_token",
    "peak_memory_bytes",
    "rouge1",
    "rouge2",
    "rougeLsum",
    "rouge1_interval",
    "rouge1_floor",
    "lead3_rouge1",
    "degenerate",
    "cap_hits",
    "truncated_documents",
    "largest_safe_batch",
    "scaling_efficiency",
    "verdict",
    "verdict_detail",
    "baseline",
    "change",
    "attribution",
    "anchor",
    "first_pass",
    "environment_differences",
    "quality_change",
)
"""What a run file says about an experiment and is frozen as it stands; a file from before a key existed has none."""


def run_facts(path: Path) -> dict[str, Any]:
    """A stored run as it is read: its device, its outcomes, and its experiments."""
    stored = open_run(path)
    device = device_of(stored.run)
    return {
        "label": stored.label,
        "number": stored.number,
        "commit": stored.commit,
        "measured": stored.run["datetime"],
        "device": {"name": device.name, "slug": device.slug, "family": device.family, "is_gpu": device.is_gpu},
        "outcomes": {each["experiment"]: each["outcome"] for each in stored.run["outcomes"]},
        "entries": [_entry_facts(entry) for entry in entries_of(stored.run)],
    }


def _entry_facts(entry: Entry) -> dict[str, Any]:
    timings = list(entry.timings.values())
    texts = entry.texts.values()
    return {
        "name": entry.name,
        "experiment": entry.experiment,
        "rounds": len(entry.seconds),
        "rounds_are": entry.rounds_are,
        "timings": len(timings),
        "timings_digest": _digest([[each.tokens, each.seconds] for each in timings]),
        "tokens_in_timings": sum(each.tokens for each in timings),
        "seconds_in_timings": sum(each.seconds for each in timings),
        "texts": len(texts),
        "texts_digest": _digest([[each.rouge1, each.sha256] for each in texts]),
        **{key: entry.extra_info.get(key) for key in RECORDED},
    }


def _digest(facts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def experiments(path: Path) -> set[str]:
    """The names of the experiments that a run holds."""
    return {entry.experiment for entry in entries_of(open_run(path).run)}


def compare(run: Path, against: Path) -> str:
    """What `summarybench compare` prints, and its exit code."""
    return _printed("compare", run, against)


def summary_markdown(run: Path) -> str:
    """What `summarybench summary` prints, and its exit code."""
    return _printed("summary", run)


def _printed(*words: str | Path) -> str:
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        exit_code = main([str(word) for word in words])
    return f"{screen.getvalue()}exit code {int(exit_code)}\n"


def terminal_report(run: Path) -> str:
    """The report at the end of a session, without colours."""
    stored = open_run(run).run
    return final_report(stored, device_of(stored), width=TERMINAL_WIDTH, color=False)


def html_report(runs: Sequence[Path], baselines: Path, page: Path) -> str:
    """The page that `summarybench report` writes for one run, or for several side by side."""
    arguments = [*map(str, runs), "--baselines", str(baselines), "--output", str(page)]
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        exit_code = main(["report", *arguments])
    if exit_code:
        raise ValueError(f"summarybench report ended with {exit_code}: {screen.getvalue()}")
    return page.read_text(encoding="utf-8")


def readme_blocks(baselines: Path) -> dict[str, str]:
    """The generated blocks of the README and of docs/, by name."""
    return tables_of(baselines)


def spread(folder: Path) -> dict[str, Any]:
    """The measured noise of a device."""
    noise = read_device_noise(read_baselines(folder), is_gpu=True)
    return {"noise": noise.measured(), **asdict(read_probe_noise(folder))}


def baseline_choices(path: Path) -> dict[str, Any]:
    """For each experiment of a stored run: the baselines that a session chooses, and its verdict against them.

    Chosen once among the runs stored before it, and once among all of the folder, this one included: then an experiment
    can have several baselines.
    """
    stored = open_run(path)
    runs = read_baselines(path.parent).runs
    earlier = [each for each in runs if int(each.number) < int(stored.number)]
    judge = Judge(
        environment=stored.environment,
        night=place_of(stored).night,
        noise=read_device_noise(read_baselines(path.parent), is_gpu=True),
        tolerance=TOLERANCE,
        slug=path.parent.name,
    )

    def choice(entry: Entry, among: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        chosen = find_baseline(entry, among, BASELINE_RUNS, stored.environment)
        found = judge.compare([entry], chosen)
        yield "baselines", [each.label for each in chosen]
        yield "verdict", f"{found.verdict}: {found.detail}"
        yield "attribution", found.attribution and str(found.attribution)

    return {
        entry.name: {
            "among_those_before_it": dict(choice(entry, earlier)),
            "among_all": dict(choice(entry, runs)),
        }
        for entry in entries_of(stored.run)
    }
