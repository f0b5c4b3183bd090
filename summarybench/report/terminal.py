"""How a run is shown: read from the run file's own dictionary, so that a live session and a stored one look the same."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from summarybench.analysis.comparison import FALSE_ALARM_LEVEL, LARGEST_SAFE_BATCH
from summarybench.analysis.quality_change import describe, quality_against_16_bit, quality_against_batch_size_1
from summarybench.catalogue.models import ALL_AT_ONCE, FASTEST, LARGEST_BATCH, MODELS
from summarybench.catalogue.published import published_rows
from summarybench.core.outcomes import Outcome, QualityVerdict, Verdict
from summarybench.core.session_seconds import session_line
from summarybench.machine.device import GIB, DeviceRecord
from summarybench.runs.comparison_records import QualityChangeRecord
from summarybench.runs.facts import STUDENT_COLUMNS, describe_fidelity, describe_overhead, student_cells, teacher_notes
from summarybench.runs.run_file import Run, entries_of, rounds_of, seconds_per_document
from summarybench.stats.intervals import percentile

NARROWEST = 80
WIDTH_WITHOUT_TERMINAL = 100
UNBOUNDED_WIDTH = 1_000

VERDICT_STYLES = {
    Verdict.REGRESSED.value: "bold red",
    Verdict.INVALID.value: "bold red",
    Verdict.IMPROVED.value: "bold green",
    Verdict.UNCHANGED.value: "green",
    Verdict.INCONCLUSIVE.value: "yellow",
    Verdict.INCOMPARABLE.value: "yellow",
    Verdict.NO_BASELINE.value: "",
    QualityVerdict.NON_INFERIOR.value: "green",
    QualityVerdict.INFERIOR.value: "bold red",
}


def final_report(run: Run, device: DeviceRecord, *, width: int, color: bool) -> str:
    """Tables of speed, quality and the device, and a line a verdict with what to do next."""
    screen = io.StringIO()
    console = console_on(screen, width=width, color=color)
    for each in tables_that_fit(console, lambda name: _tables(run, name)):
        console.print(each)
        console.print()
    for line in notes(run, device):
        console.print(line, soft_wrap=True)
    return without_trailing_blanks(screen.getvalue())


def without_trailing_blanks(text: str) -> str:
    """The text without what rich fills titles and headers up with."""
    return "\n".join(line.rstrip() for line in text.split("\n"))


def console_on(screen: io.StringIO, *, width: int, color: bool) -> Any:
    """A rich console that shows texts as they are, whatever rich would read into them."""
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
    """A rich table with a row an experiment, whose name comes before the columns."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    made.add_column("experiment", overflow="fold")
    for column in columns:
        made.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


Name = Callable[[Mapping[str, Any]], str]
"""How an experiment is called, from its `experiment`, `model` and `loader`."""


def tables_that_fit(console: Any, make: Callable[[Name], Sequence[Any]]) -> Sequence[Any]:
    """The tables with full names; with short ones, in all of them, where one would be wider than the screen."""
    full = make(_full_name)
    unbounded = console.options.update(max_width=UNBOUNDED_WIDTH)
    if all(console.measure(each, options=unbounded).maximum <= console.width for each in full):
        return full
    return make(_short_name)


def _tables(run: Run, name: Name) -> list[Any]:
    made = []
    for title, columns, cells, is_shown in TABLES:
        shown = [benchmark for benchmark in run["benchmarks"] if is_shown(benchmark["extra_info"])]
        if shown:
            made.append(table(title, columns, [[name(each["extra_info"]), *cells(each)] for each in shown]))
    if rows := _side_by_side(run["benchmarks"], name):
        made.append(table("Side by side", SIDE_BY_SIDE_COLUMNS, rows))
    return made


def _side_by_side(benchmarks: Sequence[Mapping[str, Any]], name: Name) -> list[list[str]]:
    """Each model and precision that was run in more than one way: the ways below each other, speeds beside eager's."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for benchmark in benchmarks:
        info = benchmark["extra_info"]
        if benchmark["name"].partition("[")[0] not in TESTS_OF_ONE_SIDE:
            groups.setdefault((info["model"], info["loader"].removesuffix("-compiled")), []).append(info)
    return [row for infos in groups.values() if len(infos) > 1 for row in _ways(infos, name)]


def _ways(infos: Sequence[Mapping[str, Any]], name: Name) -> Iterator[list[str]]:
    speeds = {way_of(info): info["generated_tokens_per_second"] for info in infos}
    for info in sorted(infos, key=_place_of_way):
        speed = info["generated_tokens_per_second"]
        yield [
            name(info),
            way_of(info),
            f"{speed:.1f}",
            _number(speed / speeds[EAGER] if EAGER in speeds else None, 2),
            f"{info['documents_per_second']:.2f}",
            _number(info["model_bandwidth_utilization"], 3),
            f"{info['peak_memory_bytes'] / GIB:.2f}",
        ]


def _place_of_way(info: Mapping[str, Any]) -> tuple[int, int, int, bool]:
    """Single documents, batches by their rows, the largest, continuous batching, the fastest way; compiled after plain."""
    last = (LARGEST_BATCH, ALL_AT_ONCE, FASTEST)
    is_batched = bool(info.get("batch_document_ids"))
    kind = next((place for place, suffix in enumerate(last, 2) if info["experiment"].endswith(suffix)), int(is_batched))
    return kind, info.get("processes", 1), max(map(len, rounds_of(info))), info["loader"].endswith("-compiled")


def way_of(info: Mapping[str, Any]) -> str:
    """In which way an experiment's precision was run: `eager`, or `compiled, batch 25`."""
    rows = max(map(len, rounds_of(info)))
    parts = [
        "compiled" if info["loader"].endswith("-compiled") else "",
        "continuous" if "continuous" in info else f"batch {rows}" if info.get("batch_document_ids") else "",
        f"{info['processes']} processes" if "processes" in info else "",
    ]
    return ", ".join(part for part in parts if part) or EAGER


def _full_name(info: Mapping[str, Any]) -> str:
    return str(info["experiment"])


def _short_name(info: Mapping[str, Any]) -> str:
    """The model's marker, as -m takes it, and the rest of the name: in 80 columns the rest may stand on a second line."""
    model = str(info["model"])
    spec = MODELS.get(model)  # a student of another session is in no table
    marker = spec.marker if spec and not spec.teacher else model
    return f"{marker} {str(info['experiment']).removeprefix(f'{model}-')}"


def _speed_cells(benchmark: Mapping[str, Any]) -> list[Any]:
    info = benchmark["extra_info"]
    seconds = seconds_per_document(info, benchmark["stats"]["data"])
    return [
        str(len(info["document_ids"])),
        f"{info['generated_tokens_per_second']:.1f}",
        f"{info['document_tokens_per_second']:.1f}",
        _number(percentile(info["time_to_first_token_seconds"], 50), 3),
        f"{_number(percentile(seconds, 50), 2)} / {_number(percentile(seconds, 95), 2)}",
        f"{info['peak_memory_bytes'] / GIB:.2f}",
        _styled(info["verdict"]),
        _number(info["change"]["ratio"] if info["change"] else None, 3),
    ]


def _quality_cells(benchmark: Mapping[str, Any]) -> list[str]:
    info = benchmark["extra_info"]
    interval = info["rouge1_interval"]
    return [
        f"{info['rouge1']:.3f}" + (f" {interval[0]:.3f}–{interval[1]:.3f}" if interval else ""),
        f"{info['rouge2']:.3f}",
        f"{info['rougeLsum']:.3f}",
        f"{info['lead3_rouge1']:.3f}",
        "none" if info["rouge1_floor"] is None else f"{info['rouge1_floor']:.3f}",
        str(info["degenerate"]["empty"]),
        str(info["degenerate"]["repeating"]),
        str(info["cap_hits"]),
        str(info["truncated_documents"]),
    ]


def _device_cells(benchmark: Mapping[str, Any]) -> list[str]:
    info = benchmark["extra_info"]
    predicted, peak, telemetry = info["predicted_memory_bytes"], info["peak_memory_bytes"], info["telemetry"]
    # On a CPU the peak is the whole process's, Python and torch included: nothing to hold a prediction against.
    is_cpu = "threads" in info["workload_settings"]["loader_settings"]
    return [
        f"{info['load_seconds']:.1f}",
        f"{info['weights_bytes'] / GIB:.2f}",
        "–" if predicted is None else f"{predicted / GIB:.2f}",
        f"{peak / GIB:.2f}",
        "–" if is_cpu or predicted is None else f"{predicted / peak - 1:+.1%}",
        _number(info["model_bandwidth_utilization"], 3),
        _number(info["joules_per_token"], 2),
        _number(telemetry["power_watts_mean"], 0),
        _number(telemetry["temperature_celsius_max"], 0),
    ]


def _continuous_cells(benchmark: Mapping[str, Any]) -> list[Any]:
    info, seconds = benchmark["extra_info"], benchmark["stats"]["data"]
    facts, finish = info["continuous"], info["finish_seconds"]
    return [
        f"{facts['requests_in_flight']} of {len(info['document_ids'])}",
        str(len(seconds)),
        f"{info['documents_per_second']:.2f}",
        f"{_number(percentile(finish, 50), 2)} / {_number(percentile(finish, 95), 2)}",
        _number(max(finish), 2),
        f"{sum(each['steps'] for each in facts['rounds']) / sum(seconds):.1f}",
        str(sum(each["changed_summaries"] for each in facts["rounds"])),
        info["workload_settings"]["loader_settings"]["paged_attention"],
    ]


def _batch_cells(benchmark: Mapping[str, Any]) -> list[str]:
    info, seconds = benchmark["extra_info"], benchmark["stats"]["data"]
    prompt_tokens = dict(zip(info["document_ids"], info["prompt_tokens"], strict=True))
    batches = [[prompt_tokens[each] for each in ids] for ids in rounds_of(info)]
    padded = sum(max(rows) * len(rows) for rows in batches)
    return [
        str(max(len(rows) for rows in batches)),
        str(len(batches)),
        f"{info['generated_tokens_per_second']:.1f}",
        f"{info['documents_per_second']:.2f}",
        f"{_number(percentile(seconds, 50), 2)} / {_number(percentile(seconds, 95), 2)}",
        f"{1 - sum(prompt_tokens.values()) / padded:.1%}",
        f"{info['peak_memory_bytes'] / GIB:.2f}",
        _number(info["rouge1"], 3),
    ]


def _scaling_cells(benchmark: Mapping[str, Any]) -> list[str]:
    info, scaling = benchmark["extra_info"], benchmark["extra_info"]["scaling"]
    each = [process["tokens_per_second"] for process in scaling["per_process"]]
    return [
        str(info["processes"]),
        f"{scaling['tokens_per_second_alone']:.1f}",
        f"{scaling['tokens_per_second']:.1f}",
        f"{min(each):.1f}–{max(each):.1f}",
        f"{info['scaling_efficiency']:.3f}",
        _number(info["baseline_scaling_efficiency"], 3),
    ]


SPEED_COLUMNS = (
    "docs",
    "gen.\ntok/s",
    "doc.\ntok/s",
    "TTFT\np50 s",
    "s/document\np50 / p95",
    "peak\nGiB",
    "verdict",
    "ratio",
)
QUALITY_COLUMNS = (
    "ROUGE-1\n95% interval",
    "ROUGE\n-2",
    "ROUGE\n-Lsum",
    "lead\n-3",
    "floor",
    "empty",
    "rep.",
    "cut\noff",
    "trun-\ncated",
)
BATCH_COLUMNS = (
    "rows",
    "batches",
    "gen.\ntok/s",
    "docs\n/s",
    "s/batch\np50 / p95",
    "pad-\nding",
    "peak\nGiB",
    "ROUGE-1",
)
SCALING_COLUMNS = (
    "pro-\ncesses",
    "one alone\ntok/s",
    "all at once\ntok/s",
    "each\ntok/s",
    "efficiency",
    "stored\nefficiency",
)
DEVICE_COLUMNS = (
    "load\ns",
    "weights\nGiB",
    "predicted\npeak GiB",
    "measured\npeak GiB",
    "error",
    "bandw.\nutiliz.",
    "J\n/token",
    "mean\nW",
    "max\n°C",
)
CONTINUOUS_COLUMNS = (
    "in\nflight",
    "rounds",
    "docs\n/s",
    "finished after\np50 / p95 s",
    "last\ns",
    "steps\n/s",
    "changed",
    "attention",
)
SIDE_BY_SIDE_COLUMNS = ("way", "gen.\ntok/s", "× eager", "docs\n/s", "bandw.\nutiliz.", "peak\nGiB")
EAGER = "eager"
TESTS_OF_ONE_SIDE = ("test_memory", "test_overhead")
"""They measure a few documents, or each of them several times."""
TABLES: tuple[
    tuple[str, Sequence[str], Callable[[Mapping[str, Any]], list[Any]], Callable[[Mapping[str, Any]], bool]], ...
] = (
    ("Speed", SPEED_COLUMNS, _speed_cells, lambda _: True),
    ("Continuous batching", CONTINUOUS_COLUMNS, _continuous_cells, lambda info: "continuous" in info),
    ("Quality (F1)", QUALITY_COLUMNS, _quality_cells, lambda info: info["rouge1"] is not None),
    ("Batches", BATCH_COLUMNS, _batch_cells, lambda info: bool(info.get("batch_document_ids"))),
    ("Several processes", SCALING_COLUMNS, _scaling_cells, lambda info: "scaling" in info),
    (
        "Students beside their teachers",
        STUDENT_COLUMNS,
        lambda benchmark: student_cells(benchmark["extra_info"]),
        lambda info: info.get("teacher_change") is not None,
    ),
    ("Device", DEVICE_COLUMNS, _device_cells, lambda info: info["copy_bandwidth_bytes_per_second"] is not None),
)
"""Title, columns, a row's cells, and which experiments have them: random weights have no quality."""


def quiet_report(run: Run) -> Iterator[str]:
    """One line a verdict, and one for each experiment that came to none."""
    told: dict[str, list[str]] = {}
    for benchmark in run["benchmarks"]:
        info = benchmark["extra_info"]
        told[info["experiment"]] = _told(info)
        yield f"{info['experiment']}: {info['verdict']}: {info['verdict_detail']}"
        if quality := info.get("quality_change"):
            yield f"{info['experiment']}: quality {quality['verdict']} {describe(quality)}"
    yield from _outcome_notes(run["outcomes"], told)


def notes(run: Run, device: DeviceRecord) -> Iterator[Any]:
    """What the tables leave unsaid, a line each: verdicts with what to do next, what did not end well, the device's limits."""
    infos = [benchmark["extra_info"] for benchmark in run["benchmarks"]]
    for info in infos:
        yield from _experiment_notes(info, device)
    for experiment, found in quality_against_16_bit(entries_of(run)):
        yield _quality_note(experiment, found.as_extra_info())
    for experiment, found in quality_against_batch_size_1(entries_of(run)):
        yield _quality_note(experiment, found.as_extra_info())
    without_baseline = [info for info in infos if info["verdict"] == Verdict.NO_BASELINE]
    if len(without_baseline) == 1:
        yield without_baseline[0]["verdict_detail"]
    elif without_baseline:
        count = len(without_baseline)
        yield f"no baseline for {count} experiments on '{device.slug}'; save one with --benchmark-save=NAME"
    if any(info["weights"] == "synthetic" for info in infos):
        yield "synthetic weights: speed and memory are the model's, quality is left out because its output is noise"
    told = {info["experiment"]: _told(info) for info in infos}
    yield from _outcome_notes(run["outcomes"], told)
    if device.gpus_in_machine > 1:
        yield f"measured on GPU {device.index} of {device.gpus_in_machine}: {device.name} ({device.uuid})"
    yield from _session_notes(run)
    yield from _false_alarm_notes(run)
    if device.is_limited:
        yield f"held to {device.memory_bytes / GIB:.1f} GiB: never a baseline"
    if device.stands_in:
        yield f"{device.name} stands in for {device.family}: its capacity can be compared, its speed cannot"


def cells_by_column(benchmark: Mapping[str, Any]) -> dict[str, str]:
    """One experiment's cells of all tables as plain text, by column; a table that it is not shown in is left out."""
    return {
        column.replace("\n", " "): str(cell)
        for _, columns, cells, is_shown in TABLES
        if is_shown(benchmark["extra_info"])
        for column, cell in zip(columns, cells(benchmark), strict=True)
    }


def _experiment_notes(info: Mapping[str, Any], device: DeviceRecord) -> Iterator[Any]:
    if info["verdict"] != Verdict.NO_BASELINE:
        yield _styled(info["verdict"], before=f"{info['experiment']}: ", after=f": {info['verdict_detail']}")
    yield from _change_notes(info)
    if info["environment_differences"]:
        yield f"  environment: {'; '.join(info['environment_differences'])}"
    if quality := info.get("quality_change"):
        yield _quality_note(info["experiment"], quality)
    if LARGEST_SAFE_BATCH in info:
        tried = ", ".join(f"{rows} {'ran' if ran else 'ran out of memory'}" for rows, ran in info["batch_tries"])
        yield (
            f"{info['experiment']}: largest safe batch {info[LARGEST_SAFE_BATCH]} rows "
            f"({info['predicted_largest_batch']} predicted; {tried})"
        )
    if quality := (info.get("teacher_change") or {}).get("quality_change"):
        yield _quality_note(info["experiment"], quality)
    yield from teacher_notes(info)
    if overhead := info.get("overhead"):
        yield f"{info['experiment']}: {describe_overhead(overhead)}"
    if fidelity := info.get("fidelity"):
        yield f"{info['experiment']}: {describe_fidelity(fidelity)}"
        if quality := fidelity["quality_change"]:
            yield _quality_note(info["experiment"], quality)
    if note := _published_note(device, info):
        yield f"{info['experiment']}: {note}"


def _change_notes(info: Mapping[str, Any]) -> Iterator[Any]:
    """Where a change sits, what the pass before it said, and what the run that never moves says."""
    if sits := info.get("attribution"):
        yield f"  {sits['cause']}: {sits['detail']}"
    if first := info.get("first_pass"):
        yield _styled(
            first["verdict"], before="  first pass: ", after=f" {_ratio(first['change'])}; both together above"
        )
    if anchor := info.get("anchor"):
        yield _styled(anchor["verdict"], before=f"  against {anchor['file']}: ", after=f" {_ratio(anchor)}")


def _ratio(change: Mapping[str, Any]) -> str:
    return f"{change['ratio']:.3f} [{change['low']:.3f}, {change['high']:.3f}]"


def _quality_note(experiment: str, facts: QualityChangeRecord) -> Any:
    return _styled(facts["verdict"], before=f"{experiment}: quality ", after=f" {describe(facts)}")


def _told(info: Mapping[str, Any]) -> list[str]:
    """What an experiment's notes have said of its verdicts."""
    quality = info.get("quality_change")
    return [info["verdict_detail"], *([describe(quality)] if quality else [])]


def _outcome_notes(outcomes: Sequence[Mapping[str, Any]], told: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What did not end well, unless the experiment's verdict has said it; experiments that share a reason share a line."""
    experiments: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        is_told = any(detail in outcome["detail"] for detail in told.get(outcome["experiment"], ()))
        if outcome["outcome"] not in (Outcome.PASSED, Outcome.SKIPPED) and not is_told:
            experiments.setdefault((outcome["outcome"], outcome["detail"]), []).append(outcome["experiment"])
    for (what, detail), names in experiments.items():
        yield f"{', '.join(names)}: {what.replace('_', ' ')}: {detail}"


def _session_notes(run: Run) -> Iterator[str]:
    """What the suite chose because of the CPU; where the time went, if anything was generated; what was carried from an
    earlier run and what was measured now; and how many lines a crash had cut off.
    """
    if choices := run.get("choices"):
        yield choices
    session = run.get("session")
    if session and session["generating_seconds"]:
        yield session_line(session)
    how = "resumed from" if "resumed_from" in run else "second pass of"
    if origin := run.get("resumed_from") or run.get("confirms"):
        ran = [outcome for outcome in run["outcomes"] if outcome["outcome"] != Outcome.SKIPPED]
        carried = [outcome["experiment"] for outcome in ran if "carried_from" in outcome]
        infos = [benchmark["extra_info"] for benchmark in run["benchmarks"]]
        measured = [info["experiment"] for info in infos if "carried_from" not in info]
        what = f"carried {', '.join(carried) or 'nothing'}; measured now: {', '.join(measured) or 'nothing'}"
        if len(carried) == len(ran):
            what += " (everything was finished already)"
        yield f"{how} {origin['run']} (commit {str(origin['commit'])[:12]}): {what}"
    if dropped := run.get("dropped_lines"):
        yield f"journal: {dropped} line{'s' if dropped > 1 else ''} that a crash had cut off dropped"


def _false_alarm_notes(run: Run) -> Iterator[str]:
    """How often a session like this one cries wolf."""
    comparisons = sum(benchmark["extra_info"]["change"] is not None for benchmark in run["benchmarks"])
    if "confirms" in run:
        yield f"false alarms: held at {FALSE_ALARM_LEVEL:.0%} of sessions (Holm, {comparisons} comparison{'s' * (comparisons != 1)})"
    elif comparisons > 1:
        together = 1 - (1 - FALSE_ALARM_LEVEL) ** comparisons
        yield (
            f"false alarms: up to {FALSE_ALARM_LEVEL:.0%} a comparison, {together:.1%} of sessions with {comparisons}; "
            f"`summarybench bench` (make bench) confirms each and holds sessions at {FALSE_ALARM_LEVEL:.0%} (Holm)"
        )


def _published_note(device: DeviceRecord, info: Mapping[str, Any]) -> str:
    """The first published table's row for this family, model and loader, named for what it is."""
    for row in published_rows():
        if (row.family, row.model, row.loader) == (device.family, info["model"], info["loader"]):
            published, here = row.document_tokens_per_second, info["document_tokens_per_second"]
            return f"published for {device.family}: {published:.1f} document tok/s ({row.documents} documents); here {here:.1f}"
    return ""


def _styled(verdict: str, before: str = "", after: str = "") -> Any:
    from rich.text import Text

    return Text.assemble(before, (verdict, VERDICT_STYLES.get(verdict, "")), after)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
